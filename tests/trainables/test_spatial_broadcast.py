"""The latent that is never tiled, against the convolution of the tiled one."""

import pytest
import torch
from torch import nn

from trainables.positions import coordinates
from trainables.spatial_broadcast import broadcast_conv


@pytest.mark.parametrize("appended", [True, False])
def test_it_is_the_convolution_of_the_tiled_latent(appended: bool):
    torch.manual_seed(0)
    z = torch.randn(3, 5, requires_grad=True)
    planes = coordinates(9)[None] if appended else torch.randn(1, 5, 9, 9)
    conv = nn.Conv2d(7 if appended else 5, 4, 3)
    tiled = z[..., None, None].expand(3, 5, 9, 9)
    whole = conv(torch.cat([tiled, planes.expand(3, -1, 9, 9)], 1) if appended else tiled + planes)
    short = broadcast_conv(conv, z, planes)
    torch.testing.assert_close(short, whole)
    weight = torch.randn_like(whole)
    inputs = [z, *conv.parameters()]
    for ours, theirs in zip(
        torch.autograd.grad((short * weight).sum(), inputs),
        torch.autograd.grad((whole * weight).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
