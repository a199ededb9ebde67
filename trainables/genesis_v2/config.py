"""Hyperparameters of Genesis-V2."""

import math
import warnings
from dataclasses import dataclass
from typing import Literal

PUBLISHED_GOAL = 0.5
"""GECO's goal in the ClevrTex benchmark, in nats per value; no image can be explained that well at sigma 0.7."""


@dataclass(frozen=True)
class Config:
    """Hyperparameters; the defaults are the ClevrTex benchmark's (Karazija et al. 2021) at 128x128.

    Raises ValueError for values outside their range; warns of a GECO goal that no reconstruction can reach.
    """

    lr: float = 1e-4
    """Peak learning rate of Adam (benchmark)."""
    schedule: Literal["constant", "cosine"] = "constant"
    """The learning rate after the warm-up: constant (benchmark) or half a cosine down to 0 at ``steps``."""
    encoder_lr_scale: float = 1.0
    """Factor on the learning rate of the U-Net and the embedding, whose clusters the rest relies on (published: 1)."""
    optimizer: str = "adam"
    """One of ``optim.NAMES`` (benchmark: adam, betas 0.9 and 0.999)."""
    batch_size: int = 32
    """Images per step (benchmark)."""
    grad_clip: float | None = None
    """Largest norm of the joint gradient of a loss summed over pixels; None = off (benchmark)."""
    weight_decay: float = 0.0
    """Weight decay of the optimiser (benchmark: none)."""
    steps: int = 500_000
    """Training steps of a full trial (benchmark)."""
    warmup_frac: float = 0.0
    """Share of ``steps`` over which the learning rate rises linearly (benchmark: none)."""

    num_slots: int = 11
    """K: objects at most, plus one for the background (benchmark: 10 + 1)."""
    feat_dim: int = 64
    """Channels of the features, and dimensions of a latent; a multiple of 8, at most 64 (benchmark)."""
    decoder_groups: int = 8
    """Groups of the decoder's normalisations (published: 8); with fewer, narrow layers keep more of a latent."""
    pool_coordinates: bool = False
    """Whether a latent is told the mean row and column of its cluster beside its mean feature (published: no)."""
    bottleneck_dim: int = 128
    """Hidden units of the U-Net's bottleneck (benchmark)."""
    autoreg_prior: bool = True
    """Whether an LSTM predicts the prior of each latent from the latents before it; else all are N(0, I)."""
    posterior_std_bias: float = 0.5
    """Added to the posterior's raw scale before its softplus; 0.5 (published) starts at a deviation near 0.97."""
    gate_init: float = 0.0
    """Initial weight of what the network sees, beside the pixel's coordinates, in its embedding (published: 0)."""
    context_init: float = 1.0
    """Factor on the initial weights by which an embedding sees more than its pixel's own colour (published: 1).

    Near 0, all pixels of one colour have the same embedding and the same first half of their features from the start.
    The other half of the features sees the scene, so that latents can tell where things are.
    """
    sigma_init_scale: float = 1.0
    """Factor on the kernel's initial width 1 / (K log 2), at which alpha is 0.5 at a squared distance of 1 / K."""

    sigma: float = 0.7
    """Standard deviation of a pixel around its slot's colour, in intensities of [0, 1] (benchmark)."""
    kl_mode: Literal["geco", "fixed"] = "geco"
    """Whether GECO (Rezende and Viola 2018) moves the weight of the KL, or it stays as it is (benchmark: geco)."""
    kl_weight: float = 1.0
    """Weight of the KL; with ``geco``, its initial value (benchmark: 1)."""
    target_mse: float = 3.1717e-3
    """Mean squared error per value at which GECO balances; the default is the paper's goal of 0.5655 nats."""
    g_goal: float | None = None
    """GECO's goal in nats per value; None = from ``target_mse`` and ``sigma``, or the benchmark's 0.5 to replicate.

    At the benchmark's 0.5, below the floor of 0.5623 at sigma 0.7, the weight of the KL fades within 3,000 steps.
    """
    g_lr: float = 1e-5
    """Step size of GECO at 64 pixels, divided by the growth of the loss at other sizes (benchmark)."""
    g_speedup: float = 10.0
    """How much faster GECO raises the weight of the KL than it lowers it (benchmark)."""
    mask_kl_weight: float = 0.0
    """Weight of KL(attention masks || decoder masks) per pixel, in nats (optional in the paper's release; off)."""
    mask_kl_moves: Literal["attention", "decoder", "both"] = "attention"
    """Whose masks that term moves; the paper's release detaches the decoder's."""

    replicate: bool = False
    """The published model with its quirks: evaluation samples, GECO pursues a goal out of reach. For what is not
    reproduced see docs/models.md."""

    def __post_init__(self) -> None:
        if not (0 < self.feat_dim <= 64 and self.feat_dim % 8 == 0):
            raise ValueError(f"hyperparameter feat_dim is {self.feat_dim}; it must be a multiple of 8 up to 64")
        if self.decoder_groups < 1 or self.feat_dim % self.decoder_groups:
            raise ValueError(
                f"hyperparameter decoder_groups is {self.decoder_groups}; it must divide feat_dim ({self.feat_dim})"
            )
        if self.num_slots < 2:
            raise ValueError(f"hyperparameter num_slots is {self.num_slots}; it must be at least 2")
        if self.bottleneck_dim < 1:
            raise ValueError(f"hyperparameter bottleneck_dim is {self.bottleneck_dim}; it must be at least 1")
        for key in ("encoder_lr_scale", "sigma_init_scale", "target_mse", "g_lr", "g_speedup"):
            if not getattr(self, key) > 0:
                raise ValueError(f"hyperparameter {key} is {getattr(self, key)}; it must be above zero")
        for key in ("weight_decay", "kl_weight", "mask_kl_weight", "context_init"):
            if getattr(self, key) < 0:
                raise ValueError(f"hyperparameter {key} is {getattr(self, key)}; it must not be negative")
        if not 0 <= self.warmup_frac <= 1:
            raise ValueError(f"hyperparameter warmup_frac is {self.warmup_frac}; it must lie in [0, 1]")
        if self.kl_mode == "geco" and self.goal <= self.floor:
            warnings.warn(
                f"GECO's goal of {self.goal:g} nats per value is out of reach: at sigma {self.sigma:g} it must exceed "
                f"{self.floor:.4f}, else the KL's weight fades to nothing; leave g_goal at none, set target_mse",
                stacklevel=3,
            )

    @property
    def floor(self) -> float:
        """Reconstruction error of a perfect reconstruction, in nats per value."""
        return math.log(self.sigma) + 0.5 * math.log(2 * math.pi)

    @property
    def goal(self) -> float:
        """The reconstruction error that GECO pursues, in nats per value."""
        if self.g_goal is not None:
            return self.g_goal
        if self.replicate:
            return PUBLISHED_GOAL
        return self.floor + self.target_mse / (2 * self.sigma**2)
