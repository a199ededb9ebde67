"""What is searched for GNM: ``TINY``, the CPU preset, and ``space``, the ranges around a preset."""

from typing import Any

from optuna import Trial

from search_spaces.around import Around

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
    # The background is too small to draw objects.
    "z_bg_dim": 1,
    "aux_bg_start": 1.0,
    # The synthetic backgrounds are grey, so that only the objects differ from this mean.
    "input_mean": 0.5,
    "input_std": 0.25,
    # Boxes start at 40 % of the image's side. The largest synthetic objects fit in.
    "scale_init": -0.4,
    "scale_prior_mean": -0.4,
    "scale_prior_std": 0.2,
    "shift_prior_std": 0.3,
    "std_bias": -3.0,
    "aux_where_start": 1.0,
    # The prior favours objects until the model has learned them. Then each costs 46 nats, so that one cell draws the
    # whole object.
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

    Widths and latent sizes are suggested only from 128 pixels on, where a GPU does the work.
    """
    around = Around(trial, base)
    large = base["image_size"] >= 128
    chosen = {
        "lr": around.near("lr", 3),
        "optimizer": around.among("optimizer", "rmsprop", "adam"),
        "batch_size": around.portion("batch_size", 0.5, 2 if large else 1),
        # for a loss that sums over pixels
        "grad_clip": around.among("grad_clip", 1.0, 10.0, 100.0),
        # These two matter most: sigma sets how much texture may stay unexplained, kl_weight what an object costs.
        "sigma": around.near("sigma", 2),
        "kl_weight": around.near("kl_weight", 2),
        "prior_kl_weight": around.near("prior_kl_weight", 5) if base["prior_kl_weight"] else 0.0,
        # the cost of an object is -log(rho)
        "rho_end": around.within("rho_end", max(1e-30, base["rho_end"] ** 1.5), base["rho_end"] ** 0.5, log=True),
        "scale_prior_mean": around.shifted("scale_prior_mean", 0.7),
        "scale_prior_std": around.near("scale_prior_std", 3),
        "shift_prior_std": around.near("shift_prior_std", 3),
        "curriculum_frac": around.within("curriculum_frac", 0.0, max(0.1, 2 * base["curriculum_frac"])),
        "tau_end": around.within("tau_end", 0.3, 1.0),
        "aux_bg_start": around.near("aux_bg_start", 10),
    }
    if chosen["tau_end"] < 1:
        chosen["tau_last_frac"] = around.near("tau_last_frac", 4)
    if chosen["aux_bg_start"] > 1:
        chosen["aux_bg_frac"] = around.near("aux_bg_frac", 3)
    if large:
        chosen |= {
            "draw_steps": around.count("draw_steps", 1, 6),
            "z_what_dim": around.portion("z_what_dim", 0.25, 0.5, 2),
            "z_bg_dim": around.portion("z_bg_dim", 0.1, 0.4, 2),
            "feature_dim": around.portion("feature_dim", 0.5),
        }
    return chosen
