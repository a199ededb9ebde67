"""From latents to pixels, and a scalar whose gradient is computed at once.

Axes: B batch, K slots, D latent dimensions, C channels, H W pixels.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from trainables.efficient_morl.blocks import Position
from trainables.efficient_morl.config import Config
from trainables.initial_weights import xavier
from trainables.spatial_broadcast import broadcast_conv

KERNEL = 3
"""Side of the decoder's kernels in pixels."""


class Decoder(nn.Module):
    """Latents -> colours and masks: a spatial broadcast decoder.

    Unpadded convolutions remove the margin of a grid that is larger than the image, or transposed ones double a small
    grid.
    """

    def __init__(self, config: Config, image_size: int):
        super().__init__()
        self.doubling = config.decoder == "deconv"
        width = config.z_dim
        layers: list[nn.Module] = []
        for _ in range(config.dec_layers):
            if self.doubling:
                layers.append(nn.ConvTranspose2d(width, config.dec_channels, KERNEL, 2, 1, output_padding=1))
            else:
                layers.append(nn.Conv2d(width, config.dec_channels, KERNEL))
            layers.append(nn.ELU(inplace=True))
            width = config.dec_channels
        self.conv = nn.Sequential(*layers, nn.Conv2d(width, 4, KERNEL, padding=int(self.doubling)))
        margin = (KERNEL - 1) * (config.dec_layers + 1)
        self.position = Position(
            config.z_dim, image_size >> config.dec_layers if self.doubling else image_size + margin
        )
        xavier(config.init_gain, self)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Colours (B, K, 3, H, W) in (0, 1) and log masks (B, K, 1, H, W) of ``z`` (B, K, D)."""
        first, *others = self.conv
        latent, position = z.flatten(0, 1), self.position().permute(2, 0, 1)[None]  # (B*K, D), (1, D, h, w)
        if self.doubling:
            x = first(latent[..., None, None] + position)
        else:
            assert isinstance(first, nn.Conv2d)
            x = broadcast_conv(first, latent, position)
        x = x.contiguous(memory_format=torch.channels_last)  # saves a quarter of the time that follows
        for layer in others:
            x = layer(x)
        colour, logits = x.unflatten(0, z.shape[:2]).float().split([3, 1], dim=2)
        return colour.sigmoid(), logits.log_softmax(1)


class KnownGradient(torch.autograd.Function):
    """A scalar that depends on ``inputs`` and whose ``gradients`` with respect to them are known already."""

    @staticmethod
    def forward(ctx: Any, scalar: Tensor, gradients: Sequence[Tensor], *inputs: Tensor) -> Tensor:
        """``scalar``, as a function of ``inputs``."""
        ctx.gradients = gradients
        return scalar.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        """``upstream`` times each of the gradients."""
        return None, None, *(upstream * gradient for gradient in ctx.gradients)
