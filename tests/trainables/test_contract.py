"""The contract that every model keeps, with its CPU preset and the loop that trains it in a study.

The promises are in ``trainables/contract.py``, which ``clevrtune check`` runs, too. What a GPU could change runs there,
where there is one (``-m gpu``).
"""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import trainables
from trainables import checkpoint
from trainables.contract import CPU, PROMISES, Candidate, Promise

MODELS = trainables.names()
every_model = pytest.mark.parametrize("name", MODELS)
every_promise = pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.name)
NO_GRADIENT: dict[str, dict[str, str]] = {
    "dti_sprites": {
        f"occlusion_head.{layer}.{kind}": "nearly all layers of an untrained model stay empty, and none overlap"
        for layer in ("first", "second", "last")
        for kind in ("weight", "bias")
    },
    "efficient_morl": {
        "refiner.gru.weight_hh": "the preset refines once, from a state of zeros",
        "posterior.norm_q.bias": "adds the same to all slots before the softmax over slots; what is left is rounding",
    },
    "genesis_v2": {"embedding.colour.bias": "moves all embeddings alike, and only their distances count; rounding"},
}
"""Model -> parameter -> why it may end without a gradient."""


def tiny(name: str, **changes: Any) -> dict[str, Any]:
    """The model's CPU preset."""
    return {**importlib.import_module(f"search_spaces.{name}").TINY, **changes}


def candidate(name: str, device: torch.device = CPU) -> Candidate:
    return Candidate(name, tiny(name), device, NO_GRADIENT.get(name, {}))


@every_model
@every_promise
def test_a_model_keeps_the_contract(name: str, promise: Promise) -> None:
    promise.check(candidate(name))


@every_model
@pytest.mark.parametrize("promise", [p for p in PROMISES if p.everywhere], ids=lambda promise: promise.name)
@pytest.mark.gpu
def test_a_model_keeps_it_on_a_gpu(name: str, promise: Promise) -> None:
    promise.check(candidate(name, torch.device("cuda")))


@every_model
@pytest.mark.gpu
def test_a_trial_saved_on_a_gpu_continues_there_and_on_a_cpu(name: str, tmp_path: Path) -> None:
    """Not bit for bit: kernels of a GPU may add in any order."""
    whole = candidate(name, torch.device("cuda")).training()
    whole.advance(2)
    path = checkpoint.save(tmp_path, whole.state())
    expected = whole.advance(1)["loss"]
    for device in (torch.device("cuda"), CPU):
        resumed = candidate(name, device).training(number=1)
        resumed.load_state(checkpoint.load(path))
        assert all(
            torch.equal(value.cpu(), resumed.model.state_dict()[key].cpu())
            for key, value in checkpoint.load(path)["weights"].items()
        )
        loss = resumed.advance(1)["loss"]
        assert np.isfinite(loss)
        if device.type == "cuda":  # a CPU draws other numbers
            assert loss == pytest.approx(expected, rel=1e-2)
        for parameter in resumed.model.parameters():
            assert parameter.device.type == device.type
