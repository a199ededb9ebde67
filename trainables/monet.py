"""MONet: a recurrent attention network divides an image into parts, one variational autoencoder explains each part.

Paper: Burgess et al. 2019, "MONet: Unsupervised Scene Decomposition and Representation", arXiv:1901.11390. The
defaults are those of the ClevrTex benchmark, Karazija et al. 2021, arXiv:2111.10265.

Axes: B batch, K slots, M = B*K, D latent dimensions, C channels, H W pixels. A *scope* is the share of a pixel that no
slot has claimed yet; masks and scopes are kept as logarithms throughout.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.distributions import mixture_log_density, sample_normal
from trainables.model import SegmentationModel
from trainables.output import SegmentationOutput
from trainables.positions import coordinates
from trainables.schedules import warm_up
from trainables.spatial_broadcast import broadcast_conv

MAX_LOG_STD = 5.0
"""Upper bound of a latent's log standard deviation: after too long a first step its exponential would overflow."""


@dataclass(frozen=True)
class Config:
    """Hyperparameters; the defaults are the benchmark's for CLEVR at 128x128: it names no others for ClevrTex."""

    lr: float = 1e-4
    """Peak learning rate (benchmark)."""
    optimizer: str = "rmsprop"
    """One of ``optim.NAMES`` (benchmark: rmsprop with torch's defaults)."""
    batch_size: int = 63
    """Images per step (benchmark: 21 on each of 3 GPUs)."""
    grad_clip: float | None = None
    """Largest gradient norm; None = off (benchmark). The loss sums over pixels: norms of 1e3 to 1e5 are usual."""
    weight_decay: float = 0.0
    """Weight decay of the optimiser (benchmark: none)."""
    steps: int = 1_000_000
    """Training steps of a full trial (benchmark)."""
    warmup_frac: float = 0.0
    """Share of ``steps`` over which the learning rate rises linearly (benchmark: none)."""
    half_life_frac: float | None = None
    """Share of ``steps`` in which the learning rate halves; None = constant (benchmark)."""
    num_slots: int = 11
    """K: objects at most, plus one for the background (benchmark: 10 + 1)."""
    sigma: float = 0.15
    """Standard deviation of a pixel in slots 1 to K-1, in intensities of [0, 1] (benchmark; the paper has 0.11)."""
    sigma_bg: float = 0.09
    """Standard deviation of a pixel in slot 0: the smaller, the sooner slot 0 takes the background (benchmark)."""
    mixture: Literal["channel", "pixel"] = "channel"
    """Whether each colour channel of a pixel is a mixture of its own (benchmark), or the pixel as a whole.

    Channel by channel, a few slots in shades of grey already explain all colours well.
    """
    kl_weight: float = 0.5
    """beta: weight of the latents' KL (benchmark)."""
    mask_kl_weight: float = 0.5
    """gamma: weight of the KL from attention to decoded masks (benchmark)."""
    z_dim: int = 16
    """D: latent dimensions of a component (benchmark)."""
    unet_blocks: int | None = None
    """Blocks on each side of the U-Net; None = down to a map of 3 or 4 pixels: the published 6 at 128, 5 at 64."""
    unet_width: int = 64
    """Channels of the U-Net at full resolution; doubled three times on the way down (benchmark)."""
    unet_hidden: int = 128
    """Hidden width of the MLP at the bottom of the U-Net (benchmark)."""
    comp_width: int = 32
    """Channels of the component decoder and the encoder's first half; the second half has twice as many (benchmark)."""
    dec_convs: int = 4
    """3x3 convolutions of the component decoder (benchmark)."""
    enc_hidden: int = 256
    """Hidden width of the component encoder's MLP (benchmark)."""
    comp_gain: float = 1.0
    """Factor on the initial weights before each ReLU of component encoder and decoder (benchmark).

    sqrt(6) turns torch's bound into that of He et al. 2015, under which colours reach the latents from the start.
    """
    log_mask_floor: float | None = None
    """Lower bound of the log masks that the encoder sees, in nats; None = unbounded (benchmark)."""
    replicate: bool = False
    """Sample the latents in evaluation too, as the published model does, instead of taking their means, and leave
    their standard deviations unbounded.

    With every other key at its default the model is the published one in either case, tensor by tensor.
    """

    def __post_init__(self) -> None:
        """Raises ValueError for a value outside its range."""
        for key in ("z_dim", "unet_width", "unet_hidden", "comp_width", "dec_convs", "enc_hidden"):
            if getattr(self, key) < 1:
                raise ValueError(f"hyperparameter {key} is {getattr(self, key)}; it must be at least 1")
        for key in ("weight_decay", "kl_weight", "mask_kl_weight"):
            if getattr(self, key) < 0:
                raise ValueError(f"hyperparameter {key} is {getattr(self, key)}; it must not be negative")
        for key in ("sigma_bg", "comp_gain"):
            if not getattr(self, key) > 0:
                raise ValueError(f"hyperparameter {key} is {getattr(self, key)}; it must be above zero")
        if not 0 <= self.warmup_frac <= 1:
            raise ValueError(f"hyperparameter warmup_frac is {self.warmup_frac}; it must lie in [0, 1]")
        if self.half_life_frac is not None and not self.half_life_frac > 0:
            raise ValueError(f"hyperparameter half_life_frac is {self.half_life_frac}; it must be above zero or none")
        if self.unet_blocks is not None and self.unet_blocks < 2:
            raise ValueError(f"hyperparameter unet_blocks is {self.unet_blocks}; it must be at least 2 or none")
        if self.log_mask_floor is not None and not self.log_mask_floor < 0:
            raise ValueError(f"hyperparameter log_mask_floor is {self.log_mask_floor}; it must be below zero or none")


