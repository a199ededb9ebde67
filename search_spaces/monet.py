"""What is searched for MONet: ``TINY``, the CPU preset, and ``space``, the ranges around a preset."""

from typing import Any

from optuna import Trial

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
    # per channel, a short trial ends with slots in shades of grey
    "mixture": "pixel",
    "kl_weight": 0.2,
    "z_dim": 8,
    "unet_width": 8,
    "unet_hidden": 64,
    "comp_width": 32,
    # flat colours need no deeper decoder, and each further layer costs as much as the attention
    "dec_convs": 1,
    "enc_hidden": 64,
    # both let the latents see colours from the start
    "comp_gain": 6**0.5,
    "log_mask_floor": -10.0,
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

    def portion(key: str, *factors: float) -> int:
        return among(key, *(max(1, int(base[key] * factor)) for factor in factors))

    chosen = {
        "lr": near("lr", 4),
        "optimizer": among("optimizer", "rmsprop", "adam", "adamw"),
        "half_life_frac": among("half_life_frac", None, 0.25, 0.5),
        # the loss sums over pixels, and so does its gradient
        "grad_clip": among("grad_clip", None, 10.0, 100.0, 1000.0),
        "num_slots": trial.suggest_int(
            "num_slots",
            min(base["max_objects"] + 1, base["num_slots"]),
            max(base["max_objects"] + 3, base["num_slots"]),
        ),
        # the pair decides most: how much texture a slot may leave unexplained, and how gladly slot 0 takes a pixel
        "sigma": near("sigma", 2.5),
        "sigma_bg": near("sigma_bg", 2.5),
        "kl_weight": near("kl_weight", 10),
        "mask_kl_weight": near("mask_kl_weight", 10),
        "mixture": among("mixture", "channel", "pixel"),
        "log_mask_floor": among("log_mask_floor", None, -5.0, -10.0, -20.0),
        "z_dim": portion("z_dim", 0.5, 2),
    }
    if chosen["optimizer"] == "adamw":
        chosen["weight_decay"] = trial.suggest_float("weight_decay", 0.0, max(0.01, base["weight_decay"]))
    if base["image_size"] >= 128:
        chosen |= {
            "batch_size": portion("batch_size", 0.5),
            "unet_width": portion("unet_width", 0.25, 0.5),
            "comp_width": portion("comp_width", 0.5, 2),
        }
    return chosen
