"""What is searched for SPACE: ``TINY``, the CPU preset, and ``space``, the ranges around a preset."""

from typing import Any

from optuna import Trial

TINY: dict[str, Any] = {
    "steps": 500,
    "fg_lr": 2e-3,
    "bg_lr": 5e-3,
    "fg_optimizer": "adam",
    "fg_warmup_frac": 0.05,
    "sigma": 0.1,
    "kl_weight": 0.4,
    "boundary_weight": 0.0,
    "grid": 4,
    "glimpse": 8,
    "z_what_dim": 8,
    "fg_width": 0.5,
    # a background that cannot paint objects
    "bg_components": 1,
    "z_mask_dim": 1,
    "z_comp_dim": 1,
    "bg_hidden": 32,
    "bg_width": 0.25,
    # up to 58 nats per object, times kl_weight: keeps two cells from sharing one object in a short trial
    "pi_start": 1e-10,
    "pi_end": 1e-25,
    "pi_first_frac": 0.1,
    "pi_last_frac": 0.7,
    # boxes of 40 % of the side, which hold the largest of the synthetic objects
    "mu_s_start": -0.4,
    "mu_s_end": -0.4,
    "tau_start": 1.0,
    "tau_end": 1.0,
}
"""The keys in which the CPU preset differs from the published configuration."""


def space(trial: Trial, base: dict[str, Any]) -> dict[str, Any]:
    """Suggest hyperparameters around ``base``, the preset's full configuration with its ``image_size`` (pixels).

    Grid, widths and latent sizes are suggested at 128 pixels and more only, where GPUs pay for them.
    """

    def near(key: str, factor: float) -> float:
        return trial.suggest_float(key, base[key] / factor, base[key] * factor, log=True)

    def among(key: str, *values: Any) -> Any:
        return trial.suggest_categorical(key, list(dict.fromkeys([base[key], *values])))

    large = base["image_size"] >= 128
    chosen = {
        # the published foreground rate is a hundredth of the background's, so the way up is longer
        "fg_lr": trial.suggest_float("fg_lr", base["fg_lr"] / 3, base["fg_lr"] * (100 if large else 3), log=True),
        "bg_lr": near("bg_lr", 3),
        "fg_optimizer": among("fg_optimizer", "rmsprop", "adam"),
        "fg_warmup_frac": trial.suggest_float("fg_warmup_frac", 0.0, max(0.5, base["fg_warmup_frac"])),
        "sigma": near("sigma", 2),
        "kl_weight": near("kl_weight", 4),
        "bg_components": trial.suggest_int("bg_components", 1, max(8 if large else 2, base["bg_components"])),
        # pi acts through its logarithm, the price of an object
        "pi_end": trial.suggest_float("pi_end", max(1e-30, base["pi_end"] ** 1.5), base["pi_end"] ** 0.5, log=True),
        "mu_s_end": trial.suggest_float("mu_s_end", base["mu_s_end"] - 1, base["mu_s_end"] + 1),
        "tau_end": trial.suggest_float("tau_end", min(0.3, base["tau_end"]), max(2.5, base["tau_end"]), log=True),
        "boundary_weight": among("boundary_weight", 0.0, 1.0),
    }
    if chosen["boundary_weight"] > 0:
        lowest = min(0.1, base["boundary_off_frac"])
        chosen["boundary_off_frac"] = trial.suggest_float("boundary_off_frac", lowest, 1.0)
    if large:
        size = base["image_size"]
        chosen |= {
            "grid": among("grid", size // 32, size // 8),
            "fix_alpha_frac": trial.suggest_float("fix_alpha_frac", 0.0, max(0.03, base["fix_alpha_frac"])),
            "grad_clip": among("grad_clip", 0.1, 1.0, 10.0),
            "z_what_dim": among("z_what_dim", *(round(base["z_what_dim"] * factor) or 1 for factor in (0.5, 2))),
            "fg_width": among("fg_width", base["fg_width"] / 2),
            "bg_width": among("bg_width", base["bg_width"] / 2),
        }
    return chosen
