"""Genesis-V2 as a whole: clusters of pixels, a latent and a decoded layer for each, an autoregressive prior.

Axes: B batch, K slots, D latent dimensions, F feature channels, N = HW pixels.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from trainables import noise, optim
from trainables.distributions import mixture_log_density, normal_kl, normal_log_density, sample_normal
from trainables.genesis_v2.clustering import mask_kl, stick_breaking
from trainables.genesis_v2.config import Config
from trainables.genesis_v2.encoder import ConvGNReLU, UNet
from trainables.model import SegmentationModel
from trainables.output import SegmentationOutput
from trainables.positions import coordinates
from trainables.schedules import half_cosine, warm_up

COLOURS = 8
"""Dimensions of a pixel's embedding, the last two of which begin as its row and column."""

POOL_FLOOR = 1e-5
"""Added to the size of a mask before features are averaged under it."""

STD_FLOOR = 1e-8
"""Added to the posterior's standard deviation."""

GECO_DECAY = 0.99
"""Share of the past in GECO's moving average of the reconstruction error."""

GECO_LIMITS = (1e-10, 1e10)
"""Bounds of GECO's weight of the KL."""


class Embedding(nn.Module):
    """Pixel embeddings (B, 8, N), float32: the pixel's coordinates plus what the gate lets through of the features."""

    def __init__(self, config: Config, image_size: int):
        super().__init__()
        self.head = ConvGNReLU(config.feat_dim, config.feat_dim)
        self.colour = nn.Conv2d(config.feat_dim, COLOURS, 1)
        self.gate = nn.Parameter(torch.tensor(config.gate_init))
        grid = torch.cat([torch.zeros(COLOURS - 2, image_size, image_size), coordinates(image_size)])
        self.register_buffer("grid", grid, persistent=False)  # (8, H, W)
        self.grid: Tensor

    def forward(self, features: Tensor) -> Tensor:
        """Embed ``features`` (B, F, H, W)."""
        colour = self.colour(self.head(features)).float()
        return (self.gate * colour + self.grid).flatten(2)


