"""What is searched for Slot Attention: ``TINY``, the CPU preset, and ``space``, the ranges around a preset."""

from typing import Any

from optuna import Trial

from search_spaces.around import Around

TINY: dict[str, Any] = {
    "lr": 2e-3,
    # Twice the steps on half the images: as long, and other seeds find objects as well.
    "batch_size": 8,
    "grad_clip": 0.05,
    "steps": 2800,
    "half_life_frac": 0.5,
    "warmup_frac": 0.05,
    "num_slots": 6,
    "num_iters": 2,
    # Slots specialise earlier when they start closer together and when attention is sharper.
    "log_sigma_init": -1.0,
    "qk_gain": 3**0.5,
    "slot_dim": 32,
    "slot_mlp_hidden": 64,
    "enc_channels": 32,
    "encoder_strides": "2,2,1",
    "dec_channels": 16,
    "dec_refine": False,
    "kernel_size": 3,
}
"""The keys in which the CPU preset differs from the published configuration."""


def space(trial: Trial, base: dict[str, Any]) -> dict[str, Any]:
    """Suggest hyperparameters around ``base``, the preset's full configuration with its ``image_size`` (pixels) and
    the data's ``max_objects``. Widths and grids are suggested only from 128 pixels on, where a GPU does the work.
    """
    around = Around(trial, base, base_first=False)
    chosen = {
        "lr": around.near("lr", 5),
        "warmup_frac": around.within("warmup_frac", 0.0, 0.1),
        "schedule": around.among("schedule", "exp", "cosine"),
        "batch_size": around.portion("batch_size", 0.25, 0.5, 1),
        # for the mean squared error, whose gradient has a norm near 1 at the start
        "grad_clip": around.among("grad_clip", None, 0.05, 0.3, 1.0),
        "num_slots": around.count("num_slots", base["max_objects"] + 1, base["max_objects"] + 4),
        # gradients grow with the iterations; five are safe
        "num_iters": around.count("num_iters", 1, 5),
        "log_sigma_init": around.within("log_sigma_init", -1.5, 0.5),
        "qk_gain": around.near("qk_gain", 3),
    }
    if chosen["schedule"] == "exp":
        chosen["half_life_frac"] = around.near("half_life_frac", 4)
    if base["image_size"] >= 128:
        chosen |= {
            "slot_dim": around.portion("slot_dim", 0.5, 1, 2),
            "slot_mlp_hidden": around.portion("slot_mlp_hidden", 1, 2),
            "enc_channels": around.portion("enc_channels", 0.5, 1),
            "dec_channels": around.portion("dec_channels", 0.5, 1),
            "encoder_strides": around.among("encoder_strides", "1,1,1,1", "1,2,1,1", "1,2,2,1"),
            "dec_base": around.among("dec_base", 8, 16),
        }
    return chosen
