"""What is searched for Genesis-V2: ``TINY``, the CPU preset, and ``space``, the ranges around a preset."""

from typing import Any

from optuna import Trial

from search_spaces.around import Around

TINY: dict[str, Any] = {
    "lr": 4e-3,
    "schedule": "cosine",
    "encoder_lr_scale": 1e-3,
    "batch_size": 8,
    "steps": 1600,
    "warmup_frac": 0.05,
    "num_slots": 6,
    "feat_dim": 16,
    "decoder_groups": 1,
    "pool_coordinates": True,
    "bottleneck_dim": 64,
    "posterior_std_bias": -4.0,
    # Each cluster has one colour from the first step, until the decoder has learned to draw it.
    "gate_init": 4.0,
    "context_init": 0.0,
    "sigma_init_scale": 64.0,
    "sigma": 0.2,
    "kl_mode": "fixed",
    "kl_weight": 0.001,
    # The decoder learns its masks from the clusters. The reconstruction alone would teach it much later.
    "mask_kl_weight": 8.0,
    "mask_kl_moves": "decoder",
}
"""The keys in which the CPU preset differs from the published configuration."""


def space(trial: Trial, base: dict[str, Any]) -> dict[str, Any]:
    """Suggest hyperparameters around ``base``, the preset's full configuration with its ``image_size`` (pixels) and
    the data's ``max_objects``. Widths are suggested only from 128 pixels on, where a GPU does the work.
    """
    around = Around(trial, base)
    chosen = {
        "lr": around.near("lr", 3),
        "encoder_lr_scale": around.near("encoder_lr_scale", 5),
        "schedule": around.among("schedule", "constant", "cosine"),
        "warmup_frac": around.within("warmup_frac", 0.0, 0.1),
        "batch_size": around.portion("batch_size", 0.5),
        "num_slots": around.count("num_slots", base["max_objects"] + 1, base["max_objects"] + 3),
        # a sigma below the published one segments better (Dang-Nhu and Steger 2021, arXiv 2101.04041)
        "sigma": around.near("sigma", 4, 1.5),
        "sigma_init_scale": around.near("sigma_init_scale", 3),
        "gate_init": around.within("gate_init", base["gate_init"] / 4, max(1.0, 2 * base["gate_init"])),
        "posterior_std_bias": around.shifted("posterior_std_bias", 2.5, 1),
        "autoreg_prior": around.among("autoreg_prior", True, False),
        "kl_mode": around.among("kl_mode", "geco", "fixed"),
        "mask_kl_weight": around.near("mask_kl_weight", 4)
        if base["mask_kl_weight"]
        else around.among("mask_kl_weight", 0.03, 0.3),
    }
    if chosen["kl_mode"] == "geco":
        chosen["target_mse"] = around.near("target_mse", 6)
    else:
        chosen["kl_weight"] = around.near("kl_weight", 10)
    if base["image_size"] >= 128:
        chosen["feat_dim"] = around.among("feat_dim", 16, 32, 64)
    return chosen
