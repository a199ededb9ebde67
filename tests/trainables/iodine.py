"""Narrow IODINE models, and what their tests share."""

import pytest
import torch
from torch import Tensor, nn

import trainables
from trainables import noise
from trainables.iodine import Model

SMALL = {"num_slots": 4, "num_iters": 3, "z_size": 8, "lstm_dim": 16, "refine_channels": 8, "dec_channels": 8}
LATENTS = (4, 8)
"""K and Z of :data:`SMALL`."""

both = pytest.mark.parametrize("replicate", [False, True])
mixtures = pytest.mark.parametrize("mixture", ["channel", "pixel"])


def model(image_size: int = 32, seed: int = 0, **keys) -> Model:
    """A freshly initialised narrow model, with larger weights where ``replicate`` starts near zero."""
    torch.manual_seed(seed)
    built = trainables.build("iodine", SMALL | keys, image_size)
    assert isinstance(built, Model)
    if keys.get("replicate"):
        for module in built.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_normal_(module.weight)
    return built


def images(batch: int, size: int = 32) -> Tensor:
    """Uniform noise (B, 3, size, size)."""
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(1))


def fix_noise(monkeypatch: pytest.MonkeyPatch, eps: Tensor) -> None:
    """The latents of iteration t are drawn with ``eps[t]``; ``eps`` is (T, B, K, Z)."""
    draws = iter(eps)

    def normal(shape, like):
        drawn = next(draws)
        assert tuple(shape) == tuple(drawn.shape)
        return drawn.to(like)

    monkeypatch.setattr(noise, "normal", normal)


def count(*modules: nn.Module) -> int:
    """Parameters of some modules."""
    return sum(p.numel() for module in modules for p in module.parameters())


def refinements(m: Model, image: Tensor) -> list:
    """What each refinement of a forward pass is given: (image, scene, gradients, posterior, state)."""
    given: list = []
    handle = m.refinement.register_forward_pre_hook(lambda _, inputs: given.append(inputs))
    m(image, 0)
    handle.remove()
    return given


def show(m: Model, colour: Tensor, logits: Tensor) -> None:
    """Whatever the latents, the decoder shows ``colour`` (B, K, 3, H, W) and ``logits`` (B, K, 1, H, W)."""

    def shown(decoder: nn.Module, inputs: tuple, output: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return colour + 0 * output[0], logits + 0 * output[1]  # zero times the output keeps the graph

    m.decoder.register_forward_hook(shown)


def norms(m: Model) -> list[nn.Module]:
    return [module for name, module in m.refinement.named_children() if name.startswith("norm")]
