"""The convolutional blocks of SPACE's networks, beside those in ``trainables.conv_blocks``."""

from collections.abc import Sequence

from torch import Tensor, nn

from trainables.conv_blocks import conv_block, upsample_block


def conv_bn(inputs: int, outputs: int, stride: int, padding: int) -> nn.Sequential:
    """3x3 convolution, BatchNorm, ELU: (B, inputs, H, W) -> (B, outputs, H', W')."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, padding), nn.BatchNorm2d(outputs), nn.ELU(inplace=True))


def upsample(inputs: int, outputs: int, factor: int, groups: int) -> nn.Sequential:
    """Sub-pixel convolution and a 3x3 block: (B, inputs, H, W) -> (B, outputs, factor * H, factor * W)."""
    return nn.Sequential(
        *upsample_block(inputs, outputs, 1, factor, groups), conv_block(outputs, outputs, 3, 1, 1, groups)
    )


class PixelDecoder(nn.Module):
    """Grows a latent vector into a full-size map of logits: (B, D) -> (B, outputs, S, S), S the factors' product."""

    def __init__(self, latent: int, channels: Sequence[int], factors: Sequence[int], outputs: int):
        super().__init__()
        stem, *stages = channels
        layers: list[nn.Module] = [conv_block(latent, stem, 1, 1, 0, 16)]
        for inputs, width, factor, groups in zip(channels[:-1], stages, factors, (16, 16, 8, 4), strict=True):
            layers.append(upsample(inputs, width, factor, groups))
        layers += [conv_block(stages[-1], stages[-1], 3, 1, 1, 4), nn.Conv2d(stages[-1], outputs, 3, 1, 1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        """Logits (B, outputs, S, S) of latents ``z`` (B, D)."""
        return self.layers(z[..., None, None])
