"""Hyperparameters of GNM."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Config:
    """Hyperparameters; the defaults are the ClevrTex benchmark's (Karazija et al. 2021) at 128x128.

    Raises ValueError for values outside their range.
    """

    lr: float = 1e-4
    """Peak learning rate (benchmark)."""
    schedule: Literal["constant", "cosine"] = "constant"
    """The learning rate over time: constant (benchmark) or half a cosine down to 0 at ``steps``."""
    optimizer: str = "rmsprop"
    """One of ``optim.NAMES`` (benchmark: rmsprop without momentum)."""
    batch_size: int = 32
    """Images per step (benchmark)."""
    grad_clip: float | None = 1.0
    """Largest norm of the joint gradient; None = off. A loss summed over pixels keeps the published clip active."""
    weight_decay: float = 0.0
    """Weight decay of the optimiser (benchmark: none)."""
    steps: int = 300_000
    """Training steps of a full trial (benchmark); every ``*_frac`` key is a share of it."""

    sigma: float = 0.5
    """Standard deviation of a pixel around its reconstruction, in intensities of [0, 1] (benchmark; CLEVR: 0.2)."""
    kl_weight: float = 1.0
    """Weight of all KL terms. The likelihood sums over pixels, so that 1 weighs 4 times more at half the size."""
    prior_kl_weight: float = 1.0
    """Further weight of the KLs to the priors that z_g generates, which have to be learnt first (published: 1)."""

    feature_dim: int = 128
    """Channels of the feature maps, of the LSTMs and of the object head (benchmark)."""
    hidden_dim: int = 512
    """Hidden units of the multilayer perceptrons around z_g and z_bg (benchmark)."""
    draw_steps: int = 4
    """Autoregressive steps of StructDRAW, each with a latent of its own (benchmark)."""
    z_global_dim: int = 32
    """Latent dimensions of z_g per step (benchmark)."""
    z_what_dim: int = 64
    """Latent dimensions of an object's appearance (benchmark)."""
    z_bg_dim: int = 10
    """Latent dimensions of the background (benchmark)."""

    input_mean: float = 0.0
    """Subtracted from the images that the encoder sees (published: 0). Its norms span all channels: the level that all
    pixels share outweighs their differences, and a model of images in [0, 1] learns colours slowly."""
    input_std: float = 1.0
    """What the encoder's images are divided by, after that (published: 1)."""
    scale_init: float = -1.0
    """Initial mean of a box side's logit (benchmark): 27 % of the image's side."""
    std_bias: float = 0.0
    """Added to the raw standard deviations of objects and background before their softplus (published: 0)."""
    scale_prior_mean: float = -1.5
    """Auxiliary prior's mean of a box side's logit (benchmark): 18 % of the image's side."""
    scale_prior_std: float = 0.1
    """Auxiliary prior's standard deviation of that logit (benchmark)."""
    shift_prior_std: float = 1.0
    """Auxiliary prior's standard deviation of a box's raw shift from its cell (benchmark); a small one decides which
    of the cells around an object draws it."""
    aux_where_start: float = 10.0
    """Weight of the KL of boxes to their auxiliary prior, at first; it ends at 1."""
    aux_where_frac: float = 1 / 600
    """Where the change of that weight, begun at step 0, ends: step 500 of 300,000."""
    aux_bg_start: float = 50.0
    """Weight of the KL of the background to its auxiliary prior N(0, I), at first; it ends at 1."""
    aux_bg_frac: float = 1 / 6
    """Where the change of that weight, begun at step 0, ends: step 50,000 of 300,000."""
    global_kl_frac: float = 1 / 3
    """Share of ``steps`` over which the weight of z_g's KL rises from 0 to 1: 100,000 of 300,000."""
    rho_start: float = 0.1
    """Auxiliary prior's probability that a cell holds an object, at first."""
    rho_end: float = 1e-3
    """Auxiliary prior's probability that a cell holds an object, in the end."""
    rho_first_frac: float = 0.0
    """Where the change of rho begins (benchmark)."""
    rho_last_frac: float = 1 / 75
    """Where the change of rho ends: step 4,000 of 300,000."""
    tau_end: float = 0.5
    """Temperature of the relaxed presence in the end; it begins at 1."""
    tau_first_frac: float = 1 / 300
    """Where the change of tau begins: step 1,000 of 300,000."""
    tau_last_frac: float = 1 / 15
    """Where the change of tau ends: step 20,000 of 300,000."""
    curriculum_frac: float = 1 / 600
    """Share of ``steps`` in which alpha is fixed, so that the background cannot take all: 500 of 300,000."""
    curriculum_alpha: float = 0.9
    """What alpha is fixed to, at every pixel (benchmark)."""

    sample_posterior: bool = False
    """Whether evaluation samples latents, as published, instead of taking the likeliest."""
    replicate: bool = False
    """The published model with its quirks: evaluation samples, boxes and standard deviations may vanish. For what is
    not reproduced see docs/models.md."""

    def __post_init__(self) -> None:
        for key in ("feature_dim", "hidden_dim"):
            if getattr(self, key) < 2:
                raise ValueError(f"hyperparameter {key} is {getattr(self, key)}; it must be at least 2")
        for key in ("draw_steps", "z_global_dim", "z_what_dim", "z_bg_dim"):
            if getattr(self, key) < 1:
                raise ValueError(f"hyperparameter {key} is {getattr(self, key)}; it must be at least 1")
        for key in ("input_std", "scale_prior_std", "shift_prior_std", "tau_end"):
            if not getattr(self, key) > 0:
                raise ValueError(f"hyperparameter {key} is {getattr(self, key)}; it must be above zero")
        for key in ("weight_decay", "kl_weight", "prior_kl_weight", "aux_where_start", "aux_bg_start"):
            if getattr(self, key) < 0:
                raise ValueError(f"hyperparameter {key} is {getattr(self, key)}; it must not be negative")
        for key in ("rho_start", "rho_end"):
            if not 1e-30 <= getattr(self, key) <= 1 - 1e-6:
                raise ValueError(f"hyperparameter {key} is {getattr(self, key)}; it must lie in [1e-30, 0.999999]")
        if not 0 < self.curriculum_alpha < 1:
            raise ValueError(
                f"hyperparameter curriculum_alpha is {self.curriculum_alpha}; it must lie strictly between 0 and 1"
            )
        for key in (key for key in vars(self) if key.endswith("_frac")):
            if not 0 <= getattr(self, key) <= 1:
                raise ValueError(f"hyperparameter {key} is {getattr(self, key)}; it must lie in [0, 1]")
        for name in ("rho", "tau"):
            first, last = (getattr(self, f"{name}_{end}_frac") for end in ("first", "last"))
            if first > last:
                raise ValueError(
                    f"hyperparameter {name}_first_frac is {first}; it must not exceed {name}_last_frac ({last})"
                )

    @property
    def std_floor(self) -> float:
        """Added to standard deviations, which softplus lets vanish."""
        return 0.0 if self.replicate else 1e-4
