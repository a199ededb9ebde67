"""What SPAIR infers of each cell: box, appearance, depth and presence, given the cells before it.

Crawford and Pineau 2019, section 3.1: a cell sees its own features and the latents of its upper and left neighbours.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from trainables import noise, positions
from trainables.spair.count_prior import PRESENCE_FLOOR
from trainables.spair.networks import Perceptron, mean_std, scaled
from trainables.spatial_transformer import crop

CONTEXT = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 0))
"""Whose latents a cell sees, as steps of row and column. The last is the cell itself: its latents do not exist yet, and
it sees those of an empty cell in their place, as published."""

SATURATION = 10.0
"""Raw samples of box and depth are clamped to plus or minus this before their sigmoid."""

MAX_LOGIT = math.log((1 - PRESENCE_FLOOR) / PRESENCE_FLOOR)
"""Log-odds of presence are clamped to plus or minus this."""


class Cells(NamedTuple):
    """Posteriors and samples of the N cells of a batch of images, in raster order; all (B, N, D)."""

    where_mean: Tensor
    where_std: Tensor
    where: Tensor
    """D = 4: raw width, height, x and y, see :func:`box`."""
    what_mean: Tensor
    what_std: Tensor
    what: Tensor
    """D = ``z_what_dim``: the appearance."""
    depth_mean: Tensor
    depth_std: Tensor
    depth: Tensor
    """D = 1: raw depth, see :func:`distance`."""
    logit: Tensor
    """D = 1: log-odds of presence."""
    presence: Tensor
    """D = 1: relaxed sample of presence in (0, 1); 0 or 1 in evaluation."""


class CellInference(nn.Module):
    """Infers the cells of images in waves: cells that do not see each other are inferred together."""

    def __init__(self, features: int, z_what: int, glimpse: int, grid: int, anchor: float, width: float):
        super().__init__()
        hidden = passed = scaled(100, width)
        latent = 6 + z_what
        base = features + len(CONTEXT) * latent
        self.features = features
        self.glimpse = glimpse
        self.grid = grid
        self.anchor = anchor
        self.sizes = [4] * 3 + [z_what] * 3 + [1] * 5
        self.box = Perceptron(base, hidden, hidden, 8 + passed)
        self.encoder = Perceptron(features + 4 + 3 * glimpse**2, scaled(256, width), scaled(128, width), 2 * z_what)
        self.depth = Perceptron(base + 4 + z_what + passed, hidden, hidden, 2 + passed)
        self.presence = Perceptron(base + 4 + z_what + 1 + passed, hidden, hidden, 1)
        self.empty = nn.Parameter(torch.zeros(latent))
        """The latents of a cell outside of the grid."""
        self.order(wavefronts(grid))
        self.register_buffer("position", positions.cells(grid).float(), persistent=False)  # (N, 2): column, row
        self.position: Tensor

    def order(self, waves: list[slice]) -> None:
        """Infer the cells in ``waves`` of raster indices; those of a wave must not see each other."""
        self.waves = waves
        order = torch.cat([torch.arange(self.grid**2)[wave] for wave in waves])
        self.register_buffer("raster", order.argsort(), persistent=False)  # (N,): where each cell comes in the waves
        self.raster: Tensor

    def forward(self, image: Tensor, features: Tensor, noises: Tensor, tau: float, hard: bool) -> Cells:
        """The cells of ``image`` (B, 3, H, W) with ``features`` (B, N, F) and ``noises`` (B, N, 6 + D).

        ``noises`` is what :func:`draw` draws; zeros give the posteriors' means. ``hard`` rounds presence.
        """
        B = len(image)
        empty = self.empty.expand(B, -1)
        own = features.unbind(1)
        latents: dict[tuple[int, int], Tensor] = {}  # row and column -> (B, 6 + D) of the cells that are finished
        waves = []
        for wave in self.waves:
            cells = [divmod(i, self.grid) for i in range(self.grid**2)[wave]]
            context = [
                part
                for row, column in cells
                for part in (
                    own[row * self.grid + column],
                    *(latents.get((row + down, column + right), empty) for down, right in CONTEXT),
                )
            ]
            base = torch.cat(context, dim=-1).view(B, len(cells), -1)  # (B, n, F + 5 * (6 + D))
            inferred = self._infer(image, base, self.position[wave], noises[:, wave], tau, hard)
            latent = torch.cat([inferred.presence, inferred.where, distance(inferred.depth), inferred.what], dim=-1)
            latents.update(zip(cells, latent.unbind(1), strict=True))
            waves.append(torch.cat(inferred, dim=-1))
        return Cells(*torch.cat(waves, dim=1)[:, self.raster].split(self.sizes, dim=-1))

    def _infer(self, image: Tensor, base: Tensor, position: Tensor, noises: Tensor, tau: float, hard: bool) -> Cells:
        """Some cells whose context is finished: ``base`` (B, n, features + context), ``position`` (n, 2)."""
        where_noise, what_noise, depth_noise, presence_noise = noises.split([4, self.sizes[3], 1, 1], dim=-1)

        mean, std, passed = self.box(base).float().tensor_split([4, 8], dim=-1)
        where_mean, where_std = mean_std(mean, std)
        where = where_mean + where_std * where_noise
        shape = box(where)
        glimpse = crop(image, self.place(shape, position), self.glimpse).flatten(2)  # (B, n, 3 * glimpse^2)

        seen = torch.cat([base[..., : self.features], shape, glimpse], dim=-1)
        what_mean, what_std = mean_std(*self.encoder(seen).float().chunk(2, dim=-1))
        what = what_mean + what_std * what_noise

        seen = torch.cat([base, shape, what, passed.relu()], dim=-1)
        mean, std, passed = self.depth(seen).float().tensor_split([1, 2], dim=-1)
        depth_mean, depth_std = mean_std(mean, std)
        depth = depth_mean + depth_std * depth_noise

        seen = torch.cat([base, shape, what, distance(depth), passed.relu()], dim=-1)
        logit = self.presence(seen).float().clamp(-MAX_LOGIT, MAX_LOGIT)
        presence = ((logit + presence_noise) / tau).sigmoid()
        if hard:
            presence = presence.round()
        return Cells(
            *(where_mean, where_std, where),
            *(what_mean, what_std, what),
            *(depth_mean, depth_std, depth),
            *(logit, presence),
        )

    def place(self, shape: Tensor, position: Tensor | None = None) -> Tensor:
        """Boxes (B, n, 4), as ``trainables.spatial_transformer`` wants them, from :func:`box`'s (B, n, 4).

        ``position`` (n, 2) is the column and row of each cell; None means all cells.
        """
        position = self.position if position is None else position
        size, shift = shape.split(2, dim=-1)
        return torch.cat([size * self.anchor, 2 / self.grid * (shift + position) - 1], dim=-1)


def wavefronts(grid: int) -> list[slice]:
    """The cells of a ``grid`` in 3 * grid - 2 waves: a cell needs those at its left and in the row above, up to one
    to the right, so that all with the same column + 2 * row can be inferred at once.
    """
    waves: list[list[int]] = [[] for _ in range(3 * grid - 2)]
    for i in range(grid**2):
        row, column = divmod(i, grid)
        waves[column + 2 * row].append(i)
    # a row down is two columns back
    return [slice(wave[0], wave[-1] + 1, max(1, grid - 2)) for wave in waves]


def draw(cells: int, z_what: int, like: Tensor) -> Tensor:
    """Noise (B, N, 6 + D) of the latents: box 4, appearance D, depth 1 and, logistic, presence 1.

    Drawn cell by cell in raster order, whatever the order of inference, as (B, 4), (B, D), (B, 1) and (B, 1).
    """
    B, eps = len(like), torch.finfo(like.dtype).eps
    drawn = []
    for _ in range(cells):
        normal = [noise.normal((B, D), like) for D in (4, z_what, 1)]
        u = noise.uniform((B, 1), like).clamp(eps, 1 - eps)
        drawn.append(torch.cat([*normal, u.log() - (-u).log1p()], dim=-1))
    return torch.stack(drawn, dim=1)


def box(where: Tensor) -> Tensor:
    """Width and height as shares of the anchor, x and y in cells from the cell's own corner: (..., 4) from (..., 4).

    A centre moves at most half a cell out of its cell.
    """
    size, shift = where.clamp(-SATURATION, SATURATION).sigmoid().split(2, dim=-1)
    return torch.cat([size, 2 * shift - 0.5], dim=-1)


def distance(depth: Tensor) -> Tensor:
    """Distance in (0, 1) from raw depth; small is in front."""
    return depth.clamp(-SATURATION, SATURATION).sigmoid()
