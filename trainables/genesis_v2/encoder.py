"""From an image to features: the U-Net (Ronneberger et al. 2015) with a bottleneck that sees the whole image."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GROUPS = 8
"""Groups of the group normalisations."""


class ConvGNReLU(nn.Sequential):
    """A 3x3 convolution without bias, group normalisation and ReLU: (B, inputs, H, W) -> (B, outputs, H, W)."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.GroupNorm(GROUPS, outputs),
            nn.ReLU(inplace=True),
        )


class UNet(nn.Module):
    """Features (B, F, H, W) of images (B, 3, H, W); the path halves the image until it is 4 or 6 pixels wide."""

    def __init__(self, width: int, bottleneck_dim: int, image_size: int):
        super().__init__()
        depth = image_size.bit_length() - 2
        down = [width] * (depth - 3) + [2 * width] * 3
        # the way up is half a level ahead: it narrows one block before the skip it will meet
        up = [2 * width] * 2 + [width] * (depth - 2)
        self.down = nn.ModuleList(ConvGNReLU(i, o) for i, o in zip([3, *down], down, strict=False))
        self.side = image_size >> (depth - 1)
        wide = 2 * width * self.side**2
        self.mlp = nn.Sequential(
            nn.Linear(wide, bottleneck_dim),
            nn.ReLU(inplace=True),
            nn.Linear(bottleneck_dim, bottleneck_dim),
            nn.ReLU(inplace=True),
            nn.Linear(bottleneck_dim, wide),
            nn.ReLU(inplace=True),
        )
        paths = [2 * width, *up]
        self.up = nn.ModuleList(
            ConvGNReLU(path + skip, o) for path, skip, o in zip(paths, reversed(down), up, strict=False)
        )

    def forward(self, image: Tensor) -> Tensor:
        """Explain every pixel of ``image`` (B, 3, H, W) in its context."""
        x, skips = image, list[Tensor]()
        for block in self.down:
            x = block(x if not skips else x[..., ::2, ::2])
            skips.append(x)
        x = self.mlp(x.flatten(1)).view_as(x)  # (B, 2C, side, side)
        for block in self.up:
            skip = skips.pop()
            if x.shape[-1] < skip.shape[-1]:
                x = F.interpolate(x, scale_factor=2, mode="nearest")
            x = block(torch.cat([x, skip], dim=1))
        return x