class Block(nn.Module):
    """3x3 convolution without bias, instance norm, ReLU."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm = nn.InstanceNorm2d(outputs, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H, W)."""
        return self.normalise(self.conv(x))

    def normalise(self, x: Tensor) -> Tensor:
        """Norm and ReLU of the convolution's output; as groups of one channel the norm is 4 times faster on CPUs."""
        return F.relu(F.group_norm(x, x.shape[1], self.norm.weight, self.norm.bias, self.norm.eps), inplace=True)


class UpBlock(Block):
    """A block that sees what comes from below, at the size of the skip connection, and the skip connection."""

    def __init__(self, below: int, skip: int, outputs: int):
        super().__init__(below + skip, outputs)
        self.below = below

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        """(B, below, h, h) and (B, skip, H, H) -> (B, outputs, H, H), where h is H or H / 2."""
        assert skip is not None
        if x.shape[-1] == skip.shape[-1]:
            return super().forward(torch.cat([x, skip], 1))
        if skip.shape[-1] < 32:  # on small maps the other way costs more than it saves
            return super().forward(torch.cat([F.interpolate(x, scale_factor=2), skip], 1))
        below, beside = self.conv.weight.split([self.below, skip.shape[1]], 1)
        return self.normalise(upsampled_conv(x, below) + F.conv2d(skip, beside, padding=1))


def upsampled_conv(x: Tensor, kernel: Tensor) -> Tensor:
    """(B, O, 2h, 2w): the 3x3 convolution by ``kernel`` (O, I, 3, 3) of ``x`` (B, I, h, w), doubled to nearest pixels.

    Four of the nine taps meet copies of a pixel that another tap meets. Added up beforehand they make a transposed
    convolution of stride 2 by a 4x4 kernel: the same numbers in 4/9 of the work.
    """
    doubled = 4 * F.avg_pool2d(kernel, 2, stride=1, padding=1)  # (O, I, 4, 4)
    return F.conv_transpose2d(x, doubled.transpose(0, 1).flip(2, 3), stride=2, padding=1)


