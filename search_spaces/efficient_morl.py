"""What is searched for EfficientMORL: ``TINY``, the CPU preset, and ``space``, the ranges around a preset."""

from typing import Any

from optuna import Trial

from search_spaces.around import Around

TINY: dict[str, Any] = {
    "lr": 2e-3,
    "batch_size": 16,
    "steps": 1500,
    "warmup_frac": 0.05,
    "half_life_frac": 0.5,
    "likelihood": "gmm",
    "sigma": 0.2,
    "kl_weight": 0.05,
    "use_geco": False,
    "num_slots": 6,
    "z_dim": 32,
    "L": 2,
    "I_start": 1,
    "I_end": 1,
    "enc_channels": 32,
    "encoder_strides": "2,2,1",
    "kernel_size": 3,
    "hidden": 64,
    "decoder": "deconv",
    "dec_channels": 16,
    "dec_layers": 2,
    "init_gain": 1.0,
    "gru_init": "default",
    "s_init": -6.0,
    "s_bias": -4.0,
}
"""The keys in which the CPU preset differs from the published configuration."""


def space(trial: Trial, base: dict[str, Any]) -> dict[str, Any]:
    """Suggest hyperparameters around ``base``, the preset's full configuration with its ``image_size`` (pixels) and
    the data's ``max_objects``. Widths and refinements are suggested only from 128 pixels on, where a GPU does the work.
    """
    around = Around(trial, base, base_first=False)
    chosen = {
        "lr": around.near("lr", 4),
        "warmup_frac": around.within("warmup_frac", 0.0, 0.1),
        "half_life_frac": around.near("half_life_frac", 4),
        "batch_size": around.portion("batch_size", 0.5, 1),
        # for a loss that sums over pixels
        "grad_clip": around.among("grad_clip", None, 1.0, 5.0, 20.0),
        "likelihood": around.among("likelihood", "gaussian", "gmm"),
        "sigma": around.near("sigma", 2),
        "kl_weight": around.near("kl_weight", 10),
        "use_geco": around.among("use_geco", True, False),
        "num_slots": around.count("num_slots", base["max_objects"] + 1, base["max_objects"] + 4),
        "L": around.count("L", 1, 3),
        "s_init": around.shifted("s_init", 2),
    }
    if chosen["use_geco"]:
        chosen["geco_target_mse"] = around.near("geco_target_mse", 8)
    if base["image_size"] >= 128:
        end = max(base["I_end"], min(2, base["I_start"]))  # I_end never exceeds I_start
        chosen |= {
            # a larger gain shortens the plateau at the start
            "init_gain": around.within("init_gain", 0.02, 1.0, log=True),
            "I_start": around.count("I_start", end, 4),
            "I_end": around.count("I_end", 1, end),
            "z_dim": around.portion("z_dim", 0.5, 1, 2),
            "enc_channels": around.portion("enc_channels", 0.5, 1),
            "encoder_strides": around.among("encoder_strides", "1,1,1,1", "1,2,1,1", "1,2,2,1"),
            "dec_channels": around.portion("dec_channels", 0.5, 1),
        }
    return chosen
