"""What is searched for DTI-Sprites: ``TINY``, the CPU preset, and ``space``, the ranges around a preset."""

from typing import Any

from optuna import Trial

from search_spaces.around import Around

TINY: dict[str, Any] = {
    "lr": 1.35e-3,
    "batch_size": 16,
    "encoder_lr_mult": 1.6,
    "sprite_lr_mult": 4.2,
    "steps": 1600,
    "warmup_frac": 0.02,
    "lr_drop1_frac": 0.7,
    "lr_drop2_frac": 0.9,
    "num_slots": 9,
    "n_sprites": 2,
    "scale_init": 0.6,
    # Layers that start at different places find different objects. While sprites are frozen, no layer may be empty, so
    # that every layer learns.
    "position_spread": 0.57,
    "freeze_frac": 0.2,
    "inject_noise": 0.22,
    "lambda_empty": 4.7e-4,
    "projective_frac": 0.5,
    "greedy_iters": 2,
    "encoder": "small",
    "enc_channels": 16,
    "pool_size": 4,
    "head_hidden": 16,
}
"""The keys in which the CPU preset differs from the published configuration."""


def space(trial: Trial, base: dict[str, Any]) -> dict[str, Any]:
    """Suggest hyperparameters around ``base``, the preset's full configuration with its ``image_size`` (pixels) and
    the data's ``max_objects``. Larger batches, more transformations and a longer greedy search are suggested only
    from 128 pixels on, where a GPU does the work.
    """
    around = Around(trial, base)
    large = base["image_size"] >= 128
    chosen = {
        "lr": around.near("lr", 4),
        # the published code updates the encoder twelve times per step
        "encoder_lr_mult": around.near("encoder_lr_mult", 12 if large else 3),
        "sprite_lr_mult": around.near("sprite_lr_mult", 3),
        "batch_size": around.portion("batch_size", 0.5, 2 if large else 1),
        "num_slots": around.count("num_slots", base["max_objects"] + 2, base["max_objects"] + 5),
        "n_sprites": around.count("n_sprites", 2, 2 * base["n_sprites"] if large else base["n_sprites"] + 2),
        "scale_init": around.within("scale_init", 0.3, 0.9),
        "position_spread": around.within("position_spread", 0.0, 0.8),
        "freeze_frac": around.within("freeze_frac", 0.0, 0.3),
        "inject_noise": around.within("inject_noise", 0.0, 0.6),
        "lambda_empty": around.near("lambda_empty", 10),
        "greedy_iters": around.count("greedy_iters", 1, 3 if large else 2),
        "sprite_transform": around.among("sprite_transform", "none", *(["color_projective"] if large else [])),
    }
    if chosen["sprite_transform"] != "none":
        chosen["projective_frac"] = around.within("projective_frac", 0.15, 0.7)
    if large:
        chosen |= {
            "weight_decay": around.near("weight_decay", 100),
            "sprite_frac": around.within("sprite_frac", 0.2, 0.45),
            "background_transform": around.among("background_transform", "color_projective"),
        }
    return chosen
