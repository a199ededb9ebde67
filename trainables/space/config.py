"""Hyperparameters of SPACE."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Config:
    """Hyperparameters; the defaults are the ClevrTex benchmark's (Karazija et al. 2021) at 128x128.

    Raises ValueError for values outside their range.
    """

    batch_size: int = 16
    """Images per step, over all workers."""
    steps: int = 160_000
    """Training steps of a full trial; every ``*_frac`` key is a share of it."""
    fg_lr: float = 1e-5
    """Learning rate of the foreground."""
    bg_lr: float = 1e-3
    """Learning rate of the background, whose optimiser is Adam."""
    fg_optimizer: Literal["rmsprop", "adam"] = "rmsprop"
    """Optimiser of the foreground."""
    fg_warmup_frac: float = 0.0
    """Share of ``steps`` over which the foreground's rate rises linearly, so that the background learns first."""
    weight_decay: float = 0.0
    """L2 penalty on all parameters."""
    grad_clip: float | None = 1.0
    """Largest norm of the joint gradient; None = off. Published sums over pixels make the clip always active."""

    sigma: float = 0.15
    """Standard deviation of a pixel around foreground and background, in intensities of [0, 1]."""
    kl_weight: float = 1.0
    """Weight of all KL terms. The likelihood sums over pixels, so that 1 weighs 4 times more at half the size."""
    boundary_weight: float = 1.0
    """Weight of the loss on boxes whose frame cuts through the foreground; 0 = off."""
    boundary_off_frac: float = 1.0
    """Share of ``steps`` after which the boundary loss is off; 1 = never."""

    grid: int | None = None
    """Cells per side; None = one per 16 pixels, the published 8 at 128. A cell is 8, 16 or 32 pixels wide."""
    glimpse: int = 32
    """Side of a glimpse in pixels: 8, 16 or 32."""
    z_what_dim: int = 32
    """Latent dimensions of an object's appearance."""
    fg_width: float = 1.0
    """Factor on all channels of the foreground."""

    bg_components: int = 5
    """Background components K; 1 takes a stronger decoder and needs no masks."""
    z_mask_dim: int = 32
    """Latent dimensions of a background component's mask."""
    z_comp_dim: int = 32
    """Latent dimensions of a background component's appearance."""
    bg_hidden: int = 64
    """Units of the background's image code, LSTMs and component prior."""
    bg_width: float = 1.0
    """Factor on all convolution channels of the background."""

    pi_start: float = 0.1
    """Prior probability that a cell holds an object, at first."""
    pi_end: float = 0.01
    """Prior probability that a cell holds an object, in the end."""
    pi_first_frac: float = 0.025
    """Where the change of pi begins, as a share of ``steps``: step 4,000 of 160,000."""
    pi_last_frac: float = 0.0625
    """Where the change of pi ends: step 10,000 of 160,000."""
    mu_s_start: float = -1.0
    """Prior mean of a box side's logit, at first: 27 % of the image's side."""
    mu_s_end: float = -2.0
    """Prior mean of a box side's logit, in the end: 12 % of the image's side."""
    mu_s_first_frac: float = 0.0625
    """Where the change of mu_s begins: step 10,000 of 160,000."""
    mu_s_last_frac: float = 0.125
    """Where the change of mu_s ends: step 20,000 of 160,000."""
    tau_start: float = 2.5
    """Temperature of the relaxed presence, at first."""
    tau_end: float = 2.5
    """Temperature of the relaxed presence, in the end. Lin et al. 2020 anneal to 0.5; ClevrTex does not."""
    tau_last_frac: float = 0.125
    """Where the change of tau, begun at step 0, ends: step 20,000 of 160,000 in Lin et al. 2020."""
    fix_alpha_frac: float = 0.0
    """Share of ``steps`` in which every pixel counts as 10 % foreground, so that the background cannot take all."""

    sample_posterior: bool = False
    """Whether evaluation samples latents, as published, instead of taking the posterior's means."""
    replicate: bool = False
    """The published model with its quirks: evaluation samples, standard deviations have no usable floor. For what is
    not reproduced see docs/models.md."""

    def __post_init__(self) -> None:
        if self.glimpse not in (8, 16, 32):
            raise ValueError(f"hyperparameter glimpse is {self.glimpse}; it must be 8, 16 or 32 pixels")
        for key in ("z_what_dim", "z_mask_dim", "z_comp_dim", "bg_hidden", "bg_components"):
            if getattr(self, key) < 1:
                raise ValueError(f"hyperparameter {key} is {getattr(self, key)}; it must be at least 1")
        for key in ("fg_lr", "bg_lr", "fg_width", "bg_width", "tau_start", "tau_end"):
            if not getattr(self, key) > 0:
                raise ValueError(f"hyperparameter {key} is {getattr(self, key)}; it must be above zero")
        for key in ("weight_decay", "kl_weight", "boundary_weight"):
            if getattr(self, key) < 0:
                raise ValueError(f"hyperparameter {key} is {getattr(self, key)}; it must not be negative")
        for key in ("pi_start", "pi_end"):
            if not 1e-30 <= getattr(self, key) <= 1 - 1e-6:
                raise ValueError(f"hyperparameter {key} is {getattr(self, key)}; it must lie in [1e-30, 0.999999]")
        for key in (key for key in vars(self) if key.endswith("_frac")):
            if not 0 <= getattr(self, key) <= 1:
                raise ValueError(f"hyperparameter {key} is {getattr(self, key)}; it must lie in [0, 1]")
        for name in ("pi", "mu_s"):
            first, last = (getattr(self, f"{name}_{end}_frac") for end in ("first", "last"))
            if first > last:
                raise ValueError(
                    f"hyperparameter {name}_first_frac is {first}; it must not exceed {name}_last_frac ({last})"
                )
