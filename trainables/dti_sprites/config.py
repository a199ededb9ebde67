"""Hyperparameters of DTI-Sprites."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Config:
    """Hyperparameters; the defaults are the benchmark's (Karazija et al. 2021) for CLEVR at 128x128.

    It names no others for ClevrTex; whether ClevrTex was run with ``color_projective`` is not recorded. An epoch of
    the published schedules has 1,250 steps: 40,000 images in batches of 32. Raises ValueError for values outside
    their range.
    """

    lr: float = 1e-4
    """Peak learning rate (benchmark)."""
    optimizer: str = "adam"
    """One of ``optim.NAMES`` (benchmark: adam, betas 0.9 and 0.999)."""
    batch_size: int = 32
    """Images per step (benchmark)."""
    grad_clip: float | None = None
    """Largest norm of the joint gradient; None = off (benchmark)."""
    weight_decay: float = 1e-6
    """Weight decay of encoder and heads; sprites and background have none (benchmark)."""
    encoder_lr_mult: float = 1.0
    """Factor on the encoder's learning rate.

    The published optimiser lists the encoder once per layer, once for the background and once for the order of layers,
    and Adam steps it each time: ``num_slots + 1`` times per step. ``replicate`` does the same.
    """
    sprite_lr_mult: float = 1.0
    """Factor on the learning rate of sprites and background (benchmark: 1)."""
    steps: int = 562_500
    """Training steps of a full trial (benchmark: 450 epochs)."""
    warmup_frac: float = 1000 / 562_500
    """Share of ``steps`` over which all learning rates rise linearly, with ``replicate`` from 0 (benchmark:
    1,000 steps)."""
    lr_drop1_frac: float = 250 / 450
    """Share of ``steps`` after which the learning rate of encoder and heads is a tenth (benchmark: epoch 250)."""
    lr_drop2_frac: float = 400 / 450
    """Share of ``steps`` after which it is a hundredth (benchmark: epoch 400)."""

    num_slots: int = 11
    """Segments: the layers L, which objects are to fill, plus one for the background (benchmark: 10 + 1)."""
    n_sprites: int = 10
    """K: learnt sprites, beside the empty one (benchmark)."""
    sprite_frac: float = 40 / 128
    """Side of a sprite as a share of the image's: its resolution, not its size on the canvas (benchmark: 40 pixels)."""
    scale_init: float = 0.5
    """Side of a sprite on the canvas at first, as a share of the image's (published)."""
    position_spread: float = 0.0
    """Half side of the square, centred, over which the layers' sprites are spread at first; 1 = the whole canvas.

    At 0 (published) all start at the centre, and only the search tells layers apart.
    """
    sprite_transform: Literal["projective", "color_projective", "none"] = "projective"
    """What each layer may do to each sprite, beside the layer's own colour, scale and position (benchmark)."""
    projective_frac: float = 150 / 450
    """Share of ``steps`` after which sprites, and a ``color_projective`` background, bend (benchmark: epoch 150)."""
    background_transform: Literal["color", "color_projective"] = "color"
    """What each image may do to the background (benchmark)."""

    freeze_frac: float = 40 / 450
    """Share of ``steps`` in which sprites stay as they are and no layer may be empty (benchmark: epoch 40)."""
    inject_noise: float = 0.4
    """Bound of the uniform noise on the alphas in training, which makes half-transparent sprites costly (benchmark)."""
    lambda_empty: float = 1e-4
    """Cost of a layer that is not empty, in the search only, in units of the mean squared error (benchmark)."""
    greedy_iters: int = 3
    """Sweeps over the layers in the search for their sprites (benchmark)."""
    reassign_every: int = 250
    """Steps between two reassignments, in which unused sprites become copies of the most used one (benchmark)."""

    encoder: Literal["resnet18", "small"] = "resnet18"
    """ResNet-18 without its classifier (benchmark), or a stride-2 convolution per halving down to 4 pixels."""
    enc_channels: int = 64
    """Channels of the encoder's first layer; the last has 8 times as many, in ``small`` at most 4 (benchmark)."""
    pool_size: int = 2
    """Side in cells of the map to which the encoder's output is averaged; its cells are what heads see (benchmark)."""
    head_hidden: int = 128
    """Hidden width of every head (benchmark)."""

    replicate: bool = False
    """The published model with its quirks: homographies shrink a sprite of h pixels by (h - 1) / h, and their
    denominator may have any value, even below zero. For what is not reproduced see docs/models.md.
    """

    def __post_init__(self) -> None:
        for key in ("n_sprites", "greedy_iters", "reassign_every", "enc_channels", "pool_size", "head_hidden"):
            if getattr(self, key) < 1:
                raise ValueError(f"hyperparameter {key} is {getattr(self, key)}; it must be at least 1")
        if self.num_slots < 2:
            raise ValueError(f"hyperparameter num_slots is {self.num_slots}; it must be at least 2")
        for key in ("encoder_lr_mult", "sprite_lr_mult"):
            if not getattr(self, key) > 0:
                raise ValueError(f"hyperparameter {key} is {getattr(self, key)}; it must be above zero")
        for key in ("weight_decay", "inject_noise", "lambda_empty", "position_spread"):
            if getattr(self, key) < 0:
                raise ValueError(f"hyperparameter {key} is {getattr(self, key)}; it must not be negative")
        for key in ("sprite_frac", "scale_init"):
            if not 0 < getattr(self, key) < 1:
                raise ValueError(f"hyperparameter {key} is {getattr(self, key)}; it must lie strictly between 0 and 1")
        for key in ("warmup_frac", "lr_drop1_frac", "lr_drop2_frac", "projective_frac", "freeze_frac"):
            if not 0 <= getattr(self, key) <= 1:
                raise ValueError(f"hyperparameter {key} is {getattr(self, key)}; it must lie in [0, 1]")
