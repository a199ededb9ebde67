"""Axis-aligned spatial transformers: crop glimpses out of an image, paste them back, and read their boxes.

A box is ``z_where`` = (sx, sy, tx, ty): its size as a share of the image's and its centre in coordinates that run
from -1 to 1 over the image (Jaderberg et al. 2015). Without rotation or shear, bilinear sampling with zero padding
separates into one small interpolation matrix per axis. Two matrix products give what ``grid_sample`` gives, without
its grid of two coordinates per pixel and cell, and faster on CPU and GPU alike.

Everything here runs in float32 whatever autocast says: half-precision coordinates miss by whole pixels.
"""

import torch
from torch import Tensor


def interpolation_matrix(scale: Tensor, shift: Tensor, rows: int, columns: int, align_corners: bool = False) -> Tensor:
    """The matrix that resamples ``columns`` input points to ``rows`` output points.

    Output coordinate u in [-1, 1] reads the input at ``scale * u + shift``. ``scale`` and ``shift`` (...) give
    (..., rows, columns). ``align_corners`` is that of ``torch.nn.functional.grid_sample``: whether -1 and 1 mean the
    centres of the outermost pixels or their outer edges.
    """
    if align_corners:
        out = torch.linspace(-1, 1, rows, device=scale.device)
    else:
        out = (2 * torch.arange(rows, device=scale.device) + 1) / rows - 1
    x = scale[..., None] * out + shift[..., None]  # (..., rows)
    position = (x + 1) / 2 * (columns - 1) if align_corners else ((x + 1) * columns - 1) / 2
    distance = position[..., None] - torch.arange(columns, device=scale.device)  # (..., rows, columns)
    return (1 - distance.abs()).relu()


def crop(image: Tensor, z_where: Tensor, size: int, *, align_corners: bool = False) -> Tensor:
    """Glimpses (B, N, C, size, size) of ``image`` (B, C, H, W) at ``z_where`` (B, N, 4); zeros outside the image."""
    B, C, H, W = image.shape
    N = z_where.shape[1]
    with torch.autocast(image.device.type, enabled=False):
        image, z_where = image.float(), z_where.float()
        sx, sy, tx, ty = z_where.unbind(-1)
        across = interpolation_matrix(sx, tx, size, W, align_corners)  # (B, N, size, W)
        down = interpolation_matrix(sy, ty, size, H, align_corners)  # (B, N, size, H)
        # one product for all cells, so that the image is never repeated per cell
        narrow = image.reshape(B, C * H, W) @ across.reshape(B, N * size, W).mT
        narrow = narrow.view(B, C, H, N, size).permute(0, 3, 2, 1, 4).reshape(B, N, H, C * size)
        glimpses = down @ narrow  # (B, N, size, C * size)
        return glimpses.view(B, N, size, C, size).transpose(2, 3)  # (B, N, C, size, size)


def paste(glimpses: Tensor, z_where: Tensor, size: int, *, align_corners: bool = False) -> Tensor:
    """``glimpses`` (B, N, C, h, w) placed at ``z_where`` (B, N, 4) on N empty canvases: (B, N, C, size, size)."""
    B, N, C, h, w = glimpses.shape
    with torch.autocast(glimpses.device.type, enabled=False):
        glimpses, z_where = glimpses.float(), z_where.float()
        inverse = 1 / (z_where[..., :2] + 1e-9)  # (B, N, 2)
        (sx, sy), (tx, ty) = inverse.unbind(-1), (-z_where[..., 2:] * inverse).unbind(-1)
        across = interpolation_matrix(sx, tx, size, w, align_corners)  # (B, N, size, w)
        down = interpolation_matrix(sy, ty, size, h, align_corners)  # (B, N, size, h)
        wide = glimpses.reshape(B, N, C * h, w) @ across.mT  # (B, N, C * h, size)
        return down[:, :, None] @ wide.view(B, N, C, h, size)  # (B, N, C, size, size)


def pixel_boxes(z_where: Tensor, size: int) -> Tensor:
    """Corners (x0, y0, x1, y1) in pixels, clipped to the image of side ``size``: (B, N, 4) from (B, N, 4)."""
    scale, shift = z_where.split(2, dim=-1)
    centre = (shift + 1) / 2
    return torch.cat([centre - scale / 2, centre + scale / 2], dim=-1).clamp(0, 1) * size


def segment(alphas: Tensor) -> Tensor:
    """Masks (B, 1 + N, 1, H, W), background first, from the cells' alphas (B, N, 1, H, W).

    They sum to 1 and have the argmax of the benchmark's own conversion, (1 - sum of alphas, alphas).
    """
    total = alphas.sum(1, keepdim=True)
    return torch.cat([(1 - total).relu(), alphas / total.clamp(min=1)], dim=1)
