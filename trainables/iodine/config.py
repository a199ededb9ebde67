"""Hyperparameters of IODINE."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Config:
    """Hyperparameters; the defaults are the benchmark's for ClevrTex and CLEVR at 128x128 (they do not differ)."""

    lr: float = 3e-4
    """Peak learning rate (benchmark; Greff et al. 2019, appendix B)."""
    optimizer: str = "adam"
    """One of ``optim.NAMES`` (benchmark: adam, betas 0.9 and 0.999)."""
    batch_size: int = 32
    """Images per step (benchmark)."""
    grad_clip: float | None = 5.0
    """Largest gradient norm; None = off. The loss sums over pixels, so the published clip is nearly always active."""
    weight_decay: float = 0.0
    """Weight decay of the optimiser (benchmark: none)."""
    steps: int = 1_000_000
    """Training steps of a full trial (benchmark)."""
    schedule: Literal["constant", "exp", "cosine"] = "constant"
    """Decay of the learning rate over ``steps``: none (benchmark), to a tenth, or half a cosine down to 0."""
    warmup_frac: float = 0.0
    """Share of ``steps`` over which the learning rate rises linearly (benchmark: none)."""
    num_slots: int = 11
    """K: objects at most, plus one for the background (benchmark: 10 + 1)."""
    num_iters: int = 5
    """T: decodes, with a refinement between each two (benchmark: 5 decodes, 4 refinements)."""
    z_size: int = 128
    """Z: latent dimensions of a slot (benchmark)."""
    lstm_dim: int = 256
    """Hidden units of the refinement LSTM and width of the features before it (benchmark)."""
    refine_channels: int = 64
    """Channels of the refinement network's four convolutions (benchmark)."""
    dec_channels: int = 64
    """Channels of the decoder's convolutions (benchmark)."""
    dec_layers: int = 4
    """Convolutions of the decoder before its 1x1 output layer (benchmark)."""
    dec_kernel: int = 3
    """Side in pixels of the decoder's kernels (benchmark); 1 decodes each pixel alone, from latent and position."""
    sigma: float = 0.1
    """Standard deviation of a pixel around its slot's colour, in intensities of [0, 1] (benchmark)."""
    sigma_start: float | None = None
    """Standard deviation at step 0; from there it moves linearly to ``sigma``. None = ``sigma`` (benchmark)."""
    sigma_warmup_frac: float = 0.0
    """Share of ``steps`` over which the standard deviation moves (benchmark: none)."""
    kl_weight: float = 1.0
    """Weight of the KL term, beta (benchmark)."""
    mixture: Literal["channel", "pixel"] = "channel"
    """Whether each colour channel chooses its own slot (benchmark) or a pixel's channels choose together (paper)."""
    weigh_first: bool = True
    """Whether iterations weigh 1/T, 2/T, ... 1 in the loss (benchmark); else 0, ... 1, as in the paper, so that nothing
    keeps samples of the initial posterior from showing something else in each slot."""
    init_gain: float = 1.0
    """Gain of the Xavier-normal initial weights. The benchmark's 0.02, which ``replicate`` takes instead, makes all
    slots alike to 1e-7 at the start."""
    scale_init: float = 1.0
    """Initial scale s of the posterior; its variance is softplus(s) (benchmark: 1, a variance of 1.31)."""
    replicate: bool = False
    """Follow the benchmark where it errs: the objective that is refined is averaged over the batch, so that inference
    depends on the batch's size; norms have an affine map per pixel; the mask posterior enters in log scale; the
    variance has no floor; weights start at a gain of 0.02. For what is not reproduced see docs/models.md.

    With every other key at its default and 128 pixels the model is then the published one, tensor by tensor.
    """

    def __post_init__(self) -> None:
        """Raises ValueError for a value outside its range."""
        for key in ("num_iters", "z_size", "lstm_dim", "refine_channels", "dec_channels", "dec_layers"):
            if getattr(self, key) < 1:
                raise ValueError(f"hyperparameter {key} is {getattr(self, key)}; it must be at least 1")
        if self.num_slots < 2:
            raise ValueError(f"hyperparameter num_slots is {self.num_slots}; it must be at least 2")
        if self.num_iters < 2 and not self.weigh_first:
            raise ValueError(f"hyperparameter num_iters is {self.num_iters}; without weigh_first it must be at least 2")
        if self.dec_kernel < 1 or self.dec_kernel % 2 == 0:
            raise ValueError(f"hyperparameter dec_kernel is {self.dec_kernel}; it must be odd")
        if not self.init_gain > 0:
            raise ValueError(f"hyperparameter init_gain is {self.init_gain}; it must be above zero")
        if self.sigma_start is not None and not self.sigma_start > 0:
            raise ValueError(f"hyperparameter sigma_start is {self.sigma_start}; it must be above zero, or none")
        for key in ("warmup_frac", "sigma_warmup_frac"):
            if not 0 <= getattr(self, key) <= 1:
                raise ValueError(f"hyperparameter {key} is {getattr(self, key)}; it must lie in [0, 1]")
        for key in ("kl_weight", "weight_decay"):
            if getattr(self, key) < 0:
                raise ValueError(f"hyperparameter {key} is {getattr(self, key)}; it must not be negative")
