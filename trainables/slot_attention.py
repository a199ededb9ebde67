"""Slot Attention: slots compete for the tokens of an image, then each is decoded alone into colour and mask.

Paper: Locatello et al. 2020, "Object-Centric Learning with Slot Attention", arXiv:2006.15055. The defaults are those
of the ClevrTex benchmark, Karazija et al. 2021, arXiv:2111.10265.

Axes: B batch, K slots, N tokens, D slot width, C channels, H W pixels. Layer names E1-E8 and D0-D7 number the layers
from the image to the tokens and from the slots to the image, in the order in which they are registered.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables import noise
from trainables.conv_blocks import relu_convs, side_after
from trainables.model import SegmentationModel
from trainables.output import SegmentationOutput
from trainables.positions import ramps
from trainables.schedules import half_cosine, warm_up


@dataclass(frozen=True)
class Config:
    """Hyperparameters; the defaults are the benchmark's for ClevrTex and CLEVR at 128x128 (they do not differ)."""

    lr: float = 4e-4
    """Peak learning rate of Adam (benchmark, as in Locatello et al. 2020, appendix E)."""
    optimizer: str = "adam"
    """One of ``optim.NAMES`` (benchmark: adam, betas 0.9 and 0.999)."""
    batch_size: int = 64
    """Images per step (benchmark)."""
    grad_clip: float | None = None
    """Largest gradient norm of the *mean* squared error, so that a threshold suits every image size; None = off."""
    weight_decay: float = 0.0
    """Weight decay of the optimiser (benchmark: none)."""
    steps: int = 500_000
    """Training steps of a full trial (benchmark)."""
    schedule: Literal["exp", "cosine"] = "exp"
    """Decay of the learning rate: a half-life (benchmark) or half a cosine down to 0 at ``steps``."""
    warmup_frac: float = 0.02
    """Share of ``steps`` over which the learning rate rises linearly, with ``replicate`` from 0
    (benchmark: 10,000 of 500,000)."""
    half_life_frac: float = 0.2
    """Share of ``steps`` in which ``exp`` halves the learning rate (benchmark: 100,000 of 500,000)."""
    num_slots: int = 11
    """K: objects at most, plus one for the background (benchmark: 10 + 1)."""
    num_iters: int = 3
    """T: rounds of attention (benchmark)."""
    slot_dim: int = 64
    """D: numbers per slot (benchmark)."""
    slot_mlp_hidden: int = 128
    """Hidden width of the slots' residual MLP (benchmark)."""
    qkv_bias: bool = True
    """Biases in the query, key and value maps (benchmark; the original release has none)."""
    qk_gain: float = 1.0
    """Factor on the initial query and key weights; sqrt(3) gives the original release's Glorot bound."""
    log_sigma_init: float = 0.0
    """Centre of the initial log standard deviation of the slots' prior (benchmark)."""
    enc_channels: int = 64
    """Channels of the encoder's convolutions (benchmark)."""
    encoder_strides: str = "1,1,1,1"
    """Stride of each encoder convolution (benchmark: four at full resolution, N = HW tokens)."""
    dec_channels: int = 64
    """Channels of the decoder's convolutions (benchmark)."""
    dec_base: int = 8
    """Smallest side of the grid on which slots are broadcast; doubled at most four times (benchmark: 8 -> 128)."""
    dec_refine: bool = True
    """Whether a convolution at full resolution (D6, 61 % of all work) precedes the output layer (benchmark)."""
    kernel_size: int = 5
    """Side in pixels of every kernel but the output layer's (benchmark)."""
    replicate: bool = False
    """Normalise encoder features over (C, H, W) jointly, affine per element, as the benchmark does; else per token.

    With every other key at its default and 128 pixels the model is then the published one, tensor by tensor.
    """

    def __post_init__(self) -> None:
        """Raises ValueError for a value outside its range."""
        for key in ("num_iters", "slot_dim", "slot_mlp_hidden", "enc_channels", "dec_channels", "dec_base"):
            if getattr(self, key) < 1:
                raise ValueError(f"hyperparameter {key} is {getattr(self, key)}; it must be at least 1")
        for key in ("half_life_frac", "qk_gain"):
            if not getattr(self, key) > 0:
                raise ValueError(f"hyperparameter {key} is {getattr(self, key)}; it must be above zero")
        if not 0 <= self.warmup_frac <= 1:
            raise ValueError(f"hyperparameter warmup_frac is {self.warmup_frac}; it must lie in [0, 1]")
        if self.weight_decay < 0:
            raise ValueError(f"hyperparameter weight_decay is {self.weight_decay}; it must not be negative")
        if self.kernel_size < 3 or self.kernel_size % 2 == 0:
            raise ValueError(f"hyperparameter kernel_size is {self.kernel_size}; it must be odd and at least 3")
        if not all(stride in ("1", "2") for stride in self.encoder_strides.split(",")):
            raise ValueError(
                f"hyperparameter encoder_strides is {self.encoder_strides!r}; it must list 1s and 2s like '1,2,1,1'"
            )

    @property
    def strides(self) -> list[int]:
        """``encoder_strides`` as numbers."""
        return [int(stride) for stride in self.encoder_strides.split(",")]


