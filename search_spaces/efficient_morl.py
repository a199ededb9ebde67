"""What is searched for EfficientMORL: ``TINY``, the CPU preset, and ``space``, the ranges around a preset."""

from typing import Any

from optuna import Trial

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
    the data's ``max_objects``. Widths and refinements are suggested at 128 pixels and more only, where GPUs pay for
    them.
    """

    def near(key: str, factor: float) -> float:
        return trial.suggest_float(key, base[key] / factor, base[key] * factor, log=True)

    def among(key: str, *values: Any) -> Any:
        return trial.suggest_categorical(key, list(dict.fromkeys([*values, base[key]])))

    def portion(key: str, *factors: float) -> int:
        return among(key, *(max(1, int(base[key] * factor)) for factor in factors))

    def between(key: str, low: int, high: int) -> int:
        return trial.suggest_int(key, min(low, base[key]), max(high, base[key]))

    chosen = {
        "lr": near("lr", 4),
        "warmup_frac": trial.suggest_float("warmup_frac", 0, max(0.1, base["warmup_frac"])),
        "half_life_frac": near("half_life_frac", 4),
        "batch_size": portion("batch_size", 0.5, 1),
        # of a loss that sums over pixels
        "grad_clip": among("grad_clip", None, 1.0, 5.0, 20.0),
        "likelihood": among("likelihood", "gaussian", "gmm"),
        "sigma": near("sigma", 2),
        "kl_weight": near("kl_weight", 10),
        "use_geco": among("use_geco", True, False),
        "num_slots": between("num_slots", base["max_objects"] + 1, base["max_objects"] + 4),
        "L": between("L", 1, 3),
        "s_init": trial.suggest_float("s_init", base["s_init"] - 2, base["s_init"] + 2),
    }
    if chosen["use_geco"]:
        chosen["geco_target_mse"] = near("geco_target_mse", 8)
    if base["image_size"] >= 128:
        end = max(base["I_end"], min(2, base["I_start"]))  # no draw refines more in the end than at the start
        chosen |= {
            # larger gains shorten the flat start
            "init_gain": trial.suggest_float(
                "init_gain", min(0.02, base["init_gain"]), max(1.0, base["init_gain"]), log=True
            ),
            "I_start": between("I_start", end, 4),
            "I_end": between("I_end", 1, end),
            "z_dim": portion("z_dim", 0.5, 1, 2),
            "enc_channels": portion("enc_channels", 0.5, 1),
            "encoder_strides": among("encoder_strides", "1,1,1,1", "1,2,1,1", "1,2,2,1"),
            "dec_channels": portion("dec_channels", 0.5, 1),
        }
    return chosen
