"""What is searched for MarioNette: ``TINY``, the CPU preset, and ``space``, the ranges around a preset."""

from typing import Any

from optuna import Trial

from search_spaces.around import Around

TINY: dict[str, Any] = {
    # The rates and the other odd figures are a study's (docs/models.md). With those of before, one seed of three ended
    # without sprites.
    "lr": 2.5e-3,
    "lr_background": 0.03,
    "weight_decay": 0.016,
    "batch_size": 8,
    "steps": 2000,
    "schedule": "cosine",
    "n_layers": 1,
    "n_sprites": 20,
    "n_backgrounds": 2,
    "anchor_spacing": 8,
    "code_dim": 32,
    "shift_width": 16,
    # Sprites start transparent and the background as the mean image, so that sprites do not learn the background.
    "alpha_bias": -2.0,
    "background_init": "mean",
    "logit_scale": 1.7,
    "switch_bias": 0.87,
    "lambda_beta": 1.3e-4,
    # Sprites cost nothing at first. In the end one sprite per object is cheaper than two.
    "lambda_switch": 0.0087,
    "lambda_switch_frac": 0.69,
    # Where two neighbours share an object, both switches are near 1/2. Unrounded, each would take half of the object.
    "hard_eval": "switch",
}
"""The keys in which the CPU preset differs from the published configuration."""


def space(trial: Trial, base: dict[str, Any]) -> dict[str, Any]:
    """Suggest hyperparameters around ``base``, the preset's full configuration with its ``image_size`` (pixels).

    Widths and the grid are suggested only from 128 pixels on, where a GPU does the work.
    """
    around = Around(trial, base)
    chosen = {
        "lr": around.near("lr", 4),
        "lr_background": around.near("lr_background", 4),
        "schedule": around.among("schedule", "constant", "cosine"),
        "weight_decay": around.near("weight_decay", 10),
        # Weights relative to the squared error: lambda_beta for clear choices, lambda_switch for few sprites.
        "lambda_beta": around.near("lambda_beta", 5),
        "lambda_switch": around.near("lambda_switch", 5),
        "lambda_switch_frac": around.within("lambda_switch_frac", 0.0, 1.0),
        "switch": around.among("switch", "soft", "straight_through"),
        "switch_bias": around.within("switch_bias", 0.0, 2.0),
        "switch_scales_colour": around.among("switch_scales_colour", True, False),
        "n_sprites": around.count("n_sprites", base["n_sprites"] // 2, base["n_sprites"] * 2, log=True),
        "n_backgrounds": around.count("n_backgrounds", 1, 8),
        "logit_scale": around.near("logit_scale", 2),
    }
    if base["image_size"] >= 128:
        spacing = base["anchor_spacing"]
        spacings = (p for p in (spacing // 2, 2 * spacing) if p >= 4 and base["image_size"] % (2 * p) == 0)
        chosen |= {
            "batch_size": around.portion("batch_size", 2, 4),
            "n_layers": around.count("n_layers", 1, 3),
            "anchor_spacing": around.among("anchor_spacing", *spacings),
            "code_dim": around.among("code_dim", 32, 64),
            "shift_width": around.among("shift_width", 32, 64),
            "background_dim": around.among("background_dim", 16, 32),
        }
    return chosen
