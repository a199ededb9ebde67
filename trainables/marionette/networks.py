"""The networks of MarioNette: partial convolutions, encoders, dictionaries and the heads on codes.

Axes: M rows of any kind, C entries of a dictionary, d width of a code. Under autocast maps, codes and pictures come
back in float32. No normalisation has running statistics.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.conv_blocks import group_norm

GROUPS = 8
"""Groups of channels that are normalised together (benchmark: at any width)."""


class PartialConv(nn.Conv2d):
    """A 3x3 convolution of square maps that makes up for the taps outside the map (Liu et al. 2018, eq. 1).

    Where n of the 9 taps lie inside, what they sum to counts 9 / n times, so that borders do not fade.
    """

    def __init__(self, inputs: int, outputs: int, side: int, stride: int = 1):
        super().__init__(inputs, outputs, 3, stride, 1)
        inside = F.conv2d(torch.ones(1, 1, side, side), torch.ones(1, 1, 3, 3), stride=stride, padding=1)
        self.register_buffer("gain", 9 / inside, persistent=False)  # (1, 1, side', side')
        self.gain: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """(M, inputs, side, side) -> (M, outputs, side', side') in float32."""
        assert self.bias is not None
        y = F.conv2d(x, self.weight, None, self.stride, self.padding).float()
        # in place: these maps are the largest there are
        return y.mul_(self.gain).add_(self.bias[:, None, None])


class Down(nn.Sequential):
    """Two partial convolutions; the second halves the side."""

    def __init__(self, inputs: int, outputs: int, side: int):
        super().__init__(
            PartialConv(inputs, outputs, side),
            group_norm(outputs, GROUPS),
            nn.LeakyReLU(inplace=True),
            PartialConv(outputs, outputs, side, stride=2),
            group_norm(outputs, GROUPS),
            nn.LeakyReLU(inplace=True),
        )


class Encoder(nn.Module):
    """A grid of codes of mean 0 and variance 1 from square maps, for each of its heads."""

    def __init__(self, inputs: int, side: int, grid: int, width: int, heads: int = 1):
        super().__init__()
        downs = []
        while side > grid:
            downs.append(Down(inputs, width, side))
            inputs, side = width, (side + 1) // 2
        assert side == grid
        self.downs = nn.Sequential(*downs)
        self.heads = nn.ModuleList(PartialConv(width, width, grid) for _ in range(heads))

    def forward(self, x: Tensor) -> Tensor:
        """(M, inputs, side, side) -> (M, heads, grid, grid, width)."""
        # a quarter less work for CPUs
        features = self.downs(x.contiguous(memory_format=torch.channels_last))
        codes = torch.stack([head(features) for head in self.heads], dim=1)
        return standardise(codes.permute(0, 1, 3, 4, 2))


class Dictionary(nn.Module):
    """C learned codes and the pictures that they stand for."""

    def __init__(self, entries: int, width: int, channels: int, side: int):
        super().__init__()
        self.shape = (entries, channels, side, side)
        self.latents = nn.Parameter(torch.randn(entries, width))
        self.decoder = nn.Sequential(
            nn.Linear(width, 8 * width),
            group_norm(8 * width, GROUPS),
            nn.ReLU(inplace=True),
            nn.Linear(8 * width, channels * side**2),
        )

    def forward(self) -> tuple[Tensor, Tensor]:
        """Codes (C, width) of mean 0 and variance 1, and pictures (C, channels, side, side) in [0, 1]."""
        codes = standardise(self.latents)
        return codes, self.decoder(codes).float().sigmoid().view(self.shape)


def head(width: int, outputs: int) -> nn.Sequential:
    """Codes (M, width) -> (M, outputs): a hidden layer, and a linear one."""
    return nn.Sequential(
        nn.Linear(width, width), group_norm(width, GROUPS), nn.LeakyReLU(inplace=True), nn.Linear(width, outputs)
    )


def output_layer(network: nn.Sequential) -> nn.Linear:
    """The last layer of a head or a decoder."""
    layer = network[-1]
    assert isinstance(layer, nn.Linear)
    return layer


def standardise(codes: Tensor) -> Tensor:
    """``codes`` (..., d) with mean 0 and variance 1 over d, so that the length of each is the square root of d."""
    return F.layer_norm(codes.float(), codes.shape[-1:])


def choice(queries: Tensor, codes: Tensor, scale: float = 1.0) -> Tensor:
    """Weights (M, C), summing to 1, of the entries with ``codes`` (C, d) for standardised ``queries`` (M, d).

    The logits are scaled products (Smirnov et al. 2021, section 3), within plus or minus ``scale`` times the square
    root of d: the width is the inverse temperature.
    """
    return (queries @ codes.mT * (scale / math.sqrt(codes.shape[-1]))).softmax(-1)
