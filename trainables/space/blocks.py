"""The three convolutional blocks that SPACE's networks are stacked from."""

from collections.abc import Sequence
from math import gcd

from torch import Tensor, nn


def group_norm(channels: int, groups: int) -> nn.GroupNorm:
    """GroupNorm with at most ``groups`` groups, the published number, of 4 channels at least, as published.

    Narrow networks would otherwise end at one channel per group, which takes the level of every channel away: a
    glimpse's colour could neither be seen nor be drawn.
    """
    return nn.GroupNorm(gcd(groups, max(1, channels // 4), channels), channels)


def conv_gn(inputs: int, outputs: int, kernel: int, stride: int, padding: int, groups: int) -> nn.Sequential:
    """Convolution, CELU, GroupNorm, in this order: the activation comes before the norm.

    (B, inputs, H, W) -> (B, outputs, H', W').
    """
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding),
        nn.CELU(inplace=True),
        group_norm(outputs, groups),
    )


def conv_bn(inputs: int, outputs: int, stride: int, padding: int) -> nn.Sequential:
    """3x3 convolution, BatchNorm, ELU: (B, inputs, H, W) -> (B, outputs, H', W')."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, padding), nn.BatchNorm2d(outputs), nn.ELU(inplace=True))


def upsample(inputs: int, outputs: int, factor: int, groups: int) -> nn.Sequential:
    """Sub-pixel convolution and a 3x3 block: (B, inputs, H, W) -> (B, outputs, factor * H, factor * W)."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs * factor**2, 1),
        nn.PixelShuffle(factor),
        nn.CELU(inplace=True),
        group_norm(outputs, groups),
        conv_gn(outputs, outputs, 3, 1, 1, groups),
    )


class PixelDecoder(nn.Module):
    """Grows a latent vector into a full-size map of logits: (B, D) -> (B, outputs, S, S), S the factors' product."""

    def __init__(self, latent: int, channels: Sequence[int], factors: Sequence[int], outputs: int):
        super().__init__()
        stem, *stages = channels
        layers: list[nn.Module] = [conv_gn(latent, stem, 1, 1, 0, 16)]
        for inputs, width, factor, groups in zip(channels[:-1], stages, factors, (16, 16, 8, 4), strict=True):
            layers.append(upsample(inputs, width, factor, groups))
        layers += [conv_gn(stages[-1], stages[-1], 3, 1, 1, 4), nn.Conv2d(stages[-1], outputs, 3, 1, 1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        """Logits (B, outputs, S, S) of latents ``z`` (B, D)."""
        return self.layers(z[..., None, None])
