"""What is searched for SPAIR: ``TINY``, the CPU preset, and ``space``, the ranges around a preset."""

from typing import Any

from optuna import Trial

from search_spaces.around import Around

TINY: dict[str, Any] = {
    "steps": 1000,
    "lr": 2e-3,
    "batch_size": 16,
    "grad_clip": 1000.0,
    # With a large sigma first, the background is learned before the objects.
    "sigma": 0.2,
    "sigma_start": 0.7,
    "sigma_ramp_frac": 0.3,
    # Cells that lose their object early do not find one again. So the prior first favours objects, and later removes
    # second boxes of an object at a cost of kl_weight * presence_weight * 13.8 nats each.
    "prior_start": 0.99,
    "prior_end": 1e-6,
    "prior_ramp_frac": 0.6,
    "kl_weight": 0.5,
    "presence_weight": 6.0,
    "kl_by_presence": True,
    # Boxes reach up to 60 % of the image's side. The largest synthetic objects fit in.
    "anchor_frac": 0.6,
    "size_prior_mean": 0.5,
    "glimpse": 8,
    "z_what_dim": 8,
    # With both, the latents see colours from the start. The model drops objects whose colour it cannot draw.
    "init_gain": 6**0.5,
    "what_std_bias": -2.0,
    "fg_width": 0.5,
    # The background is too small to draw objects.
    "bg_dim": 1,
    "bg_width": 0.25,
}
"""The keys in which the CPU preset differs from the published configuration."""


def space(trial: Trial, base: dict[str, Any]) -> dict[str, Any]:
    """Suggest hyperparameters around ``base``, the preset's full configuration with its ``image_size`` (pixels).

    Grid, widths and the size of an appearance are suggested only from 128 pixels on, where a GPU does the work.
    """
    around = Around(trial, base)
    chosen = {
        "lr": around.near("lr", 3),
        "optimizer": around.among("optimizer", "adam", "adamw"),
        # These two decide when objects pay: a large sigma at first leaves all to the background.
        "sigma": around.near("sigma", 2),
        "sigma_start": around.near("sigma_start", 3),
        "sigma_ramp_frac": around.within("sigma_ramp_frac", 0.0, 0.8),
        # The published prior first forbids objects. Reversed, cells learn objects before some are removed. The cost of
        # an object is -log(p), so both ranges are logarithmic.
        "prior_start": around.within(
            "prior_start", base["prior_start"] / 100, min(1.0, base["prior_start"] * 100), log=True
        ),
        "prior_end": around.within("prior_end", base["prior_end"] / 100, min(1.0, base["prior_end"] * 100), log=True),
        "prior_ramp_frac": around.within("prior_ramp_frac", 0.0, 1.0),
        "kl_weight": around.near("kl_weight", 5),
        "presence_weight": around.near("presence_weight", 3),
        "kl_by_presence": around.among("kl_by_presence", False, True),
        "tau": around.near("tau", 2),
        "anchor_frac": around.within("anchor_frac", 0.2, 0.8),
        "size_prior_mean": around.shifted("size_prior_mean", 1.5),
        "init_gain": around.among("init_gain", 1.0, 6**0.5),
        "what_std_bias": around.within("what_std_bias", -3.0, 0.0),
        "bg_dim": around.count("bg_dim", 1, 8),
    }
    if chosen["optimizer"] == "adamw":
        chosen["weight_decay"] = around.within("weight_decay", 0.0, 0.01)
    if base["image_size"] >= 128:
        size = base["image_size"]
        chosen |= {
            "batch_size": around.portion("batch_size", 0.25, 0.5),
            "grad_clip": around.among("grad_clip", None, 1.0, 100.0),
            "grid": around.among("grid", None, size // 16),
            "z_what_dim": around.portion("z_what_dim", 0.5, 2),
            "fg_width": around.among("fg_width", base["fg_width"] / 2),
        }
    return chosen
