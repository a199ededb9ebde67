"""Optimisers by name: the one place where a Config's ``optimizer`` string becomes a torch object."""

from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.optim import Adam, AdamW, Optimizer, RMSprop

NAMES = ("adam", "adamw", "rmsprop")


def build(
    name: str, parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]], lr: float, weight_decay: float = 0.0
) -> Optimizer:
    """An optimiser with torch's defaults (Adam betas 0.9, 0.999; RMSprop alpha 0.99; eps 1e-8).

    ``parameters`` may be groups with learning rates of their own, in torch's format. Raises ValueError for a name
    outside :data:`NAMES`.
    """
    match name:
        case "adam":
            return Adam(parameters, lr=lr, weight_decay=weight_decay)
        case "adamw":
            return AdamW(parameters, lr=lr, weight_decay=weight_decay)
        case "rmsprop":
            return RMSprop(parameters, lr=lr, weight_decay=weight_decay)
    raise ValueError(f"optimizer {name!r} is unknown; choose one of {', '.join(NAMES)}")
