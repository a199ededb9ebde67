"""The networks of GNM that map images to features and latents to images.

In every block the activation comes before the norm, which spans all channels (Jiang and Ahn 2020, appendix).
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, Self

import torch.nn.functional as F
from torch import Tensor, nn

from trainables.conv_blocks import conv_block, upsample_block
from trainables.distributions import normal_kl, sample_normal

LAST_CHANNELS = 8
"""Channels before a decoder's output layer; each layer further from the output has twice as many."""


class Normal(NamedTuple):
    """A diagonal normal distribution."""

    mean: Tensor
    """(..., D)."""
    std: Tensor
    """(..., D)."""

    @classmethod
    def of(cls, raw: Tensor, bias: float, floor: float) -> Self:
        """From a network's output (..., 2 D): means, then raw standard deviations, ``bias`` to be added to them."""
        mean, std = raw.float().chunk(2, dim=-1)
        return cls(mean, F.softplus(std + bias) + floor)

    def draw(self, sample: bool) -> Tensor:
        """A reparameterised sample (..., D), or the mean."""
        return sample_normal(self.mean, self.std) if sample else self.mean

    def kl(self, prior: "Normal") -> Tensor:
        """KL to ``prior`` in nats, elementwise (..., D)."""
        return normal_kl(*self, *prior)


def mlp(*widths: int, plain_output: bool = True) -> nn.Sequential:
    """A multilayer perceptron (B, widths[0]) -> (B, widths[-1]), without activation and norm on a plain output."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.CELU(inplace=True), nn.LayerNorm(outputs)]
    return nn.Sequential(*(layers[:-2] if plain_output else layers))


class ImageEncoder(nn.Sequential):
    """Images (B, 3, H, H) -> features (B, E, G, G), G = H / 2^halvings: strided blocks with a 3x3 block between."""

    def __init__(self, feature_dim: int, halvings: int):
        layers: list[nn.Module] = []
        inputs = 3
        for width in [16 << i for i in range(halvings - 1)]:
            layers += [conv_block(inputs, width, 4, 2, 1), conv_block(width, width, 3, 1, 1)]
            inputs = width
        super().__init__(*layers, conv_block(inputs, feature_dim, 4, 2, 1))


class GlimpseDecoder(nn.Module):
    """Appearance and alpha of objects from z_what, both in [0, 1]; the side of a glimpse is the factors' product."""

    def __init__(self, latent: int, factors: Sequence[int]):
        super().__init__()
        layers: list[nn.Module] = []
        inputs = latent
        for factor, width in zip(factors[:-1], widths_towards_output(len(factors) - 1), strict=True):
            layers.append(upsample_block(inputs, width, 3, factor))
            inputs = width
        output = [nn.Conv2d(inputs, 4 * factors[-1] ** 2, 3, 1, 1), nn.PixelShuffle(factors[-1])]
        self.layers = nn.Sequential(*layers, nn.Sequential(*output))

    def forward(self, z_what: Tensor) -> tuple[Tensor, Tensor]:
        """Colours (B, N, 3, g, g) and alphas (B, N, 1, g, g) of ``z_what`` (B, N, D)."""
        glimpses = self.layers(z_what.flatten(0, 1)[..., None, None]).float().sigmoid()  # (B * N, 4, g, g)
        colours, alphas = glimpses.unflatten(0, z_what.shape[:2]).split([3, 1], dim=2)
        return colours, alphas


class BackgroundDecoder(nn.Module):
    """A background image in [0, 1] from z_bg; its side is the factors' product."""

    def __init__(self, latent: int, factors: Sequence[int]):
        super().__init__()
        layers: list[nn.Module] = []
        inputs = latent
        for factor, width in zip(factors, widths_towards_output(len(factors)), strict=True):
            layers.append(upsample_block(inputs, width, 1, factor))
            inputs = width
        self.layers = nn.Sequential(*layers, nn.Conv2d(inputs, 3, 3, 1, 1))

    def forward(self, z_bg: Tensor) -> Tensor:
        """(B, 3, H, H) of ``z_bg`` (B, D)."""
        return self.layers(z_bg[..., None, None]).float().sigmoid()


def widths_towards_output(layers: int) -> list[int]:
    """Channels of a decoder's ``layers`` hidden layers, halved from one to the next."""
    return [LAST_CHANNELS << i for i in reversed(range(layers))]
