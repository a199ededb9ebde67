"""Where pixels and cells are: maps that a network reads beside the image or a latent, and the cells of a grid."""

import torch
from torch import Tensor


def coordinates(size: int) -> Tensor:
    """(2, size, size): the row and the column of each pixel, from -1 to 1 with both end points."""
    line = torch.linspace(-1, 1, size)
    return torch.stack(torch.meshgrid(line, line, indexing="ij"))


def ramps(size: int) -> Tensor:
    """(size, size, 4): row, column, 1 - row, 1 - column of each pixel, in [0, 1] with both end points."""
    line = torch.linspace(0, 1, size)
    row, column = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([row, column, 1 - row, 1 - column], dim=-1)


def cells(grid: int, device: torch.device | None = None) -> Tensor:
    """(grid * grid, 2), int64: the column and the row of each cell, row by row."""
    index = torch.arange(grid, device=device)
    return torch.cartesian_prod(index, index).flip(-1)


def centres(shift: Tensor) -> Tensor:
    """Box centres (B, N, 2), x and y from -1 to 1 over the image, of the N cells of a square grid.

    ``shift`` (B, N, 2) is raw: its tanh is the distance from the centre of the cell, in cells.
    """
    grid = round(shift.shape[1] ** 0.5)
    return 2 / grid * (cells(grid, shift.device) + 0.5 + shift.tanh()) - 1
