"""Tiles around the anchors of a grid: cut out of images, shifted, painted, and stacked over a background.

Axes: B batch, N layers, G anchors per side, p pixels between two anchors, S = G p side of the canvas. An anchor's
tile is P = 2p wide and centred on its cell, so that tiles of neighbours overlap by half. Those of equal parity of row
and column do not: each of the four parities has one image per layer, and 4 N images hold all tiles.
"""

import operator
from itertools import accumulate
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from trainables.positions import cells
from trainables.spatial_transformer import interpolation_matrix

PARITIES = ((0, 0), (1, 1), (1, 0), (0, 1))
"""Row and column parity of the four images of a layer, in the order in which they are painted unless it is drawn."""


class Stack(NamedTuple):
    """Images composited from back to front."""

    image: Tensor
    """(B, 3, S, S): what is seen."""
    visible: Tensor
    """(B, n, 1, S, S): the share of each of the n images in each pixel."""
    background: Tensor
    """(B, 1, S, S): the share of the background; shares sum to 1."""


def crops(image: Tensor, spacing: int) -> Tensor:
    """The tiles (B, G^2, C, P, P) that the anchors see of ``image`` (B, C, S, S), row by row; black outside."""
    side = 2 * spacing
    columns = F.unfold(image, side, padding=spacing // 2, stride=spacing)  # (B, C P^2, G^2)
    return columns.mT.unflatten(2, (image.shape[1], side, side))


def shift(tiles: Tensor, delta: Tensor) -> Tensor:
    """RGBA ``tiles`` (M, 4, P, P), each moved by ``delta`` (M, 2), right and down, in units of p = P/2 pixels.

    Bilinear, within the tile: what leaves it is lost, and what enters has the colour of the edge and alpha 0.
    """
    P = tiles.shape[-1]
    across, down = interpolation_matrix(torch.ones_like(delta), -delta, P, P).unbind(1)  # (M, P, P) each
    edge = torch.zeros_like(across[0])
    edge[: P // 2, 0] = edge[P // 2 :, -1] = 1
    colour, alpha = tiles.split([3, 1], dim=1)
    held = [matrix + edge * (1 - matrix.sum(-1, keepdim=True)) for matrix in (across, down)]
    colour = held[1][:, None] @ (colour @ held[0].mT[:, None])
    alpha = down[:, None] @ (alpha @ across.mT[:, None])
    return torch.cat([colour, alpha.clamp(max=1)], dim=1)  # rounding may lift it above 1


def paint(tiles: Tensor) -> Tensor:
    """Images (B, N, 4, C, S, S), one per parity, that hold ``tiles`` (B, N, G, G, C, P, P); zeros elsewhere."""
    images = []
    for row, column in PARITIES:
        group = tiles[:, :, row::2, column::2].permute(0, 1, 4, 2, 5, 3, 6)  # (B, N, C, G/2, P, G/2, P)
        images.append(_offset(group.flatten(5, 6).flatten(3, 4), row, column, tiles.shape[-1] // 4))
    return torch.stack(images, dim=2)


def composite(background: Tensor, images: Tensor) -> Stack:
    """RGBA ``images`` (B, n, 4, S, S), from back to front, over ``background`` (B, 3, S, S)."""
    colour, alpha = images.split([3, 1], dim=2)
    # The light that passes an image and all before it; the foremost is met first. Not by cumprod: on a GPU the host
    # would wait in its backward pass, which looks for zeros.
    products = list(accumulate((1 - alpha).flip(1).unbind(1), operator.mul))
    passed = torch.stack(products, dim=1).flip(1)  # (B, n, 1, S, S)
    visible = alpha * F.pad(passed[:, 1:], (0, 0, 0, 0, 0, 0, 0, 1), value=1.0)
    image = passed[:, 0] * background + (visible * colour).sum(1)
    return Stack(image, visible, passed[:, 0])


def owners(grid: int, spacing: int, like: Tensor) -> Tensor:
    """Which anchor (i G + j) a pixel belongs to in the image of each parity: (4, S, S), int64.

    Pixels that an image's tiles do not reach are given to the nearest.
    """
    pixel = torch.arange(grid * spacing, device=like.device)
    line = []
    for parity in (0, 1):
        start = spacing // 2 * (2 * parity - 1)  # of the first tile
        tile = torch.div(pixel - start, 2 * spacing, rounding_mode="floor").clamp(0, grid // 2 - 1)
        line.append(2 * tile + parity)
    return torch.stack([line[row][:, None] * grid + line[column] for row, column in PARITIES])


def spread(images: Tensor, grid: int, spacing: int) -> Tensor:
    """One full-size map per anchor, (B, N G^2, C, S, S), layer by layer and row by row, from ``images``
    (B, N, 4, C, S, S) that are zero where their tiles do not reach.
    """
    B, N, _, C, S, _ = images.shape
    owner = owners(grid, spacing, images)[:, None].expand(B * N, 4, C, S, S)
    maps = images.new_zeros(B * N, grid**2, C, S, S)
    # within the image of a parity a pixel has one owner, and an anchor has one parity: nothing is written twice
    return maps.scatter_(1, owner, images.flatten(0, 1)).unflatten(0, (B, N)).flatten(1, 2)


def boxes(delta: Tensor, grid: int, spacing: int) -> Tensor:
    """Moved tiles (B, N G^2, 4), xyxy in pixels, cut to their anchor's window and the canvas.

    ``delta`` (B, N, G, G, 2) is right and down, in units of ``spacing``.
    """
    centre = cells(grid, delta.device).view(grid, grid, 2) + 0.5  # column, row
    low, high = centre + delta.clamp(min=0) - 1, centre + delta.clamp(max=0) + 1
    return (torch.cat([low, high], dim=-1).clamp(0, grid) * spacing).flatten(1, 3)


def _offset(images: Tensor, row: int, column: int, half: int) -> Tensor:
    """``images`` (..., S, S) moved down and right by ``half`` pixels, or up and left where the parity is 0."""
    x, y = half * (2 * column - 1), half * (2 * row - 1)
    return F.pad(images, (x, -x, y, -y))
