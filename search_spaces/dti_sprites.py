"""What is searched for DTI-Sprites: ``TINY``, the CPU preset, and ``space``, the ranges around a preset."""

from typing import Any

from optuna import Trial

TINY: dict[str, Any] = {
    "lr": 2e-3,
    "batch_size": 16,
    "sprite_lr_mult": 2.0,
    "steps": 1600,
    "warmup_frac": 0.02,
    "lr_drop1_frac": 0.7,
    "lr_drop2_frac": 0.9,
    "num_slots": 10,
    "n_sprites": 3,
    # layers that start apart find objects of their own; none may be empty while sprites are frozen, and so all learn
    "position_spread": 0.7,
    "freeze_frac": 0.2,
    "lambda_empty": 1e-3,
    "projective_frac": 0.4,
    "greedy_iters": 2,
    "encoder": "small",
    "enc_channels": 16,
    "pool_size": 4,
    "head_hidden": 16,
}
"""The keys in which the CPU preset differs from the published configuration."""


def space(trial: Trial, base: dict[str, Any]) -> dict[str, Any]:
    """Suggest hyperparameters around ``base``, the preset's full configuration with its ``image_size`` (pixels) and
    the data's ``max_objects``. Larger batches, further transformations and a longer search are suggested at 128 pixels
    and more only, where GPUs pay for them.
    """

    def near(key: str, factor: float) -> float:
        return trial.suggest_float(key, base[key] / factor, base[key] * factor, log=True)

    def among(key: str, *values: Any) -> Any:
        return trial.suggest_categorical(key, list(dict.fromkeys([base[key], *values])))

    def within(key: str, low: float, high: float) -> float:
        return trial.suggest_float(key, min(low, base[key]), max(high, base[key]))

    def count(key: str, low: int, high: int) -> int:
        return trial.suggest_int(key, min(low, base[key]), max(high, base[key]))

    large = base["image_size"] >= 128
    chosen = {
        "lr": near("lr", 4),
        # the published optimiser steps the encoder twelve times per step
        "encoder_lr_mult": near("encoder_lr_mult", 12 if large else 3),
        "sprite_lr_mult": near("sprite_lr_mult", 3),
        "batch_size": among("batch_size", max(1, base["batch_size"] // 2), base["batch_size"] * (2 if large else 1)),
        "num_slots": count("num_slots", base["max_objects"] + 2, base["max_objects"] + 5),
        "n_sprites": count("n_sprites", 2, 2 * base["n_sprites"] if large else base["n_sprites"] + 2),
        "scale_init": within("scale_init", 0.3, 0.6),
        "position_spread": within("position_spread", 0.0, 0.8),
        "freeze_frac": within("freeze_frac", 0.0, 0.3),
        "inject_noise": within("inject_noise", 0.0, 0.6),
        "lambda_empty": near("lambda_empty", 10),
        "greedy_iters": count("greedy_iters", 1, 3 if large else 2),
        "sprite_transform": among("sprite_transform", "none", *(["color_projective"] if large else [])),
    }
    if chosen["sprite_transform"] != "none":
        chosen["projective_frac"] = within("projective_frac", 0.15, 0.7)
    if large:
        chosen |= {
            "weight_decay": near("weight_decay", 100),
            "sprite_frac": within("sprite_frac", 0.2, 0.45),
            "background_transform": among("background_transform", "color_projective"),
        }
    return chosen
