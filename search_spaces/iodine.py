"""What is searched for IODINE: ``TINY``, the CPU preset, and ``space``, the ranges around a preset."""

from typing import Any

from optuna import Trial

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
    # a coarse fit makes slots part in space; sharper or sooner, they part in colour alone, all over the image
    "sigma_start": 0.3,
    "sigma": 0.14,
    "sigma_warmup_frac": 0.3,
    "kl_weight": 0.2,
    "mixture": "pixel",
    # what slots show before the first refinement differs, and stays different
    "weigh_first": False,
    "init_gain": 1.4,
}
"""The keys in which the CPU preset differs from the published configuration."""


def space(trial: Trial, base: dict[str, Any]) -> dict[str, Any]:
    """Suggest hyperparameters around ``base``, the preset's full configuration with its ``image_size`` (pixels) and
    the data's ``max_objects``. Widths are suggested at 128 pixels and more only, where GPUs pay for them.
    """

    def near(key: str, factor: float) -> float:
        return trial.suggest_float(key, base[key] / factor, base[key] * factor, log=True)

    def among(key: str, *values: Any) -> Any:
        return trial.suggest_categorical(key, list(dict.fromkeys([*values, base[key]])))

    def portion(key: str, *factors: float) -> int:
        return among(key, *(max(1, int(base[key] * factor)) for factor in factors))

    chosen = {
        "lr": near("lr", 4),
        "schedule": among("schedule", "constant", "exp", "cosine"),
        "warmup_frac": trial.suggest_float("warmup_frac", 0, max(0.05, base["warmup_frac"])),
        "batch_size": portion("batch_size", 0.25, 0.5, 1),
        "grad_clip": near("grad_clip", 10),
        "num_slots": trial.suggest_int(
            "num_slots",
            min(base["max_objects"] + 1, base["num_slots"]),
            max(base["max_objects"] + 4, base["num_slots"]),
        ),
        # a step's cost is in proportion
        "num_iters": trial.suggest_int("num_iters", 2, base["num_iters"] + 1),
        "sigma": near("sigma", 3),
        "sigma_start": among("sigma_start", None, 0.3),
        "kl_weight": near("kl_weight", 10),
        "mixture": among("mixture", "channel", "pixel"),
        "weigh_first": among("weigh_first", True, False),
        "init_gain": near("init_gain", 2),
    }
    if chosen["sigma_start"] is not None:
        chosen["sigma_warmup_frac"] = trial.suggest_float("sigma_warmup_frac", 0, 1)
    if base["image_size"] >= 128:
        chosen |= {
            "z_size": portion("z_size", 0.25, 0.5, 1),
            "lstm_dim": portion("lstm_dim", 0.25, 0.5, 1),
            "dec_channels": portion("dec_channels", 0.5, 1),
            "refine_channels": portion("refine_channels", 0.5, 1),
        }
    return chosen
