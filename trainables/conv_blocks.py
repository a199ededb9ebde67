"""Convolutional blocks that several models are stacked from.

The returned ``nn.Sequential`` may be unpacked into a longer one: parameters are named by their place in it.
"""

from collections.abc import Iterable

from torch import nn


def group_norm(channels: int, groups: int) -> nn.GroupNorm:
    """GroupNorm with at most ``groups`` groups, the published number, of at least 4 channels each, as published.

    In a narrow network the published number would leave one channel per group. Such a norm removes the level of
    every channel: on a map of one pixel nothing of the image would pass, and no glimpse could have a colour.
    """
    most = min(groups, max(1, channels // 4))
    return nn.GroupNorm(next(number for number in range(most, 0, -1) if channels % number == 0), channels)


def conv_block(
    inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0, groups: int = 1
) -> nn.Sequential:
    """Convolution, CELU, GroupNorm, in this order: the activation comes before the norm.

    (B, inputs, H, W) -> (B, outputs, H', W').
    """
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding),
        nn.CELU(inplace=True),
        group_norm(outputs, groups),
    )


def upsample_block(inputs: int, outputs: int, kernel: int, factor: int, groups: int = 1) -> nn.Sequential:
    """Sub-pixel convolution, CELU, GroupNorm: (B, inputs, H, W) -> (B, outputs, factor * H, factor * W)."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs * factor**2, kernel, 1, kernel // 2),
        nn.PixelShuffle(factor),
        nn.CELU(inplace=True),
        group_norm(outputs, groups),
    )


def relu_convs(channels: int, kernel: int, strides: Iterable[int]) -> nn.Sequential:
    """Convolutions of images (B, 3, H, H) with a ReLU after each: (B, channels, h, h), h = :func:`side_after`."""
    layers: list[nn.Module] = []
    inputs = 3
    for stride in strides:
        layers += [nn.Conv2d(inputs, channels, kernel, stride, kernel // 2), nn.ReLU(inplace=True)]
        inputs = channels
    return nn.Sequential(*layers)


def side_after(strides: Iterable[int], side: int) -> int:
    """The side of a map of ``side`` pixels after :func:`relu_convs`; its kernels must be odd."""
    for stride in strides:
        side = (side - 1) // stride + 1
    return side
