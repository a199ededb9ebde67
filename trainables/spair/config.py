"""Hyperparameters of SPAIR."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Config:
    """Hyperparameters; the defaults are the ClevrTex benchmark's (Karazija et al. 2021) at 128x128.

    Raises ValueError for values outside their range.
    """

    lr: float = 1e-4
    """Learning rate (benchmark)."""
    plateau_patience: int = 3
    """Reports without a better validation MSE that are tolerated; with the next one the learning rate drops, once.

    Benchmark: 3, and a report is an epoch. With ``replicate`` no MSE counts as better, as published.
    """
    plateau_scale: float = 0.5
    """Factor on the learning rate from then on; 1 = no drop (benchmark: from 1e-4 to 5e-5)."""
    optimizer: str = "adam"
    """One of ``optim.NAMES`` (benchmark: adam, betas 0.9 and 0.999)."""
    batch_size: int = 128
    """Images per step (benchmark)."""
    grad_clip: float | None = 1.0
    """Largest norm of the joint gradient of a loss summed over pixels; None = off (benchmark: 1)."""
    weight_decay: float = 0.0
    """Weight decay of the optimiser (benchmark: none)."""
    steps: int = 250_000
    """Training steps of a full trial (benchmark); every ``*_frac`` key is a share of it."""

    sigma: float = 0.15
    """Standard deviation of a pixel after its ramp, in intensities of [0, 1] (benchmark)."""
    sigma_start: float = 0.5
    """Standard deviation of a pixel at step 0 (ClevrTex; CLEVR: 0.15 throughout)."""
    sigma_ramp_frac: float = 0.2
    """Share of ``steps`` over which sigma changes linearly (benchmark: 50,000 of 250,000 steps)."""
    prior_start: float = 1e-4
    """p of the prior on the number k of objects, proportional to p^k, at step 0: at first hardly any (benchmark)."""
    prior_end: float = 0.99
    """p after its ramp: in the end every number of objects is about as likely (benchmark)."""
    prior_ramp_frac: float = 0.2
    """Share of ``steps`` over which p changes linearly (ClevrTex: 50,000 of 250,000 steps; CLEVR: 10,000)."""
    kl_weight: float = 2.7
    """Weight of the cells' KL terms; the background's is 1 (benchmark). The likelihood sums over pixels, so that
    the same weight is 4 times as heavy at half the size."""
    presence_weight: float = 1.0
    """Factor on the KL of presence beside ``kl_weight``, the price of an object (published: 1)."""
    kl_by_presence: bool = False
    """Whether box, appearance and depth of a cell cost in proportion to its presence; published: always in full."""
    tau: float = 1.0
    """Temperature of the relaxed presence (benchmark)."""

    grid: int | None = None
    """Cells per side; None = 4, the published, or 6 at 96 pixels. A cell is 8, 16 or 32 pixels wide."""
    anchor_frac: float = 0.375
    """Largest side of a box as a share of the image's (benchmark: 48 of 128 pixels)."""
    size_prior_mean: float = -2.197
    """Prior mean of the logit of a box's side as a share of the largest (benchmark: a tenth)."""
    glimpse: int | None = None
    """Side of a glimpse in pixels; None = 24, the published, from 96 pixels on, 16 at 64 and 12 at 32."""
    z_what_dim: int = 64
    """Latent dimensions of an object's appearance (benchmark)."""
    init_gain: float = 1.0
    """Factor on the initial weights of the encoders and decoders of objects and background, except the decoders' last.

    Published: 1, torch's default. 6 ** 0.5 gives He's initialisation: latents then carry colours from the start.
    """
    what_std_bias: float = 0.0
    """Added to the initial bias of an appearance's raw standard deviation (published: 0). At -2 the deviation starts
    at softplus(-2) = 0.13 instead of 0.7, so that sampling does not drown the colours that the decoder has to learn."""
    fg_width: float = 1.0
    """Factor on all channels and hidden units of backbone, cells and object decoder."""
    bg_dim: int = 4
    """Latent dimensions of the background (ClevrTex; CLEVR: 1); 0 = a black one, as in Crawford and Pineau 2019."""
    bg_width: float = 1.0
    """Factor on all channels and hidden units of the background."""

    replicate: bool = False
    """The published model with its quirks: evaluation samples, the prior of presence is updated in float32, and the
    learning rate drops after ``plateau_patience`` + 1 reports, even if the validation MSE falls. For what is not
    reproduced see docs/models.md."""

    def __post_init__(self) -> None:
        if self.z_what_dim < 1:
            raise ValueError(f"hyperparameter z_what_dim is {self.z_what_dim}; it must be at least 1")
        if self.glimpse is not None and self.glimpse < 2:
            raise ValueError(f"hyperparameter glimpse is {self.glimpse}; it must be at least 2 pixels or none")
        for key in ("sigma_start", "tau", "init_gain", "fg_width", "bg_width"):
            if not getattr(self, key) > 0:
                raise ValueError(f"hyperparameter {key} is {getattr(self, key)}; it must be above zero")
        for key in ("plateau_patience", "bg_dim", "weight_decay", "kl_weight", "presence_weight"):
            if getattr(self, key) < 0:
                raise ValueError(f"hyperparameter {key} is {getattr(self, key)}; it must not be negative")
        for key in ("prior_start", "prior_end"):
            if not 1e-30 <= getattr(self, key) <= 1:
                raise ValueError(f"hyperparameter {key} is {getattr(self, key)}; it must lie in [1e-30, 1]")
        for key in ("plateau_scale", "anchor_frac"):
            if not 0 < getattr(self, key) <= 1:
                raise ValueError(f"hyperparameter {key} is {getattr(self, key)}; it must be above 0 and at most 1")
        for key in ("sigma_ramp_frac", "prior_ramp_frac"):
            if not 0 <= getattr(self, key) <= 1:
                raise ValueError(f"hyperparameter {key} is {getattr(self, key)}; it must lie in [0, 1]")
