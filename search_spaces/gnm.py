"""What is searched for GNM: ``TINY``, the CPU preset, and ``space``, the ranges around a preset."""

from typing import Any

from optuna import Trial

TINY: dict[str, Any] = {
    "lr": 2e-3,
    "schedule": "cosine",
    "optimizer": "adam",
    "batch_size": 8,
    "grad_clip": 100.0,
    "steps": 2400,
    "sigma": 0.15,
    "prior_kl_weight": 0.02,
    "feature_dim": 64,
    "hidden_dim": 64,
    "draw_steps": 1,
    "z_global_dim": 8,
    "z_what_dim": 8,
    # a background that cannot paint objects
    "z_bg_dim": 1,
    "aux_bg_start": 1.0,
    # grounds are grey: what is left are the objects' colours
    "input_mean": 0.5,
    "input_std": 0.25,
    # boxes of 40 % of the side, which hold the largest of the synthetic objects
    "scale_init": -0.4,
    "scale_prior_mean": -0.4,
    "scale_prior_std": 0.2,
    "shift_prior_std": 0.3,
    "std_bias": -3.0,
    "aux_where_start": 1.0,
    # an object is favoured until objects are learnt, then costs 46 nats, so that one cell draws all of it
    "rho_start": 0.999,
    "rho_end": 1e-20,
    "rho_first_frac": 0.15,
    "rho_last_frac": 0.25,
    "tau_end": 1.0,
    "curriculum_frac": 0.0,
}
"""The keys in which the CPU preset differs from the published configuration."""


def space(trial: Trial, base: dict[str, Any]) -> dict[str, Any]:
    """Suggest hyperparameters around ``base``, the preset's full configuration with its ``image_size`` (pixels).

    Widths and latent sizes are suggested at 128 pixels and more only, where GPUs pay for them.
    """

    def near(key: str, factor: float) -> float:
        return trial.suggest_float(key, base[key] / factor, base[key] * factor, log=True)

    def among(key: str, *values: Any) -> Any:
        return trial.suggest_categorical(key, list(dict.fromkeys([base[key], *values])))

    def portion(key: str, *factors: float) -> int:
        return among(key, *(max(1, int(base[key] * factor)) for factor in factors))

    large = base["image_size"] >= 128
    chosen = {
        "lr": near("lr", 3),
        "optimizer": among("optimizer", "rmsprop", "adam"),
        "batch_size": portion("batch_size", 0.5, 2 if large else 1),
        # the loss sums over pixels, and so does its gradient
        "grad_clip": among("grad_clip", 1.0, 10.0, 100.0),
        # the pair decides most: how much texture may stay unexplained, and what an object costs
        "sigma": near("sigma", 2),
        "kl_weight": near("kl_weight", 2),
        "prior_kl_weight": near("prior_kl_weight", 5) if base["prior_kl_weight"] else 0.0,
        # rho acts through its logarithm, the price of an object
        "rho_end": trial.suggest_float("rho_end", max(1e-30, base["rho_end"] ** 1.5), base["rho_end"] ** 0.5, log=True),
        "scale_prior_mean": trial.suggest_float(
            "scale_prior_mean", base["scale_prior_mean"] - 0.7, base["scale_prior_mean"] + 0.7
        ),
        "scale_prior_std": near("scale_prior_std", 3),
        "shift_prior_std": near("shift_prior_std", 3),
        "curriculum_frac": trial.suggest_float("curriculum_frac", 0.0, max(0.1, 2 * base["curriculum_frac"])),
        "tau_end": trial.suggest_float("tau_end", min(0.3, base["tau_end"]), max(1.0, base["tau_end"])),
        "aux_bg_start": near("aux_bg_start", 10),
    }
    if chosen["tau_end"] < 1:
        chosen["tau_last_frac"] = near("tau_last_frac", 4)
    if chosen["aux_bg_start"] > 1:
        chosen["aux_bg_frac"] = near("aux_bg_frac", 3)
    if large:
        chosen |= {
            "draw_steps": trial.suggest_int("draw_steps", 1, max(6, base["draw_steps"])),
            "z_what_dim": portion("z_what_dim", 0.25, 0.5, 2),
            "z_bg_dim": portion("z_bg_dim", 0.1, 0.4, 2),
            "feature_dim": portion("feature_dim", 0.5),
        }
    return chosen
