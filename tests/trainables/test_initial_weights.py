"""Initial weights that several models share."""

import pytest
from torch import nn

from trainables.initial_weights import xavier


def test_xavier_reaches_every_linear_and_convolution_and_nothing_else() -> None:
    norm = nn.GroupNorm(1, 8)
    nn.init.constant_(norm.bias, 3.0)
    layers = [nn.Conv2d(8, 40, 3), nn.ConvTranspose2d(8, 40, 3), nn.Linear(72, 360, bias=False)]
    xavier(0.5, nn.Sequential(layers[0], nn.Sequential(norm, layers[1])), layers[2])
    for layer, taps in zip(layers, (9, 9, 1), strict=True):
        fans = taps * 48 if taps > 1 else 432
        assert float(layer.weight.detach().std()) == pytest.approx(0.5 * (2 / fans) ** 0.5, rel=0.1)
        assert layer.bias is None or not layer.bias.any()
    assert (norm.bias == 3).all()
