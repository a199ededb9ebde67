"""Hyperparameters of EfficientMORL."""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Config:
    """Hyperparameters; the defaults are the benchmark's for CLEVR at 128x128, its changes for ClevrTex being unknown.

    The paper's authors ship other values for ClevrTex: ``likelihood="gmm"``, ``geco_target_mse=0.01605``, ``I_end=2``,
    300,000 steps with ``curriculum_frac=0.333``, and a GECO multiplier that falls five times faster than it rises.
    """

    lr: float = 4e-4
    """Peak learning rate."""
    optimizer: str = "adam"
    """One of ``optim.NAMES``."""
    batch_size: int = 32
    """Images per step, over all workers."""
    grad_clip: float | None = 5.0
    """Largest norm of the joint gradient; None = off. The loss sums over pixels, so that at first it always clips."""
    weight_decay: float = 0.0
    """Weight decay of the optimiser."""
    steps: int = 500_000
    """Training steps of a full trial; every ``*_frac`` key is a share of it."""
    warmup_frac: float = 0.02
    """Share of ``steps`` over which the learning rate rises linearly, with ``replicate`` from 0: 10,000 of
    500,000."""
    half_life_frac: float = 0.2
    """Share of ``steps`` in which the learning rate halves: 100,000 of 500,000."""

    likelihood: Literal["gaussian", "gmm"] = "gaussian"
    """A normal around the blended image (benchmark), or a mixture of the slots' normals (authors, for textures)."""
    sigma: float = 0.1
    """Standard deviation of a pixel, in intensities of [0, 1]."""
    kl_weight: float = 1.0
    """Weight of the KL terms. The likelihood sums over pixels, so that 1 weighs 4 times more at half the size."""
    use_geco: bool = True
    """Weigh the reconstruction so that it meets a target (GECO, Rezende and Viola 2018); else its weight is 1."""
    geco_target_mse: float = 2 * 0.1**2 * (-108_000 / (3 * 128**2) - math.log(0.1))
    """Squared error per value, 0.0021, whose likelihood is GECO's target: -108,000 nats at 128x128 and sigma 0.1.

    With ``gmm`` it is the error of the slot that owns a pixel. If the target is out of reach, the reconstruction's
    weight grows to its bound, 10, and the KL terms hardly count.
    """
    geco_eta: float = 1e-6
    """Step of GECO's multiplier per nat that a 128x128 image misses the target by; other sizes are scaled to it."""
    geco_warmup_frac: float = 0.002
    """Share of ``steps`` before GECO begins: 1,000 of 500,000."""

    num_slots: int = 11
    """K: objects at most, plus one for the background."""
    z_dim: int = 64
    """D: latent dimensions of a slot."""
    L: int = 3
    """Stochastic layers: rounds of attention, each with a posterior."""
    I_start: int = 3
    """Refinement steps at first; with 0 there is no refiner."""
    I_end: int = 1
    """Refinement steps from ``curriculum_frac`` on. With 0 the refiner is not trained from there on."""
    curriculum_frac: float = 0.2
    """Share of ``steps`` after which ``I_end`` holds: 100,000 of 500,000."""
    I_eval: int | None = None
    """Refinement steps in evaluation; None = as many as training takes at that step."""

    enc_channels: int = 64
    """Channels of the encoder's convolutions."""
    encoder_strides: str = "1,1,1,1"
    """Stride of each encoder convolution (published: four at full resolution)."""
    kernel_size: int = 5
    """Side in pixels of the encoder's kernels."""
    hidden: int = 128
    """Hidden width of prior and refiner."""
    decoder: Literal["broadcast", "deconv"] = "broadcast"
    """Convolutions at full resolution (benchmark), or transposed ones that each double a small grid."""
    dec_channels: int = 64
    """Channels of the decoder's convolutions."""
    dec_layers: int = 4
    """Convolutions of the decoder before the output layer."""
    init_gain: float = 0.02
    """Gain of the Xavier normal initial weights. At 0.02 all slots are equal at first, and the loss falls late."""
    gru_init: Literal["normal", "default"] = "normal"
    """Initial weights and biases of the slots' GRUs: N(0, 1) (published) or torch's."""
    s_init: float = 1.0
    """Initial variance parameter of the slots before attention: softplus(1) is a variance of 1.31."""
    s_bias: float = 0.0
    """Initial bias of what each layer adds to the slots' variance parameters; below 0 posteriors start narrow."""
    replicate: bool = False
    """Compute the published model's numbers where ours differ: refinement reads the gradient of the batch's *mean*,
    which depends on the batch size, and GECO's multiplier has no upper bound. GECO's target and step are the published
    ones at 128x128; other sizes scale them in either case. For what is not reproduced see docs/models.md."""

    def __post_init__(self) -> None:
        """Raises ValueError for a value outside its range."""
        for key in ("z_dim", "L", "enc_channels", "hidden", "dec_channels", "dec_layers"):
            if getattr(self, key) < 1:
                raise ValueError(f"hyperparameter {key} is {getattr(self, key)}; it must be at least 1")
        for key in ("half_life_frac", "geco_target_mse", "geco_eta", "init_gain"):
            if not getattr(self, key) > 0:
                raise ValueError(f"hyperparameter {key} is {getattr(self, key)}; it must be above zero")
        for key in ("warmup_frac", "geco_warmup_frac", "curriculum_frac"):
            if not 0 <= getattr(self, key) <= 1:
                raise ValueError(f"hyperparameter {key} is {getattr(self, key)}; it must lie in [0, 1]")
        for key in ("weight_decay", "kl_weight", "I_start", "I_end"):
            if getattr(self, key) < 0:
                raise ValueError(f"hyperparameter {key} is {getattr(self, key)}; it must not be negative")
        if self.I_eval is not None and self.I_eval < 0:
            raise ValueError(f"hyperparameter I_eval is {self.I_eval}; it must be none or not negative")
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise ValueError(f"hyperparameter kernel_size is {self.kernel_size}; it must be odd")
        if not all(stride in ("1", "2") for stride in self.encoder_strides.split(",")):
            raise ValueError(
                f"hyperparameter encoder_strides is {self.encoder_strides!r}; it must list 1s and 2s like '1,2,1,1'"
            )

    @property
    def strides(self) -> list[int]:
        """``encoder_strides`` as numbers."""
        return [int(stride) for stride in self.encoder_strides.split(",")]
