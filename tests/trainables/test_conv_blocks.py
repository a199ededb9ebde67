"""Blocks that several models share: groups, sizes and the names of their parameters."""

import pytest
import torch
from torch import nn

from trainables.conv_blocks import conv_block, group_norm, relu_convs, side_after, upsample_block


@pytest.mark.parametrize(
    ("channels", "published", "groups"), [(128, 16, 16), (50, 10, 10), (8, 8, 2), (24, 8, 6), (20, 16, 5), (3, 4, 1)]
)
def test_groups_are_as_many_as_published_or_of_four_channels(channels: int, published: int, groups: int) -> None:
    assert group_norm(channels, published).num_groups == groups


def test_the_activation_comes_before_the_norm() -> None:
    block = conv_block(3, 8, 4, 2, 1, groups=2)
    assert [type(layer) for layer in block] == [nn.Conv2d, nn.CELU, nn.GroupNorm]
    assert block(torch.rand(2, 3, 16, 16)).shape == (2, 8, 8, 8)


def test_a_sub_pixel_convolution_enlarges() -> None:
    block = upsample_block(3, 8, 3, 4)
    assert [type(layer) for layer in block] == [nn.Conv2d, nn.PixelShuffle, nn.CELU, nn.GroupNorm]
    assert block(torch.rand(2, 3, 5, 5)).shape == (2, 8, 20, 20)


@pytest.mark.parametrize("strides", [(1, 1), (1, 2, 1), (2, 2)])
@pytest.mark.parametrize("side", [15, 16])
def test_the_side_after_some_strides(strides: tuple[int, ...], side: int) -> None:
    x = relu_convs(4, 5, strides)(torch.rand(1, 3, side, side))
    assert x.shape == (1, 4, *2 * [side_after(strides, side)]) and float(x.detach().min()) == 0
