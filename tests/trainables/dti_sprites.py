"""Small DTI-Sprites models for its tests."""

import torch

import trainables
from trainables.dti_sprites import Model
from trainables.dti_sprites.networks import Heads

SMALL = {
    "encoder": "small",
    "enc_channels": 4,
    "head_hidden": 8,
    "num_slots": 4,
    "n_sprites": 3,
    "steps": 100,
    "warmup_frac": 0.0,
    "freeze_frac": 0.2,
    "projective_frac": 0.5,
    "lambda_empty": 0.0,
}
FROZEN, THAWED, BENT = 0, 20, 50
"""The first steps of each phase of SMALL."""


def model(size: int = 32, **keys) -> Model:
    """A freshly initialised small model."""
    torch.manual_seed(0)
    built = trainables.build("dti_sprites", SMALL | keys, size)
    assert isinstance(built, Model)
    return built


def diverse(size: int = 32, **keys) -> Model:
    """A small model with random sprites, background and predictions."""
    m = model(size, **keys)
    with torch.no_grad():
        m.sprites.copy_(torch.rand_like(m.sprites))
        m.background.copy_(torch.rand_like(m.background))
        for heads in m.modules():
            if isinstance(heads, Heads):
                heads.last.weight.normal_(std=0.1)
                heads.last.bias.normal_(std=0.1)
    return m
