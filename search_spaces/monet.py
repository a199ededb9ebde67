"""What is searched for MONet: ``TINY``, the CPU preset, and ``space``, the ranges around a preset."""

from typing import Any

from optuna import Trial

from search_spaces.around import Around

TINY: dict[str, Any] = {
    "lr": 3e-3,
    "optimizer": "adam",
    "batch_size": 16,
    "grad_clip": 1000.0,
    "steps": 1200,
    "half_life_frac": 0.4,
    "num_slots": 6,
    "sigma": 0.15,
    "sigma_bg": 0.1,
    # With a mixture per channel, a short trial ends with slots in shades of grey.
    "mixture": "pixel",
    "kl_weight": 0.2,
    "z_dim": 8,
    "unet_width": 8,
    "unet_hidden": 64,
    "comp_width": 32,
    # Flat colours need no deeper decoder. Each further layer takes as long as the attention network.
    "dec_convs": 1,
    "enc_hidden": 64,
    # With both, the latents see colours from the start.
    "comp_gain": 6**0.5,
    "log_mask_floor": -10.0,
}
"""The keys in which the CPU preset differs from the published configuration."""


def space(trial: Trial, base: dict[str, Any]) -> dict[str, Any]:
    """Suggest hyperparameters around ``base``, the preset's full configuration with its ``image_size`` (pixels) and
    the data's ``max_objects``. Widths are suggested only from 128 pixels on, where a GPU does the work.
    """
    around = Around(trial, base)
    chosen = {
        "lr": around.near("lr", 4),
        "optimizer": around.among("optimizer", "rmsprop", "adam", "adamw"),
        "half_life_frac": around.among("half_life_frac", None, 0.25, 0.5),
        # for a loss that sums over pixels
        "grad_clip": around.among("grad_clip", None, 10.0, 100.0, 1000.0),
        "num_slots": around.count("num_slots", base["max_objects"] + 1, base["max_objects"] + 3),
        # These two matter most: sigma sets how much texture a slot may leave unexplained, sigma_bg how readily slot 0
        # takes a pixel.
        "sigma": around.near("sigma", 2.5),
        "sigma_bg": around.near("sigma_bg", 2.5),
        "kl_weight": around.near("kl_weight", 10),
        "mask_kl_weight": around.near("mask_kl_weight", 10),
        "mixture": around.among("mixture", "channel", "pixel"),
        "log_mask_floor": around.among("log_mask_floor", None, -5.0, -10.0, -20.0),
        "z_dim": around.portion("z_dim", 0.5, 2),
    }
    if chosen["optimizer"] == "adamw":
        chosen["weight_decay"] = around.within("weight_decay", 0.0, 0.01)
    if base["image_size"] >= 128:
        chosen |= {
            "batch_size": around.portion("batch_size", 0.5),
            "unet_width": around.portion("unet_width", 0.25, 0.5),
            "comp_width": around.portion("comp_width", 0.5, 2),
        }
    return chosen
