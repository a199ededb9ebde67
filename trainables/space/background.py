"""The background of SPACE: a mixture of K components, inferred one after another (Lin et al. 2020, section 2.2).

The recurrent mask latents, their stick-breaking and the component VAE follow GENESIS (Engelcke et al. 2020).
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.distributions import normal_kl, sample_normal
from trainables.positions import coordinates
from trainables.space.blocks import PixelDecoder, conv_bn
from trainables.space.config import Config
from trainables.spatial_broadcast import broadcast_conv

MASK_FLOOR = 1e-5
"""Added to masks before their logarithm."""

STD_FLOOR = 1e-4
"""Added to the standard deviations of the background's latents."""

MASK_FACTORS = {32: (4, 2, 2, 2), 64: (4, 2, 4, 2), 96: (4, 2, 4, 4), 128: (4, 2, 4, 4)}
"""Upsampling factors of the mask decoder by image size; 96 is decoded at 128 and resized."""

SINGLE_FACTORS = {32: (4, 2, 2, 2), 64: (4, 4, 2, 2), 96: (4, 4, 2, 4), 128: (4, 4, 2, 4)}
"""Upsampling factors of the decoder of a single component by image size."""


class Mixture(NamedTuple):
    """What the background infers from a batch of images."""

    image: Tensor
    """(B, 3, H, W): the components, blended by their masks."""
    components: Tensor
    """(B, K, 3, H, W) in [0, 1]."""
    masks: Tensor
    """(B, K, 1, H, W), summing to 1 over K."""
    log_masks: Tensor
    """(B, K, 1, H, W): log(masks + 1e-5)."""
    kl: dict[str, Tensor]
    """KL of each latent in nats, (B,), summed over components and dimensions."""


