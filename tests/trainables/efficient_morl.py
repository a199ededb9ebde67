"""Narrow EfficientMORL models, and how their tests run them."""

import pytest
import torch
from torch import Tensor

import trainables
from trainables import noise
from trainables.efficient_morl import Model

SMALL = {"num_slots": 4, "z_dim": 8, "enc_channels": 8, "dec_channels": 8, "hidden": 8, "init_gain": 1.0}
REFINED, HALFWAY = 0, 400_000
"""Steps with three refinements and with one."""


def model(image_size: int = 32, seed: int = 0, **keys) -> Model:
    """A freshly initialised narrow model."""
    torch.manual_seed(seed)
    built = trainables.build("efficient_morl", SMALL | keys, image_size)
    assert isinstance(built, Model)
    return built


def images(batch: int, size: int = 32) -> Tensor:
    """Uniform noise (B, 3, size, size)."""
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(1))


def explain(m: Model, image: Tensor, step: int = REFINED, seed: int = 0):
    """The model's output with fixed noise."""
    with noise.drawn_from(torch.Generator().manual_seed(seed)):
        return m(image, step)


def fix_noise(monkeypatch: pytest.MonkeyPatch, pattern: Tensor, change=lambda eps: eps) -> None:
    """The n-th noise drawn from here on is ``pattern[n]``, after ``change``; ``pattern`` is (N, B, K, D)."""
    rows = iter(pattern)

    def normal(shape, like):
        eps = change(next(rows))
        assert eps.shape == tuple(shape)
        return eps.to(like)

    monkeypatch.setattr(noise, "normal", normal)


def gradients(m: Model, loss: Tensor) -> dict[str, Tensor]:
    """Gradient of ``loss`` by parameter."""
    found = torch.autograd.grad(loss, list(m.parameters()), allow_unused=True, retain_graph=True)
    return {name: g for (name, _), g in zip(m.named_parameters(), found, strict=True) if g is not None}
