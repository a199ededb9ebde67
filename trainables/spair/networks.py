"""The networks that SPAIR is made of: backbone, perceptrons, broadcast decoder and background."""

import itertools

import torch.nn.functional as F
from torch import Tensor, nn

from trainables.conv_blocks import conv_block
from trainables.positions import coordinates
from trainables.spatial_broadcast import broadcast_conv

STD_FLOOR = 1e-21
"""Smallest standard deviation of a latent (benchmark)."""


class Backbone(nn.Sequential):
    """Features of the cells (B, F, G, G) from images (B, 3, H, H), for cells of 8, 16 or 32 pixels.

    Blocks of convolution, CELU and GroupNorm, in this order; the first ones, as many as a cell needs, have stride 2.
    """

    def __init__(self, width: float, cell: int):
        blocks: list[nn.Module] = []
        inputs = 3
        for i, (published, groups) in enumerate([(16, 4), (32, 8), (64, 8), (128, 16), (256, 32)]):
            outputs = scaled(published, width)
            stride = 2 if 2**i < cell else 1
            blocks += conv_block(inputs, outputs, 3, stride, 1, groups)
            inputs = outputs
        self.features = scaled(100, width)
        """Features per cell."""
        super().__init__(*blocks, *conv_block(inputs, self.features, 1, groups=10))


class Perceptron(nn.Sequential):
    """Linear layers of the given ``sizes``, with ReLUs between them."""

    def __init__(self, *sizes: int):
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), nn.ReLU(inplace=True)]
        super().__init__(*layers[:-1])


class BroadcastDecoder(nn.Module):
    """Maps (M, outputs, size, size) in [0, 1] from latents (M, D), broadcast beside each pixel's row and column."""

    def __init__(self, latent: int, outputs: int, size: int, width: float):
        super().__init__()
        channels = scaled(32, width)
        self.layers = nn.Sequential(
            *(nn.Conv2d(latent + 2, channels, 3), nn.ReLU(inplace=True)),
            *(layer for _ in range(3) for layer in (nn.Conv2d(channels, channels, 3), nn.ReLU(inplace=True))),
            nn.Conv2d(channels, outputs, 1),
        )
        self.register_buffer("coordinates", coordinates(size + 8)[None], persistent=False)  # (1, 2, size + 8, size + 8)
        self.coordinates: Tensor

    def forward(self, z: Tensor) -> Tensor:
        """Decode ``z`` (M, D)."""
        first = self.layers[0]
        assert isinstance(first, nn.Conv2d)
        return self.layers[1:](broadcast_conv(first, z, self.coordinates)).float().sigmoid()


class Background(nn.Module):
    """A small variational autoencoder of the whole image (benchmark)."""

    def __init__(self, latent: int, size: int, width: float):
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for published in (32, 32, 64, 64):
            outputs = scaled(published, width)
            layers += [nn.Conv2d(inputs, outputs, 3, 2, 1), nn.ReLU(inplace=True)]
            inputs = outputs
        head = Perceptron(inputs, scaled(128, width), 2 * latent)
        self.encoder = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), *head)
        self.decoder = BroadcastDecoder(latent, 3, size, width)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (B, D) of the latent of ``image`` (B, 3, H, W)."""
        return mean_std(*self.encoder(image).float().chunk(2, dim=-1))


def mean_std(mean: Tensor, raw_std: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (..., D) from raw parameters (..., D) each."""
    return mean, F.softplus(raw_std).clamp(min=STD_FLOOR)


def scaled(published: int, width: float) -> int:
    """The published number of channels or units times ``width``, 1 at least."""
    return max(1, round(width * published))
