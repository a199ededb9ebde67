"""The contract that every model keeps, with its CPU preset and the loop that trains it in a study.

What a GPU could change runs there, too, where there is one (``-m gpu``).
"""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import trainables
from tests.trainables import scenes
from trainables import checkpoint, noise
from trainables.model import SegmentationModel
from trainables.training import Task, Training

MODELS = trainables.names()
pytestmark = pytest.mark.parametrize("name", MODELS)

SIZE = 32
CPU = torch.device("cpu")
on_every_device = pytest.mark.parametrize(
    "device",
    [
        pytest.param(torch.device(name), id=name, marks=marks)
        for name, marks in (("cpu", ()), ("cuda", pytest.mark.gpu))
    ],
)
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


def build(name: str, config: dict[str, Any], size: int = SIZE) -> SegmentationModel:
    torch.manual_seed(0)
    return trainables.build(name, config, size)


def training(
    name: str,
    batch: int = 4,
    precision: str = "fp32",
    number: int = 0,
    device: torch.device = CPU,
    **changes: Any,
) -> Training:
    """A trial whose every batch holds the same ``batch`` images."""
    task = Task(name, SIZE, steps=1000, reports=10, seed=0, metric="mIoU_fg", precision=precision)
    config = tiny(name, batch_size=batch, **changes)
    return Training(task, config, number, scenes.split(batch, SIZE), device)


def explain(model: SegmentationModel, image: Tensor, step: int = 0, seed: int = 0) -> Any:
    with noise.drawn_from(torch.Generator(image.device).manual_seed(seed)):
        return model(image, step)


@on_every_device
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_the_output_keeps_the_contract(name: str, mode: str, device: torch.device) -> None:
    model = build(name, tiny(name)).to(device).train(mode == "train")
    image = scenes.images(3, SIZE).to(device)
    with torch.set_grad_enabled(mode == "train"):
        output = explain(model, image)
    output.check(image)
    assert torch.isfinite(output.loss) and torch.isfinite(output.reconstruction).all()
    assert output.loss.requires_grad == (mode == "train")
    assert {value.device.type for value in (output.loss, output.reconstruction, output.masks)} == {device.type}


@on_every_device
def test_every_parameter_learns(name: str, device: torch.device) -> None:
    trial = training(name, device=device)
    trial.advance(1)
    trial.step = trial.model.config.steps  # past all milestones
    lazy = {parameter: path for path, parameter in trial.model.named_parameters()}
    for _ in range(5):
        trial.advance(1)
        for parameter in list(lazy):
            if parameter.grad is not None:
                assert torch.isfinite(parameter.grad).all(), f"gradient of {lazy[parameter]}"
                if parameter.grad.any():
                    del lazy[parameter]
    excused = NO_GRADIENT.get(name, {})
    assert set(excused) <= {path for path, _ in trial.model.named_parameters()}, "an excused parameter is gone"
    assert set(lazy.values()) <= set(excused), "parameters without a gradient"


@on_every_device
def test_the_reconstruction_improves(name: str, device: torch.device) -> None:
    trial = training(name, device=device)
    image = scenes.images(4, SIZE).to(device)

    def squared_error() -> float:
        with torch.no_grad():
            return float((explain(trial.model, image, trial.step).reconstruction - image).square().mean())

    before = squared_error()
    trial.advance(40)
    assert squared_error() < 0.8 * before


@pytest.mark.parametrize("size", [32, 64, 96, 128])
def test_every_size_and_batch_runs(name: str, size: int) -> None:
    """The published widths, with three slots to save time, at every size; the CPU preset at its two."""
    fields = trainables.load(name).Config.__dataclass_fields__
    published = {"num_slots": 3} if "num_slots" in fields else {}
    for config in [published, tiny(name)] if size <= 64 else [published]:
        model = build(name, config, size).eval()
        for batch in (1, 3):
            image = scenes.images(batch, size)
            with torch.no_grad():
                explain(model, image).check(image)


@pytest.mark.gpu
def test_a_trial_saved_on_a_gpu_continues_there_and_on_a_cpu(name: str, tmp_path: Path) -> None:
    """Not bit for bit: kernels of a GPU may add in any order."""
    whole = training(name, device=torch.device("cuda"))
    whole.advance(2)
    path = checkpoint.save(tmp_path, whole.state())
    expected = whole.advance(1)["loss"]
    for device in (torch.device("cuda"), CPU):
        resumed = training(name, number=1, device=device)
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


def test_a_saved_trial_continues_bit_for_bit(name: str, tmp_path: Path) -> None:
    whole = training(name)
    whole.advance(2)
    path = checkpoint.save(tmp_path, whole.state())
    whole.advance(3)
    resumed = training(name, number=1)  # other weights, noise and order of images
    resumed.load_state(checkpoint.load(path))
    resumed.advance(3)
    for key, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[key]), key
    assert resumed.step == whole.step


def test_a_seed_fixes_the_output(name: str) -> None:
    image = scenes.images(2, SIZE)
    first, second = (explain(build(name, tiny(name)), image) for _ in range(2))
    for key in ("loss", "reconstruction", "masks"):
        assert torch.equal(getattr(first, key), getattr(second, key)), key


@on_every_device
def test_bf16_stays_finite_and_what_is_scored_is_float32(name: str, device: torch.device) -> None:
    trial = training(name, precision="bf16", device=device)
    assert all(np.isfinite(value) for value in trial.advance(3).values())
    assert all(torch.isfinite(parameter).all() for parameter in trial.model.parameters())
    image = scenes.images(2, SIZE).to(device)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        output = explain(trial.model, image)
    output.check(image)
    assert output.loss.dtype == output.reconstruction.dtype == output.masks.dtype == torch.float32


def test_an_unknown_key_gets_a_close_match(name: str) -> None:
    for key in ("steps", "batch_size", "replicate"):  # of the glossary: every model has them
        with pytest.raises(ValueError, match=f"did you mean .*{key}"):
            trainables.build(name, {f"{key}s": 1}, SIZE)
