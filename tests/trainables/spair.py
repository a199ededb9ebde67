"""A small SPAIR for the tests of its parts."""

from typing import Any

import torch

from trainables import typed_config
from trainables.spair import Config, Model

SMALL: dict[str, Any] = {
    "steps": 100,
    "lr": 1e-3,
    "grad_clip": 100.0,
    "glimpse": 8,
    "z_what_dim": 5,
    "fg_width": 0.2,
    "bg_dim": 2,
    "bg_width": 0.2,
}


def small(size: int = 32, **changes: Any) -> Model:
    """A freshly initialised SPAIR whose few weights are always the same."""
    torch.manual_seed(0)
    return Model(typed_config.make(Config, {**SMALL, **changes}), size)