class Encoder(nn.Module):
    """Image -> position-tagged tokens (E1-E8)."""

    def __init__(self, config: Config, image_size: int):
        super().__init__()
        c, side = config.enc_channels, side_after(config.strides, image_size)
        self.conv = relu_convs(c, config.kernel_size, config.strides)
        self.position = nn.Linear(4, c)
        self.norm = nn.LayerNorm([c, side, side] if config.replicate else c)
        self.mlp = nn.Sequential(nn.Linear(c, c), nn.ReLU(), nn.Linear(c, c))
        self.register_buffer("grid", ramps(side), persistent=False)  # (side, side, 4)

    def forward(self, image: Tensor) -> Tensor:
        """Tokens (B, N, C) of ``image`` (B, 3, H, W)."""
        x = self.conv(image).permute(0, 2, 3, 1) + self.position(self.grid)  # (B, h, w, C)
        if self.norm.weight.ndim == 3:
            x = self.norm(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        else:
            x = self.norm(x)
        return self.mlp(x.flatten(1, 2))


class SlotAttention(nn.Module):
    """Tokens -> slots (Locatello et al. 2020, algorithm 1), without stopping any gradient."""

    def __init__(self, config: Config):
        super().__init__()
        c, d = config.enc_channels, config.slot_dim
        self.num_iters = config.num_iters
        self.to_q = nn.Linear(d, d, bias=config.qkv_bias)
        self.to_k = nn.Linear(c, d, bias=config.qkv_bias)
        self.to_v = nn.Linear(c, d, bias=config.qkv_bias)
        with torch.no_grad():
            self.to_q.weight.mul_(config.qk_gain)
            self.to_k.weight.mul_(config.qk_gain)
        self.gru = nn.GRUCell(d, d)
        self.mlp = nn.Sequential(nn.Linear(d, config.slot_mlp_hidden), nn.ReLU(), nn.Linear(config.slot_mlp_hidden, d))
        self.norm_inputs = nn.LayerNorm(c)
        self.norm_slots = nn.LayerNorm(d)
        self.norm_mlp = nn.LayerNorm(d)
        self.mu = nn.Parameter(torch.randn(1, 1, d))
        bound = math.sqrt(6 / (2 * d))  # Xavier uniform of a (1, 1, D) tensor
        self.log_sigma = nn.Parameter(torch.empty(1, 1, d).uniform_(-bound, bound) + config.log_sigma_init)

    def forward(self, tokens: Tensor, num_slots: int) -> tuple[Tensor, Tensor]:
        """Slots (B, K, D) and the last round's attention (B, K, N), which sums to 1 over the slots."""
        inputs = self.norm_inputs(tokens)
        k, v = self.to_k(inputs), self.to_v(inputs)  # (B, N, D)
        B, _, D = k.shape
        slots = self.mu + self.log_sigma.exp() * noise.normal((B, num_slots, D), k)  # (B, K, D)
        for _ in range(self.num_iters):
            q = self.to_q(self.norm_slots(slots)) * D**-0.5  # (B, K, D)
            attention = torch.softmax(q @ k.mT, dim=1)  # (B, K, N): the slots compete for each token
            weights = attention + 1e-8
            updates = (weights / weights.sum(2, keepdim=True)) @ v  # (B, K, D)
            slots = self.gru(updates.flatten(0, 1), slots.flatten(0, 1)).view(B, num_slots, D)
            slots = slots + self.mlp(self.norm_mlp(slots))
        return slots, attention


class UnitStrideTranspose(nn.ConvTranspose2d):
    """A transposed convolution of stride 1, computed as a plain convolution: the same numbers, 3 % faster."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(B, C, H, W) -> (B, C', H, W), for odd kernels padded to keep the size."""
        weight = self.weight.transpose(0, 1).flip(2, 3)
        return F.conv2d(x, weight, self.bias, padding=self.kernel_size[0] // 2)


class Decoder(nn.Module):
    """Slots -> colours and mask logits, each slot alone: the spatial broadcast decoder (D0-D7)."""

    def __init__(self, config: Config, image_size: int):
        super().__init__()
        c, d, kernel = config.dec_channels, config.slot_dim, config.kernel_size
        sides = [image_size >> n for n in range(5) if image_size % 2**n == 0]
        doublings = max((n for n, side in enumerate(sides) if side >= config.dec_base), default=0)
        self.position = nn.Linear(4, d)
        layers: list[nn.Module] = []
        width = d
        for _ in range(doublings):
            layers += [nn.ConvTranspose2d(width, c, kernel, 2, kernel // 2, output_padding=1), nn.ReLU(inplace=True)]
            width = c
        if config.dec_refine:
            layers += [UnitStrideTranspose(width, c, kernel, 1, kernel // 2), nn.ReLU(inplace=True)]
            width = c
        self.conv = nn.Sequential(*layers, nn.ConvTranspose2d(width, 4, 3, 1, 1))
        self.register_buffer("grid", ramps(image_size >> doublings), persistent=False)  # (side, side, 4)

    def forward(self, slots: Tensor) -> tuple[Tensor, Tensor]:
        """Colours (B, K, 3, H, W), unbounded, and mask logits (B, K, 1, H, W) of ``slots`` (B, K, D)."""
        position = self.position(self.grid).permute(2, 0, 1)  # (D, side, side)
        x = self.conv(slots.flatten(0, 1)[:, :, None, None] + position)  # (B*K, 4, H, W)
        colour, logits = x.unflatten(0, slots.shape[:2]).float().split([3, 1], dim=2)
        return colour, logits


class Model(SegmentationModel):
    """Slot Attention for square images.

    Noise: one ``noise.normal`` of shape (B, K, D) per forward, in training and in evaluation. No slot is reserved
    for the background. ``num_slots`` may be set to another K at any time without training again.
    """

    def __init__(self, config: Config, image_size: int):
        super().__init__(config, image_size)
        self.num_slots = config.num_slots
        self.encoder = Encoder(config, image_size)
        self.slot_attention = SlotAttention(config)
        self.decoder = Decoder(config, image_size)

    def forward(self, image: Tensor, step: int) -> SegmentationOutput:
        """Explain ``image`` (B, 3, H, W); the loss is the squared error, summed over C, H, W, mean over B."""
        tokens = self.encoder(image)  # (B, N, C)
        with torch.autocast(image.device.type, enabled=False):  # 1e-8 in the weights and the GRU need float32
            slots, attention = self.slot_attention(tokens.float(), self.num_slots)
        colour, logits = self.decoder(slots)
        masks = logits.softmax(1)  # (B, K, 1, H, W)
        reconstruction = (masks * colour).sum(1)  # (B, 3, H, W)
        loss = (reconstruction - image).square().sum((1, 2, 3)).mean()
        # in nats: 0 when each token belongs to one slot, log K when the slots do not compete
        entropy = torch.special.entr(attention.detach()).sum(1).mean()
        return SegmentationOutput(loss, reconstruction, masks, {"attention_entropy": entropy}, appearances=colour)

    def lr_scale(self, step: int) -> list[float]:
        """Linear warm-up times decay; both begin at step 0."""
        c = self.config
        rise = warm_up(step, c.warmup_frac * c.steps, from_zero=c.replicate)
        if c.schedule == "cosine":
            return [rise * half_cosine(step, c.steps)]
        return [rise * 0.5 ** (step / (c.half_life_frac * c.steps))]

    def clip_norm(self) -> float | None:
        """``grad_clip`` on the scale of our loss, which is 3HW times the mean squared error."""
        clip = self.config.grad_clip
        return None if clip is None else clip * 3 * self.image_size**2
