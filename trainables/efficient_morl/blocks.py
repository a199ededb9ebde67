"""What inference and decoder share: the map of positions, and the normals that raw numbers stand for.

Axes: B batch, K slots, D latent dimensions, C channels, H W pixels.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from trainables.positions import ramps

Normal = tuple[Tensor, Tensor]
"""Mean and standard deviation, each (B, K, D)."""


class Position(nn.Module):
    """A learned linear map of each cell's place in a square grid."""

    ramps: Tensor

    def __init__(self, channels: int, side: int):
        super().__init__()
        self.linear = nn.Linear(4, channels)
        # 1 - row, row, column, 1 - column
        self.register_buffer("ramps", ramps(side)[..., [2, 0, 1, 3]], persistent=False)

    def forward(self) -> Tensor:
        """(side, side, C)."""
        return self.linear(self.ramps)


def normal(raw: Tensor) -> Normal:
    """The normal whose mean and variance parameter are the halves of ``raw`` (B, K, 2D).

    The parameter's softplus is the variance, between 1e-5 and 80.
    """
    mean, s = raw.chunk(2, -1)
    return mean, (F.softplus(s.clamp(max=80)) + 1e-5).sqrt()
