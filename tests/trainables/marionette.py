"""A small MarioNette, as its tests want it."""

import torch

from trainables import typed_config
from trainables.marionette import Config, Model

SMALL = Config(
    steps=100,
    n_layers=2,
    n_sprites=6,
    anchor_spacing=8,
    code_dim=16,
    shift_width=8,
    n_backgrounds=2,
    lr=1e-3,
)

WIDE = dict(code_dim=32, shift_width=32, background_dim=32)
"""Widths from which on the published normalisation in 8 groups is ours, too."""


def small(size=32, **changes):
    """A fresh model with ``changes`` to SMALL, always with the same weights."""
    torch.manual_seed(0)
    return Model(typed_config.make(Config, {**vars(SMALL), **changes}), size)


def like(model, **changes):
    """A copy of ``model`` with other hyperparameters."""
    copy = Model(typed_config.make(Config, {**vars(model.config), **changes}), model.image_size)
    copy.load_state_dict(model.state_dict())
    return copy.train(model.training)
