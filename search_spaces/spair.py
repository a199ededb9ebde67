"""What is searched for SPAIR: ``TINY``, the CPU preset, and ``space``, the ranges around a preset."""

from typing import Any

from optuna import Trial

TINY: dict[str, Any] = {
    "steps": 1000,
    "lr": 2e-3,
    "batch_size": 16,
    "grad_clip": 1000.0,
    # blurred at first, so that the background learns the ground before objects do
    "sigma": 0.2,
    "sigma_start": 0.7,
    "sigma_ramp_frac": 0.3,
    # cells that have given up do not come back: the prior first keeps them, and later culls second boxes of an object,
    # at a price of kl_weight * presence_weight * 13.8 nats each
    "prior_start": 0.99,
    "prior_end": 1e-6,
    "prior_ramp_frac": 0.6,
    "kl_weight": 0.5,
    "presence_weight": 6.0,
    "kl_by_presence": True,
    # boxes of up to 60 % of the side, which hold the largest of the synthetic objects
    "anchor_frac": 0.6,
    "size_prior_mean": 0.5,
    "glimpse": 8,
    "z_what_dim": 8,
    # colours in the latents from the start; objects without their colour are given up
    "init_gain": 6**0.5,
    "what_std_bias": -2.0,
    "fg_width": 0.5,
    # a background that cannot paint objects
    "bg_dim": 1,
    "bg_width": 0.25,
}
"""The keys in which the CPU preset differs from the published configuration."""


def space(trial: Trial, base: dict[str, Any]) -> dict[str, Any]:
    """Suggest hyperparameters around ``base``, the preset's full configuration with its ``image_size`` (pixels).

    Grid, widths and the size of an appearance are suggested at 128 pixels and more only, where GPUs pay for them.
    """

    def near(key: str, factor: float) -> float:
        return trial.suggest_float(key, base[key] / factor, base[key] * factor, log=True)

    def among(key: str, *values: Any) -> Any:
        return trial.suggest_categorical(key, list(dict.fromkeys([base[key], *values])))

    def prior(key: str) -> float:
        # through its logarithm, the price of an object
        return trial.suggest_float(key, max(1e-30, base[key] / 100), min(1.0, base[key] * 100), log=True)

    chosen = {
        "lr": near("lr", 3),
        "optimizer": among("optimizer", "adam", "adamw"),
        # the pair decides when objects pay: a wide sigma at first leaves all to the background
        "sigma": near("sigma", 2),
        "sigma_start": near("sigma_start", 3),
        "sigma_ramp_frac": trial.suggest_float("sigma_ramp_frac", 0.0, max(0.8, base["sigma_ramp_frac"])),
        # published, the prior first forbids objects; the other way round, cells learn before they are culled
        "prior_start": prior("prior_start"),
        "prior_end": prior("prior_end"),
        "prior_ramp_frac": trial.suggest_float("prior_ramp_frac", 0.0, 1.0),
        "kl_weight": near("kl_weight", 5),
        "presence_weight": near("presence_weight", 3),
        "kl_by_presence": among("kl_by_presence", False, True),
        "tau": near("tau", 2),
        "anchor_frac": trial.suggest_float("anchor_frac", min(0.2, base["anchor_frac"]), max(0.8, base["anchor_frac"])),
        "size_prior_mean": trial.suggest_float(
            "size_prior_mean", base["size_prior_mean"] - 1.5, base["size_prior_mean"] + 1.5
        ),
        "init_gain": among("init_gain", 1.0, 6**0.5),
        "what_std_bias": trial.suggest_float(
            "what_std_bias", min(-3.0, base["what_std_bias"]), max(0.0, base["what_std_bias"])
        ),
        "bg_dim": trial.suggest_int("bg_dim", min(1, base["bg_dim"]), max(8, base["bg_dim"])),
    }
    if chosen["optimizer"] == "adamw":
        chosen["weight_decay"] = trial.suggest_float("weight_decay", 0.0, max(0.01, base["weight_decay"]))
    if base["image_size"] >= 128:
        size = base["image_size"]
        chosen |= {
            "batch_size": among("batch_size", base["batch_size"] // 4 or 1, base["batch_size"] // 2 or 1),
            "grad_clip": among("grad_clip", None, 1.0, 100.0),
            "grid": among("grid", None, size // 16),
            "z_what_dim": among("z_what_dim", base["z_what_dim"] // 2 or 1, 2 * base["z_what_dim"]),
            "fg_width": among("fg_width", base["fg_width"] / 2),
        }
    return chosen
