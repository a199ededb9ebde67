"""What is searched for MarioNette: ``TINY``, the CPU preset, and ``space``, the ranges around a preset."""

from typing import Any

from optuna import Trial

TINY: dict[str, Any] = {
    "lr": 4e-3,
    "lr_background": 1e-2,
    "batch_size": 8,
    "steps": 2000,
    "schedule": "cosine",
    "n_layers": 1,
    "n_sprites": 32,
    "anchor_spacing": 8,
    "code_dim": 32,
    "shift_width": 16,
    # sprites that must grow out of nothing, over a ground that is there from the start, do not cover the ground
    "alpha_bias": -2.0,
    "background_init": "mean",
    # a half-closed switch would darken bright objects
    "switch_scales_colour": False,
    "lambda_beta": 5e-4,
    # free sprites at first, then a price at which one per object is cheaper than two
    "lambda_switch": 0.01,
    "lambda_switch_frac": 0.8,
    # two neighbours that share an object are both half there, and each would take half of it
    "hard_eval": "switch",
}
"""The keys in which the CPU preset differs from the published configuration."""


def space(trial: Trial, base: dict[str, Any]) -> dict[str, Any]:
    """Suggest hyperparameters around ``base``, the preset's full configuration with its ``image_size`` (pixels).

    Widths and the grid are suggested at 128 pixels and more only, where GPUs pay for them.
    """

    def near(key: str, factor: float) -> float:
        return trial.suggest_float(key, base[key] / factor, base[key] * factor, log=True)

    def among(key: str, *values: Any) -> Any:
        return trial.suggest_categorical(key, list(dict.fromkeys([base[key], *values])))

    chosen = {
        "lr": near("lr", 4),
        "lr_background": near("lr_background", 4),
        "schedule": among("schedule", "constant", "cosine"),
        "weight_decay": near("weight_decay", 10),
        # both rest on the squared error's scale, and trade it for clear choices and few sprites
        "lambda_beta": near("lambda_beta", 5),
        "lambda_switch": near("lambda_switch", 5),
        "lambda_switch_frac": trial.suggest_float("lambda_switch_frac", 0.0, 1.0),
        "switch": among("switch", "soft", "straight_through"),
        "switch_bias": trial.suggest_float("switch_bias", min(0.0, base["switch_bias"]), max(2.0, base["switch_bias"])),
        "switch_scales_colour": among("switch_scales_colour", True, False),
        "n_sprites": trial.suggest_int("n_sprites", base["n_sprites"] // 2, base["n_sprites"] * 2, log=True),
        "n_backgrounds": trial.suggest_int("n_backgrounds", 1, max(8, base["n_backgrounds"])),
        "logit_scale": near("logit_scale", 2),
    }
    if base["image_size"] >= 128:
        spacing = base["anchor_spacing"]
        spacings = (p for p in (spacing // 2, 2 * spacing) if p >= 4 and base["image_size"] % (2 * p) == 0)
        chosen |= {
            "batch_size": among("batch_size", base["batch_size"] * 2, base["batch_size"] * 4),
            "n_layers": trial.suggest_int("n_layers", 1, max(3, base["n_layers"])),
            "anchor_spacing": among("anchor_spacing", *spacings),
            "code_dim": among("code_dim", 32, 64),
            "shift_width": among("shift_width", 32, 64),
            "background_dim": among("background_dim", 16, 32),
        }
    return chosen
