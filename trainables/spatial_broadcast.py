"""Spatial broadcast: a latent, the same at every pixel, decoded beside maps that tell the pixels apart.

Watters et al. 2019, *Spatial Broadcast Decoder*.
"""

import torch.nn.functional as F
from torch import Tensor, nn


def broadcast_conv(conv: nn.Conv2d, z: Tensor, planes: Tensor) -> Tensor:
    """``conv``, stride 1 and unpadded, of ``z`` (M, D), tiled over ``planes`` (1, P, H, W): (M, C, H-k+1, W-k+1).

    The first D input channels of ``conv`` see the latent and the last P the planes: P more channels for planes that
    are appended, the same D for planes that are added. Nothing is tiled: a constant map under a kernel is the constant
    times the kernel's sum, so that only the planes, shared by the batch, need a convolution.
    """
    assert conv.padding == (0, 0) and conv.stride == (1, 1) and conv.in_channels <= z.shape[1] + planes.shape[1]
    constant = F.linear(z, conv.weight[:, : z.shape[1]].sum((2, 3)), conv.bias)  # (M, C)
    return constant[..., None, None] + F.conv2d(planes, conv.weight[:, -planes.shape[1] :])
