"""Hyperparameters of MarioNette."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Config:
    """Hyperparameters; the defaults are the ClevrTex benchmark's (Karazija et al. 2021) at 128x128.

    The benchmark did not record which switches it set for which data set: the defaults are those of its script.
    """

    lr: float = 1e-4
    """Learning rate of everything but the background dictionary (benchmark)."""
    lr_background: float = 1e-3
    """Learning rate of the background dictionary (benchmark)."""
    optimizer: str = "adamw"
    """One of ``optim.NAMES`` (benchmark: adamw, betas 0.9 and 0.999)."""
    batch_size: int = 8
    """Images per step, over all workers (benchmark)."""
    grad_clip: float | None = None
    """Largest norm of the joint gradient; None = off (benchmark)."""
    weight_decay: float = 0.01
    """Decoupled weight decay of all parameters (benchmark)."""
    steps: int = 200_000
    """Training steps of a full trial (benchmark)."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Course of both learning rates: none (benchmark), or half a cosine down to 0 at ``steps``."""

    n_layers: int = 2
    """N: layers of sprites, one behind the other (benchmark)."""
    n_sprites: int = 150
    """C: entries of the dictionary of sprites (benchmark)."""
    anchor_spacing: int = 16
    """p: pixels between two anchors, a power of two; sprites are 2p wide (benchmark: 16, so 8x8 anchors at 128)."""
    code_dim: int = 128
    """d: width of the codes of anchors and sprites, a multiple of 8 (benchmark)."""
    shift_width: int = 128
    """Channels of the network that shifts the sprites, a multiple of 8 (benchmark: d). It is most of all work."""
    n_backgrounds: int = 1
    """M: entries of the dictionary of backgrounds; one is the same picture behind all images (benchmark)."""
    background_dim: int = 8
    """e: width of the codes of backgrounds, a multiple of 8 (not recorded; the benchmark's script says 4, which its
    own normalisation in 8 groups refuses)."""
    alpha_bias: float = 0.0
    """Added to the initial logits of the sprites' alpha; below 0 sprites grow out of nothing, instead of covering the
    ground from the start (benchmark: 0)."""
    background_init: Literal["random", "mean"] = "random"
    """Whether the backgrounds start as noise (benchmark) or all as the mean of the training images."""
    logit_scale: float = 1.0
    """Factor on the logits of the choice of a sprite, which lie within the square root of d (benchmark: none)."""

    lambda_beta: float = 2e-3
    """Weight of the Beta(2, 2) density of choices and switches, largest at 1/2 (benchmark)."""
    lambda_switch: float = 5e-3
    """Weight of the mean switch, the price of a sprite (benchmark)."""
    lambda_switch_frac: float = 0.0
    """Share of ``steps`` over which ``lambda_switch`` rises linearly from 0, so that the background does not win
    before there are sprites (benchmark: none)."""
    switch: Literal["soft", "straight_through"] = "soft"
    """Whether switches act as they are (benchmark) or rounded, with the gradient of the unrounded."""
    switch_bias: float = 0.0
    """Added to the switches' initial logits; above 0 more sprites are there at first (benchmark: 0)."""
    switch_scales_colour: bool = True
    """Whether a switch darkens a sprite's colour beside its alpha (benchmark); at 0 and 1 there is no difference."""
    hard_eval: Literal["off", "switch", "all"] = "off"
    """What evaluation rounds: nothing (benchmark: not stated; it validates so), the switches, so that a sprite is
    there or not, or also the choices, so that it is one of the dictionary and no blend."""
    replicate: bool = False
    """The published model with its quirks: the order of overlapping anchors is drawn in evaluation too, the encoder
    of a single background exists, though nothing depends on it, and narrow layers are normalised in 8 groups too."""

    def __post_init__(self) -> None:
        """Raises ValueError for a value outside its range."""
        for key in ("n_layers", "n_sprites", "n_backgrounds"):
            if getattr(self, key) < 1:
                raise ValueError(f"hyperparameter {key} is {getattr(self, key)}; it must be at least 1")
        for key in ("code_dim", "shift_width", "background_dim"):
            if getattr(self, key) < 8 or getattr(self, key) % 8:
                raise ValueError(f"hyperparameter {key} is {getattr(self, key)}; it must be a multiple of 8")
        if self.anchor_spacing < 4 or self.anchor_spacing & (self.anchor_spacing - 1):
            raise ValueError(
                f"hyperparameter anchor_spacing is {self.anchor_spacing}; it must be a power of two from 4 pixels on"
            )
        for key in ("lr_background", "logit_scale"):
            if not getattr(self, key) > 0:
                raise ValueError(f"hyperparameter {key} is {getattr(self, key)}; it must be above zero")
        for key in ("weight_decay", "lambda_beta", "lambda_switch"):
            if getattr(self, key) < 0:
                raise ValueError(f"hyperparameter {key} is {getattr(self, key)}; it must not be negative")
        if not 0 <= self.lambda_switch_frac <= 1:
            raise ValueError(f"hyperparameter lambda_switch_frac is {self.lambda_switch_frac}; it must lie in [0, 1]")