class ConvEncoder(nn.Sequential):
    """Four strided blocks and a linear layer: (B, inputs, H, H) -> (B, outputs)."""

    def __init__(self, inputs: int, channels: tuple[int, int, int, int], size: int, outputs: int):
        blocks = [conv_bn(i, o, 2, 1) for i, o in zip((inputs, *channels), channels, strict=False)]
        super().__init__(*blocks, nn.Flatten(), nn.Linear(channels[-1] * (size // 16) ** 2, outputs))


class BroadcastDecoder(nn.Module):
    """Component appearance (M, 3, H, H) in [0, 1] from z_comp (M, D), broadcast to every pixel."""

    def __init__(self, latent: int, channels: int, size: int):
        super().__init__()
        self.first = conv_bn(latent + 2, channels, 1, 0)
        self.rest = nn.Sequential(*(conv_bn(channels, channels, 1, 0) for _ in range(3)))
        self.head = nn.Conv2d(channels, 3, 1)
        # (1, 2, H + 8, H + 8): the column first, then the row
        self.register_buffer("coordinates", coordinates(size + 8).flip(0)[None], persistent=False)
        self.coordinates: Tensor

    def forward(self, z: Tensor) -> Tensor:
        """Decode ``z`` (M, D)."""
        conv, norm, activation = self.first
        assert isinstance(conv, nn.Conv2d)
        features = broadcast_conv(conv, z, self.coordinates)
        features = self.rest(activation(norm(features)))  # (M, channels, H, H)
        return self.head(features).float().sigmoid()


class SingleDecoder(PixelDecoder):
    """The stronger decoder of a background of one component: (M, D) -> (M, 3, H, H) in [0, 1]."""

    def __init__(self, latent: int, channels: tuple[int, ...], size: int):
        super().__init__(latent, channels, SINGLE_FACTORS[size], 3)
        self.size = size

    def forward(self, z: Tensor) -> Tensor:
        """Decode ``z`` (M, D)."""
        return resize(super().forward(z), self.size).float().sigmoid()


class Background(nn.Module):
    """Infers and draws K components of images (B, 3, H, H).

    With a single component nothing is decoded or predicted from its mask, so that those parts do not exist.
    """

    def __init__(self, config: Config, size: int):
        super().__init__()
        self.size = size
        self.K = config.bg_components
        hidden, z_mask, z_comp = config.bg_hidden, config.z_mask_dim, config.z_comp_dim
        c16, c32, c64, c128, c256 = (max(1, round(config.bg_width * c)) for c in (16, 32, 64, 128, 256))
        self.image_encoder = nn.Sequential(*ConvEncoder(3, (c64, c64, c64, c64), size, hidden), nn.ELU())
        self.posterior_lstm = nn.LSTMCell(z_mask + hidden, hidden)
        self.posterior_head = nn.Linear(hidden, 2 * z_mask)
        self.component_encoder = ConvEncoder(4, (c32, c32, c64, c64), size, 2 * z_comp)
        if self.K == 1:
            self.component_decoder: nn.Module = SingleDecoder(z_comp, (c256, c256, c128, c64, c16), size)
        else:
            self.mask_decoder = PixelDecoder(z_mask, (c256, c256, c128, c64, c16), MASK_FACTORS[size], 1)
            self.component_decoder = BroadcastDecoder(z_comp, c32, size)
            self.prior_lstm = nn.LSTMCell(z_mask, hidden)
            self.prior_c0 = nn.Parameter(torch.zeros(hidden))
        self.prior_head = nn.Linear(hidden, 2 * z_mask)
        self.component_prior = nn.Sequential(
            nn.Linear(z_mask, hidden), nn.ELU(), nn.Linear(hidden, hidden), nn.ELU(), nn.Linear(hidden, 2 * z_comp)
        )
        self.posterior_h0 = nn.Parameter(torch.zeros(hidden))
        self.posterior_c0 = nn.Parameter(torch.zeros(hidden))
        self.prior_h0 = nn.Parameter(torch.zeros(hidden))
        self.first_z_mask = nn.Parameter(torch.zeros(z_mask))

    def forward(self, image: Tensor, sample: bool) -> Mixture:
        """Components of ``image`` (B, 3, H, H) in [0, 1].

        Without ``sample`` every latent is its posterior's mean. Noise is normal, drawn in this order: for each of
        the K masks (B, z_mask_dim); then once for all components (B * K, z_comp_dim).
        """
        B, K = len(image), self.K
        z_masks, kl_mask = self._infer_masks(self.image_encoder(image).float(), sample)  # (B, K, D), (B, K, D)
        if K == 1:
            masks = image.new_ones(B, 1, 1, self.size, self.size)
        else:
            logits = resize(self.mask_decoder(z_masks[:, :-1].flatten(0, 1)), self.size).float()
            masks = stick_breaking(logits.unflatten(0, (B, K - 1)))
        log_masks = (masks + MASK_FLOOR).log()

        seen = torch.cat([log_masks, image[:, None].expand(-1, K, -1, -1, -1)], dim=2).flatten(0, 1)
        mean, std = _mean_std(self.component_encoder(seen))  # (B * K, D)
        z_comp = sample_normal(mean, std) if sample else mean
        prior_mean, prior_std = _mean_std(self.component_prior(z_masks.flatten(0, 1)))
        kl_comp = normal_kl(mean, std, prior_mean, prior_std).view(B, -1)
        components = self.component_decoder(z_comp).unflatten(0, (B, K))  # (B, K, 3, H, W)
        blend = (masks * components).sum(1)
        kl = {"mask": kl_mask.flatten(1).sum(1), "comp": kl_comp.sum(1)}
        return Mixture(blend, components, masks, log_masks, kl)

    def _infer_masks(self, code: Tensor, sample: bool) -> tuple[Tensor, Tensor]:
        """Mask latents (B, K, D) of image codes (B, hidden) and their KL (B, K, D) to the recurrent prior."""
        B = len(code)
        # recurrent state stays in float32: LSTMCell refuses to mix it with autocast's half-precision gates
        with torch.autocast(code.device.type, enabled=False):
            h, c = self.posterior_h0.expand(B, -1), self.posterior_c0.expand(B, -1)
            prior_h = self.prior_h0.expand(B, -1)
            prior_c = self.prior_c0.expand(B, -1) if self.K > 1 else None
            z = self.first_z_mask.expand(B, -1)
            latents, divergences = [], []
            for k in range(self.K):
                if k > 0:
                    prior_h, prior_c = self.prior_lstm(z, (prior_h, prior_c))
                prior_mean, prior_std = _mean_std(self.prior_head(prior_h))
                h, c = self.posterior_lstm(torch.cat([z, code], dim=1), (h, c))
                mean, std = _mean_std(self.posterior_head(h))
                z = sample_normal(mean, std) if sample else mean
                latents.append(z)
                divergences.append(normal_kl(mean, std, prior_mean, prior_std))
            return torch.stack(latents, dim=1), torch.stack(divergences, dim=1)


def stick_breaking(logits: Tensor) -> Tensor:
    """Masks (B, K, 1, H, W) that sum to 1 over K, from logits (B, K-1, 1, H, W): each takes its share of the rest."""
    rest = F.logsigmoid(-logits).cumsum(dim=1)  # (B, K-1, 1, H, W): log of what the first k components leave
    before = torch.cat([torch.zeros_like(rest[:, :1]), rest[:, :-1]], dim=1)
    return torch.cat([F.logsigmoid(logits) + before, rest[:, -1:]], dim=1).exp()


def resize(logits: Tensor, size: int) -> Tensor:
    """``logits`` (M, C, S, S) brought to (M, C, size, size); a no-op where the sizes agree."""
    if logits.shape[-1] == size:
        return logits
    return F.interpolate(logits, size=(size, size), mode="bilinear", align_corners=False)


def _mean_std(raw: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (M, D) from raw parameters (M, 2 D)."""
    mean, std = raw.float().chunk(2, dim=-1)
    return mean, F.softplus(std) + STD_FLOOR
