"""What predicts the transformations: encoders of the image, and arrays of heads."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SMALL_IMAGE = 32
"""Up to this side in pixels ResNet-18 has no max-pooling: it would leave a map of one cell, without positions."""


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a skip connection: (B, inputs, H, W) -> (B, outputs, H / stride, W / stride)."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = nn.Sequential()
        if stride > 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Add what the convolutions make of ``x`` to ``x``."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(y)) + self.downsample(x), inplace=True)


class ResNet18(nn.Sequential):
    """The convolutional trunk of ResNet-18 (He et al. 2016), with random weights: (B, 3, H, W) -> (B, 8C, h, w)."""

    def __init__(self, channels: int, image_size: int):
        c = channels
        pool = nn.MaxPool2d(3, 2, 1) if image_size > SMALL_IMAGE else nn.Identity()
        stages = [
            nn.Sequential(BasicBlock(inputs, outputs, stride), BasicBlock(outputs, outputs, 1))
            for inputs, outputs, stride in [(c, c, 1), (c, 2 * c, 2), (2 * c, 4 * c, 2), (4 * c, 8 * c, 2)]
        ]
        stem = nn.Conv2d(3, c, 7, 2, 3, bias=False)
        super().__init__(stem, nn.BatchNorm2d(c), nn.ReLU(inplace=True), pool, *stages)
        self.outputs = 8 * c
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class SmallEncoder(nn.Sequential):
    """3x3 convolutions of stride 2, down to a map of 4 pixels: (B, 3, H, W) -> (B, outputs, 4, 4)."""

    def __init__(self, channels: int, image_size: int):
        layers: list[nn.Module] = []
        width = 3
        for i in range(max(1, (image_size // 4).bit_length() - 1)):
            inputs, width = width, channels * min(2**i, 4)
            layers += [nn.Conv2d(inputs, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        super().__init__(*layers)
        self.outputs = width


class Linears(nn.Module):
    """Linear layers side by side, an array of them of any ``shape``, each initialised as torch would."""

    def __init__(self, shape: tuple[int, ...], inputs: int, outputs: int):
        super().__init__()
        self.sizes = (math.prod(shape), outputs, inputs)
        bound = 1 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(*shape, outputs, inputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(*shape, outputs).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """(N, B, outputs) from an input (N, B, inputs) for each of the N layers, or one (B, inputs) for all."""
        N, outputs, inputs = self.sizes
        if x.ndim == 2:
            y = F.linear(x, self.weight.reshape(N * outputs, inputs), self.bias.reshape(N * outputs))
            return y.view(len(x), N, outputs).transpose(0, 1)
        return torch.baddbmm(self.bias.reshape(N, 1, outputs), x, self.weight.reshape(self.sizes).mT)


class Heads(nn.Module):
    """Perceptrons side by side, an array of them of ``shape``: features (B, D) -> (B, *shape, outputs).

    The last layer starts at zero, so that every transformation starts as the identity.
    """

    def __init__(self, shape: tuple[int, ...], inputs: int, hidden: int, outputs: int):
        super().__init__()
        self.outputs = (*shape, outputs)
        self.first = Linears(shape, inputs, hidden)
        self.second = Linears(shape, hidden, hidden)
        self.last = Linears(shape, hidden, outputs)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Predict, in float32."""
        x = self.last(F.relu(self.second(F.relu(self.first(features)))))  # (N, B, outputs)
        return x.float().transpose(0, 1).reshape(len(features), *self.outputs)