class UNet(nn.Module):
    """Image and log scope -> attention logits (Ronneberger et al. 2015, with an MLP at the bottom)."""

    def __init__(self, config: Config, image_size: int):
        super().__init__()
        # down to a map of 3 or 4 pixels
        blocks = config.unet_blocks or max(2, (image_size // 3).bit_length())
        side = image_size >> (blocks - 1)
        if image_size % 2 ** (blocks - 1) or side < 2:
            raise ValueError(
                f"unet_blocks is {config.unet_blocks} and the image size {image_size}; {blocks} blocks need "
                f"a multiple of {2 ** (blocks - 1)} pixels, {2**blocks} at least"
            )
        widths = [config.unet_width * min(2**i, 8) for i in range(blocks - 1)]
        widths.append(widths[-1])
        outputs = [widths[-1], *reversed(widths[:-2]), widths[0]]
        bottom, hidden = widths[-1] * side**2, config.unet_hidden
        self.down = nn.ModuleList(map(Block, [4, *widths[:-1]], widths))
        self.mlp = nn.Sequential(
            *(nn.Linear(bottom, hidden), nn.ReLU()),
            *(nn.Linear(hidden, hidden), nn.ReLU()),
            *(nn.Linear(hidden, bottom), nn.ReLU()),
        )
        self.up = nn.ModuleList(map(UpBlock, [widths[-1], *outputs[:-1]], reversed(widths), outputs))
        self.output = nn.Conv2d(widths[0], 1, 1)

    @property
    def first(self) -> Block:
        """The block that sees the image and the log scope."""
        block = self.down[0]
        assert isinstance(block, Block)
        return block

    def embed(self, image: Tensor) -> Tensor:
        """What the first convolution makes of ``image`` (B, 3, H, W), the same for every slot: (B, C, HW)."""
        return F.conv2d(image, self.first.conv.weight[:, :3], padding=1).flatten(2)

    def forward(self, embedded: Tensor, log_scope: Tensor) -> Tensor:
        """Logits (B, 1, H, W) of the share of the scope that the next slot claims.

        ``embedded`` (B, C, HW) comes from :meth:`embed`; ``log_scope`` is (B, 1, H, W).
        """
        kernel = self.first.conv.weight[:, 3:].flatten(1).expand(len(embedded), -1, -1)  # (B, C, 9)
        x = torch.baddbmm(embedded, kernel, F.unfold(log_scope, 3, padding=1))  # (B, C, HW)
        skips = [self.first.normalise(x.unflatten(2, log_scope.shape[2:]))]
        for block in self.down[1:]:
            skips.append(block(skips[-1][..., ::2, ::2]))
        x = self.mlp(skips[-1].flatten(1)).view_as(skips[-1])
        for block in self.up:
            x = block(x, skips.pop())
        return self.output(x)


class Encoder(nn.Sequential):
    """Image and log mask (M, 4, H, W) -> mean and log standard deviation of the latents (M, 2D)."""

    def __init__(self, config: Config, image_size: int):
        w = config.comp_width
        layers: list[nn.Module] = []
        for inputs, outputs in [(4, w), (w, w), (w, 2 * w), (2 * w, 2 * w)]:
            layers += [nn.Conv2d(inputs, outputs, 3, 2, 1), nn.ReLU(inplace=True)]
        side = -(-image_size // 16)
        super().__init__(
            *layers,
            nn.Flatten(),
            nn.Linear(2 * w * side**2, config.enc_hidden),
            nn.ReLU(inplace=True),
            nn.Linear(config.enc_hidden, 2 * config.z_dim),
        )


class Decoder(nn.Module):
    """Latents -> colours and mask logits: the spatial broadcast decoder, whose unpadded layers shrink a larger grid."""

    def __init__(self, config: Config, image_size: int):
        super().__init__()
        w = config.comp_width
        self.first = nn.Conv2d(config.z_dim + 2, w, 3)
        self.rest = nn.Sequential(
            nn.ReLU(inplace=True),
            *(layer for _ in range(config.dec_convs - 1) for layer in (nn.Conv2d(w, w, 3), nn.ReLU(inplace=True))),
            nn.Conv2d(w, 4, 1),
        )
        # (1, 2, H + 8, W + 8): the row, then the column; channels last, as all that follows: a third less time on CPUs
        grid = coordinates(image_size + 2 * config.dec_convs)[None].contiguous(memory_format=torch.channels_last)
        self.register_buffer("coordinates", grid, persistent=False)
        self.coordinates: Tensor

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Colours (B, K, 3, H, W) in [0, 1] and mask logits (B, K, 1, H, W) of latents ``z`` (B, K, D)."""
        x = self.rest(broadcast_conv(self.first, z.flatten(0, 1), self.coordinates))  # (M, 4, H, W)
        colour, logits = x.unflatten(0, z.shape[:2]).float().split([3, 1], dim=2)
        return colour.sigmoid(), logits


class Model(SegmentationModel):
    """MONet for square images.

    Noise: one ``noise.normal`` of shape (B, K, D) per forward in training; evaluation takes the latents' means. Slot 0
    is meant for the background, but only its smaller ``sigma_bg`` favours that. No weight depends on the number of
    slots: ``num_slots`` may be set to another K at any time.
    """

    def __init__(self, config: Config, image_size: int):
        super().__init__(config, image_size)
        self.num_slots = config.num_slots
        self.unet = UNet(config, image_size)
        self.encoder = Encoder(config, image_size)
        self.decoder = Decoder(config, image_size)
        with torch.no_grad():
            for layer in [*list(self.encoder)[:-1], self.decoder.first, *list(self.decoder.rest)[:-1]]:
                if isinstance(layer, nn.Conv2d | nn.Linear):
                    layer.weight.mul_(config.comp_gain)

    def forward(self, image: Tensor, step: int) -> SegmentationOutput:
        """Explain ``image`` (B, 3, H, W).

        The loss is -ELBO with weights, in nats, summed over C, H, W, mean over B. Its terms are unweighted: ``nll``,
        ``kl`` of the latents, ``mask_kl`` from attention to decoded masks.
        """
        c = self.config
        B, K = len(image), self.num_slots
        log_masks = self.attend(image)  # (B, K, 1, H, W)
        seen = log_masks if c.log_mask_floor is None else log_masks.clamp(min=c.log_mask_floor)
        x = torch.cat([image[:, None].expand(-1, K, -1, -1, -1), seen], 2)  # (B, K, 4, H, W)
        mean, log_std = self.encoder(x.flatten(0, 1)).float().view(B, K, -1).chunk(2, -1)  # (B, K, D)
        if not c.replicate:
            log_std = log_std.clamp(max=MAX_LOG_STD)
        std = log_std.exp()
        z = sample_normal(mean, std) if self.training or c.replicate else mean
        colour, logits = self.decoder(z)
        with torch.autocast(image.device.type, enabled=False):
            masks = log_masks.exp()
            sigma = torch.full((K, 1, 1, 1), c.sigma, device=image.device)
            sigma[0] = c.sigma_bg
            nll = -mixture_log_density(image, log_masks, colour, sigma, c.mixture).sum((1, 2, 3)).mean()
            kl = (0.5 * (mean.square() + std.square() - 1) - log_std).sum((1, 2)).mean()
            # torch's kl_div has a NaN gradient where a mask underflows to 0
            mask_kl = (masks * (log_masks - logits.log_softmax(1))).sum((1, 2, 3, 4)).mean()
            reconstruction = (masks * colour).sum(1)
        loss = nll + c.kl_weight * kl + c.mask_kl_weight * mask_kl
        terms = {"nll": nll, "kl": kl, "mask_kl": mask_kl}
        return SegmentationOutput(loss, reconstruction, masks, terms, appearances=colour)

    def attend(self, image: Tensor) -> Tensor:
        """Log masks (B, K, 1, H, W) of ``image`` (B, 3, H, W) (Burgess et al. 2019, section 2.2).

        Every slot but the last claims a share of the scope; the last takes what is left, without the network.
        """
        log_scope = torch.zeros_like(image[:, :1])  # (B, 1, H, W)
        log_masks = []
        embedded = self.unet.embed(image)
        for _ in range(self.num_slots - 1):
            logits = self.unet(embedded, log_scope).float()  # (B, 1, H, W)
            log_masks.append(log_scope + F.logsigmoid(logits))
            log_scope = log_scope + F.logsigmoid(-logits)
        return torch.stack([*log_masks, log_scope], 1)

    def lr_scale(self, step: int) -> list[float]:
        """Linear warm-up times decay; both begin at step 0."""
        c = self.config
        rise = warm_up(step, c.warmup_frac * c.steps)
        return [rise if c.half_life_frac is None else rise * 0.5 ** (step / (c.half_life_frac * c.steps))]
