"""How sprites and background are recoloured, bent and placed; at zero, all but the position are the identity.

Maps are inverse, from where a pixel is drawn to where it is read, in coordinates from -1 to 1 over the image.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

LEAK = 0.01
"""Slope of the soft clamp outside [0, 1]."""

LEAST_DEPTH = 1e-3
"""Lower bound of a homography's denominator; below zero, pixels would come from behind the observer."""


def soft_clamp(x: Tensor) -> Tensor:
    """``x`` clamped to [0, 1], with a small slope outside, so that gradients can bring it back."""
    return torch.lerp(x.clamp(0, 1), x, LEAK)


def recolour(rgb: Tensor, colour: Tensor) -> Tensor:
    """``rgb`` (..., 3, h, w), each channel scaled by 1 + w and shifted by b; ``colour`` (..., 6) is (w, b) times 3."""
    w, b = colour.unflatten(-1, (3, 2)).unbind(-1)  # (..., 3)
    return soft_clamp(torch.addcmul(b[..., None, None], 1 + w[..., None, None], rgb))


def bend(texture: Tensor, homography: Tensor, *, padding: str = "zeros", replicate: bool = False) -> Tensor:
    """``texture`` (..., C, h, w) under the homography I + ``homography`` (..., 9), row by row.

    With ``replicate``, as published, the grid runs over the centres of the outermost pixels but is sampled as if it ran
    over their outer edges: even the identity shrinks what it shows by (h - 1) / h. ``padding`` is that of
    ``torch.nn.functional.grid_sample``.
    """
    h, w = texture.shape[-2:]
    axes = [torch.linspace(-1, 1, n, device=texture.device) * (1 if replicate else 1 - 1 / n) for n in (h, w)]
    y, x = torch.meshgrid(*axes, indexing="ij")
    points = torch.stack([x, y, torch.ones_like(x)], dim=-1).view(-1, 3)  # (h * w, 3)
    matrix = torch.eye(3, device=texture.device) + homography.unflatten(-1, (3, 3))
    u, v, z = (points @ matrix.mT).unbind(-1)  # (..., h * w)
    if replicate:
        z = torch.where(z.abs() > 1e-8, z + 1e-8, torch.ones_like(z))
    else:
        z = z.clamp(min=LEAST_DEPTH)
    grid = torch.stack([u / z, v / z], dim=-1).view(-1, h, w, 2)
    bent = F.grid_sample(texture.reshape(-1, *texture.shape[-3:]), grid, padding_mode=padding, align_corners=False)
    return bent.view(texture.shape)


def place(position: Tensor) -> Tensor:
    """Boxes (..., 4), see ``trainables.spatial_transformer``, of positions (..., 3): e, t_x, t_y.

    Canvas coordinate x reads the sprite at (1 + exp(e)) x + t_x: at zero, sprites are half as wide as the canvas, and
    they move left as t_x grows.
    """
    e, t = position.split([1, 2], dim=-1)
    side = (-e).sigmoid()
    return torch.cat([side, side, -side * t], dim=-1)
