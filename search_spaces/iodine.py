"""What is searched for IODINE: ``TINY``, the CPU preset, and ``space``, the ranges around a preset."""

from typing import Any

from optuna import Trial

from search_spaces.around import Around

TINY: dict[str, Any] = {
    "lr": 3e-3,
    "batch_size": 8,
    "steps": 2000,
    "schedule": "cosine",
    "warmup_frac": 0.02,
    "num_slots": 6,
    "num_iters": 3,
    "z_size": 16,
    "lstm_dim": 64,
    "refine_channels": 24,
    "dec_channels": 16,
    "dec_layers": 3,
    "dec_kernel": 1,
    # With a large sigma first, slots divide the image by place. With a smaller one or a shorter ramp, they divide it
    # by colour only, all over the image.
    "sigma_start": 0.3,
    "sigma": 0.14,
    "sigma_warmup_frac": 0.3,
    "kl_weight": 0.2,
    "mixture": "pixel",
    # Slots differ before the first refinement, and stay different.
    "weigh_first": False,
    "init_gain": 1.4,
}
"""The keys in which the CPU preset differs from the published configuration."""


def space(trial: Trial, base: dict[str, Any]) -> dict[str, Any]:
    """Suggest hyperparameters around ``base``, the preset's full configuration with its ``image_size`` (pixels) and
    the data's ``max_objects``. Widths are suggested only from 128 pixels on, where a GPU does the work.
    """
    around = Around(trial, base, base_first=False)
    chosen = {
        "lr": around.near("lr", 4),
        "schedule": around.among("schedule", "constant", "exp", "cosine"),
        "warmup_frac": around.within("warmup_frac", 0.0, 0.05),
        "batch_size": around.portion("batch_size", 0.25, 0.5, 1),
        "grad_clip": around.near("grad_clip", 10) if base["grad_clip"] else None,
        "num_slots": around.count("num_slots", base["max_objects"] + 1, base["max_objects"] + 4),
        # the time per step is proportional to it
        "num_iters": around.count("num_iters", 2, base["num_iters"] + 1),
        "sigma": around.near("sigma", 3),
        "sigma_start": around.among("sigma_start", None, 0.3),
        "kl_weight": around.near("kl_weight", 10),
        "mixture": around.among("mixture", "channel", "pixel"),
        "weigh_first": around.among("weigh_first", True, False),
        "init_gain": around.near("init_gain", 2),
    }
    if chosen["sigma_start"] is not None:
        chosen["sigma_warmup_frac"] = around.within("sigma_warmup_frac", 0.0, 1.0)
    if base["image_size"] >= 128:
        chosen |= {
            "z_size": around.portion("z_size", 0.25, 0.5, 1),
            "lstm_dim": around.portion("lstm_dim", 0.25, 0.5, 1),
            "dec_channels": around.portion("dec_channels", 0.5, 1),
            "refine_channels": around.portion("refine_channels", 0.5, 1),
        }
    return chosen
