"""What is searched for Genesis-V2: ``TINY``, the CPU preset, and ``space``, the ranges around a preset."""

from typing import Any

from optuna import Trial

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
    # clusters of one colour from the first step, kept until the decoder can follow
    "gate_init": 4.0,
    "context_init": 0.0,
    "sigma_init_scale": 64.0,
    "sigma": 0.2,
    "kl_mode": "fixed",
    "kl_weight": 0.001,
    # the decoder learns its masks from the clusters, long before the reconstruction would teach it
    "mask_kl_weight": 8.0,
    "mask_kl_moves": "decoder",
}
"""The keys in which the CPU preset differs from the published configuration."""


def space(trial: Trial, base: dict[str, Any]) -> dict[str, Any]:
    """Suggest hyperparameters around ``base``, the preset's full configuration with its ``image_size`` (pixels) and
    the data's ``max_objects``. Widths are suggested at 128 pixels and more only, where GPUs pay for them.
    """

    def near(key: str, factor: float) -> float:
        return trial.suggest_float(key, base[key] / factor, base[key] * factor, log=True)

    def among(key: str, *values: Any) -> Any:
        return trial.suggest_categorical(key, list(dict.fromkeys([base[key], *values])))

    chosen = {
        "lr": near("lr", 3),
        "encoder_lr_scale": near("encoder_lr_scale", 5),
        "schedule": among("schedule", "constant", "cosine"),
        "warmup_frac": trial.suggest_float("warmup_frac", 0.0, max(0.1, base["warmup_frac"])),
        "batch_size": among("batch_size", *(max(1, int(base["batch_size"] * factor)) for factor in (0.5, 1))),
        "num_slots": trial.suggest_int(
            "num_slots",
            min(base["max_objects"] + 1, base["num_slots"]),
            max(base["max_objects"] + 3, base["num_slots"]),
        ),
        # smaller than published segments better (Dang-Nhu and Steger 2021, arXiv 2101.04041)
        "sigma": trial.suggest_float("sigma", base["sigma"] / 4, base["sigma"] * 1.5, log=True),
        "sigma_init_scale": near("sigma_init_scale", 3),
        "gate_init": trial.suggest_float("gate_init", base["gate_init"] / 4, max(1.0, 2 * base["gate_init"])),
        "posterior_std_bias": trial.suggest_float(
            "posterior_std_bias", base["posterior_std_bias"] - 2.5, base["posterior_std_bias"] + 1
        ),
        "autoreg_prior": among("autoreg_prior", True, False),
        "kl_mode": among("kl_mode", "geco", "fixed"),
        "mask_kl_weight": near("mask_kl_weight", 4) if base["mask_kl_weight"] else among("mask_kl_weight", 0.03, 0.3),
    }
    if chosen["kl_mode"] == "geco":
        chosen["target_mse"] = near("target_mse", 6)
    else:
        chosen["kl_weight"] = near("kl_weight", 10)
    if base["image_size"] >= 128:
        chosen["feat_dim"] = among("feat_dim", 16, 32, 64)
    return chosen
