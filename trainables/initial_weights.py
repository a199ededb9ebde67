"""Initial weights that several models share."""

from torch import nn


def xavier(gain: float, *modules: nn.Module) -> None:
    """Xavier normal weights times ``gain`` and zero biases in all linear and convolutional layers of ``modules``."""
    for module in modules:
        for layer in module.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                nn.init.xavier_normal_(layer.weight, gain)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
