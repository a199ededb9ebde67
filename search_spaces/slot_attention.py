"""What is searched for Slot Attention: ``TINY``, the CPU preset, and ``space``, the ranges around a preset."""

from typing import Any

from optuna import Trial

TINY: dict[str, Any] = {
    "lr": 2e-3,
    "batch_size": 16,
    "grad_clip": 0.05,
    "steps": 1400,
    "half_life_frac": 0.5,
    "warmup_frac": 0.05,
    "num_slots": 6,
    "num_iters": 2,
    # both bring the moment forward at which slots part: closer starts, livelier attention
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
    the data's ``max_objects``. Widths and grids are suggested at 128 pixels and more only, where GPUs pay for them.
    """

    def near(key: str, factor: float) -> float:
        return trial.suggest_float(key, base[key] / factor, base[key] * factor, log=True)

    def among(key: str, *values: Any) -> Any:
        return trial.suggest_categorical(key, list(dict.fromkeys([*values, base[key]])))

    def portion(key: str, *factors: float) -> int:
        return among(key, *(max(1, int(base[key] * factor)) for factor in factors))

    chosen = {
        "lr": near("lr", 5),
        "warmup_frac": trial.suggest_float("warmup_frac", 0, max(0.1, base["warmup_frac"])),
        "schedule": among("schedule", "exp", "cosine"),
        "batch_size": portion("batch_size", 0.25, 0.5, 1),
        # of the mean squared error, whose gradient has a norm near 1 at the start
        "grad_clip": among("grad_clip", None, 0.05, 0.3, 1.0),
        "num_slots": trial.suggest_int(
            "num_slots",
            min(base["max_objects"] + 1, base["num_slots"]),
            max(base["max_objects"] + 4, base["num_slots"]),
        ),
        # gradients grow with the rounds: five are safe
        "num_iters": trial.suggest_int("num_iters", 1, max(5, base["num_iters"])),
        "log_sigma_init": trial.suggest_float(
            "log_sigma_init", min(-1.5, base["log_sigma_init"]), max(0.5, base["log_sigma_init"])
        ),
        "qk_gain": near("qk_gain", 3),
    }
    if chosen["schedule"] == "exp":
        chosen["half_life_frac"] = near("half_life_frac", 4)
    if base["image_size"] >= 128:
        chosen |= {
            "slot_dim": portion("slot_dim", 0.5, 1, 2),
            "slot_mlp_hidden": portion("slot_mlp_hidden", 1, 2),
            "enc_channels": portion("enc_channels", 0.5, 1),
            "dec_channels": portion("dec_channels", 0.5, 1),
            "encoder_strides": among("encoder_strides", "1,1,1,1", "1,2,1,1", "1,2,2,1"),
            "dec_base": among("dec_base", 8, 16),
        }
    return chosen