class Posterior(nn.Module):
    """Mean and standard deviation (B, K, D) of each slot's latent, from the features under its attention mask."""

    def __init__(self, config: Config, image_size: int):
        super().__init__()
        width = config.feat_dim
        self.std_bias = config.posterior_std_bias
        self.features = nn.Sequential(ConvGNReLU(width, width), nn.Conv2d(width, 2 * width, 1))
        grid = coordinates(image_size).flatten(1).T if config.pool_coordinates else torch.empty(image_size**2, 0)
        self.register_buffer("grid", grid, persistent=False)  # (N, 2) or (N, 0)
        self.grid: Tensor
        pooled = 2 * width + grid.shape[1]
        self.latent = nn.Sequential(
            nn.LayerNorm(pooled), nn.Linear(pooled, 2 * width), nn.ReLU(), nn.Linear(2 * width, 2 * width)
        )

    def forward(self, features: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Pool ``features`` (B, F, H, W) under ``masks`` (B, K, N)."""
        features = self.features(features)  # (B, 2F, H, W)
        with torch.autocast(features.device.type, enabled=False):
            total = torch.cat([masks @ features.float().flatten(2).mT, masks @ self.grid], dim=2)  # (B, K, 2F (+ 2))
            mean, raw = self.latent(total / (masks.sum(2, keepdim=True) + POOL_FLOOR)).chunk(2, dim=2)
        return mean, F.softplus(raw + self.std_bias) + STD_FLOOR


class Decoder(nn.Module):
    """Colours (B, K, 3, H, W) in [0, 1] and mask logits (B, K, 1, H, W) of latents (B, K, D), each decoded alone."""

    def __init__(self, config: Config, image_size: int):
        super().__init__()
        width = config.feat_dim
        layers: list[nn.Module] = []
        for inputs in (width + 2, width, width, width):
            layers += [nn.ConvTranspose2d(inputs, width, 5, 2, 2, output_padding=1)]
            layers += [nn.GroupNorm(config.decoder_groups, width), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, 4, 1))
        self.register_buffer("grid", coordinates(image_size // 16), persistent=False)  # (2, H/16, W/16)
        self.grid: Tensor

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Decode ``z``."""
        side = self.grid.shape[-1]
        tiled = z.flatten(0, 1)[:, :, None, None].expand(-1, -1, side, side)
        x = torch.cat([tiled, self.grid.expand(len(tiled), -1, -1, -1)], dim=1)  # (B*K, D + 2, side, side)
        colour, logits = self.layers(x).unflatten(0, z.shape[:2]).float().split([3, 1], dim=2)
        return colour.sigmoid(), logits


class Prior(nn.Module):
    """Autoregressive prior of the latents: each from those before it, the first from N(0, I)."""

    def __init__(self, width: int):
        super().__init__()
        self.lstm = nn.LSTM(width, 4 * width)
        self.linear = nn.Linear(4 * width, 2 * width)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (B, K, D) of the latents ``z`` (B, K, D)."""
        hidden, _ = self.lstm(z[:, :-1].transpose(0, 1))  # (K - 1, B, 4D)
        mean, raw = self.linear(hidden).transpose(0, 1).chunk(2, dim=2)
        mean = torch.cat([torch.zeros_like(z[:, :1]), mean.tanh()], dim=1)
        std = torch.cat([torch.ones_like(z[:, :1]), (raw + 4).sigmoid() + 1e-4], dim=1)
        return mean, std


class Model(SegmentationModel):
    """Genesis-V2 for square images whose side is a multiple of 16 and of 2^(depth - 1) for its U-Net.

    Noise per forward: the order in which pixels become seeds, ``noise.uniform`` (B, 1, H, W), in training and in
    evaluation; then the latents' ``noise.normal`` (B, K, D), in training only unless ``replicate``. No slot is
    reserved for the background. Segments are the decoder's masks; the attention masks only pool features.
    """

    def __init__(self, config: Config, image_size: int):
        super().__init__(config, image_size)
        multiple = 1 << max(4, image_size.bit_length() - 3)
        if image_size < 32 or image_size % multiple:
            raise ValueError(f"image size {image_size} does not fit Genesis-V2; use 32, 64, 96 or 128")
        self.unet = UNet(config.feat_dim, config.bottleneck_dim, image_size)
        self.embedding = Embedding(config, image_size)
        damp_context(self.unet, self.embedding, config.context_init)
        self.log_sigma = nn.Parameter(torch.tensor(-math.log(config.num_slots * math.log(2) / config.sigma_init_scale)))
        self.posterior = Posterior(config, image_size)
        self.decoder = Decoder(config, image_size)
        self.prior = Prior(config.feat_dim) if config.autoreg_prior else None
        self.register_buffer("kl_weight", torch.tensor(config.kl_weight))
        self.register_buffer("geco_error", torch.zeros(()))
        self.register_buffer("geco_started", torch.tensor(False))
        self.kl_weight: Tensor
        self.geco_error: Tensor
        self.geco_started: Tensor

    def forward(self, image: Tensor, step: int) -> SegmentationOutput:
        """Explain ``image`` (B, 3, H, W).

        The terms ``nll``, ``kl`` (before its weight) and ``mask_kl`` (likewise) are the parts of the loss in nats;
        ``kl_weight``, ``gate`` and ``kernel`` (the kernel's squared width) are what training moves.
        """
        c = self.config
        features = self.unet(image)  # (B, F, H, W)
        embedding = self.embedding(features)  # (B, 8, N)
        order = noise.uniform((len(image), 1, *image.shape[2:]), embedding).flatten(1)  # (B, N)
        with torch.autocast(image.device.type, enabled=False):
            kernel = self.log_sigma.exp()
            log_attention = stick_breaking(embedding, order, kernel, c.num_slots)  # (B, K, N)
        mean, std = self.posterior(features, log_attention.exp())  # (B, K, D)
        sample = self.training or c.replicate
        z = sample_normal(mean, std) if sample else mean
        colour, logits = self.decoder(z)
        with torch.autocast(image.device.type, enabled=False):
            log_masks = logits.log_softmax(1)  # (B, K, 1, H, W)
            masks = log_masks.exp()
            reconstruction = (masks * colour).sum(1)  # (B, 3, H, W)
            nll = -mixture_log_density(image.float(), log_masks, colour, c.sigma).sum((1, 2, 3)).mean()
            prior = self.prior(z) if self.prior is not None else (torch.zeros_like(z), torch.ones_like(z))
            divergence = sampled_kl(z, mean, std, *prior) if sample else normal_kl(mean, std, *prior)
            kl = divergence.sum((1, 2)).mean()
            terms = {"nll": nll, "kl": kl}
            loss = nll + self.kl_weight * kl
            if c.mask_kl_weight > 0:
                attention = log_attention.detach() if c.mask_kl_moves == "decoder" else log_attention
                decoded = log_masks.detach() if c.mask_kl_moves == "attention" else log_masks
                terms["mask_kl"] = mask_kl(attention, decoded.flatten(2)).mean()
                loss = loss + c.mask_kl_weight * terms["mask_kl"]
        terms |= {"kl_weight": self.kl_weight.clone(), "gate": self.embedding.gate, "kernel": kernel}
        return SegmentationOutput(loss, reconstruction, masks, terms, appearances=colour)

    def optimizers(self) -> list[Optimizer]:
        """One optimiser; U-Net, embedding and kernel form a group with its own learning rate."""
        c = self.config
        encoder = [*self.unet.parameters(), *self.embedding.parameters(), self.log_sigma]
        slow = set(encoder)
        groups = [
            {"params": [parameter for parameter in self.parameters() if parameter not in slow]},
            {"params": encoder, "lr": c.lr * c.encoder_lr_scale},
        ]
        return [optim.build(c.optimizer, groups, c.lr, c.weight_decay)]

    def lr_scale(self, step: int) -> list[float]:
        """Linear warm-up times decay."""
        c = self.config
        rise = warm_up(step, c.warmup_frac * c.steps)
        decay = half_cosine(step, c.steps) if c.schedule == "cosine" else 1.0
        return [rise * decay]

    def after_step(self, step: int, output: SegmentationOutput) -> None:
        """GECO: weigh the KL more where the reconstruction is better than its goal, else less."""
        if self.config.kl_mode == "geco":
            self.update_geco(output.terms["nll"])

    def update_geco(self, error: Tensor) -> None:
        """Move GECO's weight of the KL after a training step with the reconstruction ``error``, in nats per image."""
        c = self.config
        average = GECO_DECAY * self.geco_error + (1 - GECO_DECAY) * error
        self.geco_error.copy_(torch.where(self.geco_started, average, error))
        self.geco_started.fill_(True)
        slack = c.goal * 3 * self.image_size**2 - self.geco_error
        rate = c.g_lr * (64 / self.image_size) ** 2 * torch.where(slack > 0, c.g_speedup, 1.0)
        self.kl_weight.mul_((rate * slack).exp()).clamp_(*GECO_LIMITS)


@torch.no_grad()
def damp_context(unet: UNet, embedding: Embedding, factor: float) -> None:
    """Scale the weights by which embeddings see more than their pixel: taps off the centre, the U-Net's lower levels.

    Half of the features keep theirs; the embedding does not see these.
    """
    blocks = (unet.down[0], unet.up[-1], embedding.head)
    first, last, head = (block.get_parameter("0.weight") for block in blocks)
    half, path = len(last) // 2, last.shape[1] - len(first)
    for weight in (first, last[:half], head[:, :half]):
        centre = weight[:, :, 1, 1].clone()
        weight.mul_(factor)
        weight[:, :, 1, 1] = centre
    last[:half, :path].mul_(factor)
    head[:, half:].mul_(factor)


def sampled_kl(z: Tensor, mean: Tensor, std: Tensor, prior_mean: Tensor, prior_std: Tensor) -> Tensor:
    """KL(N(mean, std) || N(prior_mean, prior_std)) in nats, elementwise, estimated from one sample ``z``."""
    return normal_log_density(z, mean, std) - normal_log_density(z, prior_mean, prior_std)
