"""What is searched for SPACE: ``TINY``, the CPU preset, and ``space``, the ranges around a preset."""

from typing import Any

from optuna import Trial

from search_spaces.around import Around

TINY: dict[str, Any] = {
    "steps": 500,
    "fg_lr": 6e-3,
    "bg_lr": 8.6e-3,
    "fg_optimizer": "adam",
    "fg_warmup_frac": 0.24,
    "sigma": 0.079,
    "kl_weight": 1.5,
    "boundary_weight": 0.0,
    "grid": 4,
    "glimpse": 8,
    "z_what_dim": 8,
    "fg_width": 0.5,
    # The background is too small to draw objects.
    "bg_components": 1,
    "z_mask_dim": 1,
    "z_comp_dim": 1,
    "bg_hidden": 32,
    "bg_width": 0.25,
    # An object costs up to 53 nats times kl_weight, so that two cells do not share one object in a short trial.
    "pi_start": 1e-10,
    "pi_end": 7e-24,
    "pi_first_frac": 0.1,
    "pi_last_frac": 0.7,
    # Boxes start at 40 % of the image's side, in which the largest synthetic objects fit; then 20 % costs least.
    "mu_s_start": -0.4,
    "mu_s_end": -1.4,
    "tau_start": 1.0,
    "tau_end": 2.3,
}
"""The keys in which the CPU preset differs from the published configuration."""


def space(trial: Trial, base: dict[str, Any]) -> dict[str, Any]:
    """Suggest hyperparameters around ``base``, the preset's full configuration with its ``image_size`` (pixels).

    Grid, widths and latent sizes are suggested only from 128 pixels on, where a GPU does the work.
    """
    around = Around(trial, base)
    large = base["image_size"] >= 128
    chosen = {
        # the published foreground rate is a hundredth of the background's, so the range reaches further up
        "fg_lr": around.near("fg_lr", 3, 100 if large else 3),
        "bg_lr": around.near("bg_lr", 3),
        "fg_optimizer": around.among("fg_optimizer", "rmsprop", "adam"),
        "fg_warmup_frac": around.within("fg_warmup_frac", 0.0, 0.5),
        "sigma": around.near("sigma", 2),
        "kl_weight": around.near("kl_weight", 4),
        "bg_components": around.count("bg_components", 1, 8 if large else 2),
        # the cost of an object is -log(pi)
        "pi_end": around.within("pi_end", max(1e-30, base["pi_end"] ** 1.5), base["pi_end"] ** 0.5, log=True),
        "mu_s_end": around.shifted("mu_s_end", 1),
        "tau_end": around.within("tau_end", 0.3, 2.5, log=True),
        "boundary_weight": around.among("boundary_weight", 0.0, 1.0),
    }
    if chosen["boundary_weight"] > 0:
        chosen["boundary_off_frac"] = around.within("boundary_off_frac", 0.1, 1.0)
    if large:
        size = base["image_size"]
        chosen |= {
            "grid": around.among("grid", size // 32, size // 8),
            "fix_alpha_frac": around.within("fix_alpha_frac", 0.0, 0.03),
            "grad_clip": around.among("grad_clip", 0.1, 1.0, 10.0),
            "z_what_dim": around.portion("z_what_dim", 0.5, 2),
            "fg_width": around.among("fg_width", base["fg_width"] / 2),
            "bg_width": around.among("bg_width", base["bg_width"] / 2),
        }
    return chosen
