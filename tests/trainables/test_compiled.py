"""Training under torch.compile: the same losses, few compilations, and a trial that goes on where it fails."""

import dataclasses
import importlib
import importlib.util
import logging
import subprocess
import sys
from typing import Any

import pytest
import torch

import trainables
from study.results_folder import ROOT
from tests.trainables import scenes, toy
from trainables import compiled
from trainables.threads import one_thread
from trainables.training import Task, Training

SIZE = 32
STEPS = 5
CLOSE = 1e-3
"""Relative; compiled kernels add in another order, and updates amplify it."""


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch):
    """What compiling changes in torch is as before afterwards."""
    level, limit = logging.getLogger("torch._dynamo").level, torch._dynamo.config.recompile_limit
    monkeypatch.delenv("TORCHINDUCTOR_COMPILE_THREADS", raising=False)
    monkeypatch.setattr(torch._inductor.config, "compile_threads", 64)
    with one_thread():
        yield
    logging.getLogger("torch._dynamo").setLevel(level)
    torch._dynamo.config.recompile_limit = limit
    torch.compiler.reset()


def trial(name: str, compile: bool, **changes: Any) -> Training:
    task = Task(name, SIZE, steps=1000, reports=10, seed=0, metric="mIoU_fg", compile=compile)
    config = {**importlib.import_module(f"search_spaces.{name}").TINY, "batch_size": 4, **changes}
    return Training(task, config, 0, scenes.split(4, SIZE), torch.device("cpu"))


def losses(run: Training, steps: int = STEPS) -> list[float]:
    return [run.advance(1)["loss"] for _ in range(steps)]


class Graphs:
    """A backend that runs graphs as they are and counts them; with ``bad``, it refuses them."""

    def __init__(self, bad: bool = False):
        self.count, self.bad = 0, bad

    def __call__(self, graph, inputs):
        self.count += 1
        if self.bad:
            raise ValueError("no such kernel\nand more")
        return graph


@pytest.mark.parametrize(("name", "changes"), [("iodine", {}), ("efficient_morl", {"likelihood": "gaussian", "L": 1})])
def test_losses_are_those_without_it(name, changes, monkeypatch):
    """With gradients taken within forward, which torch.compile cannot follow; of the others one below."""
    monkeypatch.setattr(compiled, "BACKEND", "aot_eager")
    run = trial(name, True, **changes)
    assert losses(run) == pytest.approx(losses(trial(name, False, **changes)), rel=CLOSE)
    assert run.remarks() == [] and run._compiled.failure is None


def test_losses_are_those_without_it_in_kernels_of_its_own():
    run = trial("slot_attention", True)
    assert losses(run) == pytest.approx(losses(trial("slot_attention", False)), rel=CLOSE)
    assert run.remarks() == []
    assert set(run.state()["weights"]) == set(trial("slot_attention", False).state()["weights"])


def test_steps_and_later_trials_of_the_same_shape_compile_nothing_anew(monkeypatch):
    graphs = Graphs()
    monkeypatch.setattr(compiled, "BACKEND", graphs)
    run = trial("slot_attention", True)
    losses(run, 2)
    assert graphs.count == 0
    losses(run, 2)
    first = graphs.count
    assert first > 0
    losses(run, 4)
    for changes in ({}, {"lr": 1e-3}):
        losses(trial("slot_attention", True, **changes))
    assert graphs.count == first
    losses(trial("slot_attention", True, num_slots=5))
    assert graphs.count > first


@pytest.fixture
def toys():
    """The toy with compiling and without: a step of it costs nothing."""
    with toy.findable():
        yield toy.training(dataclasses.replace(toy.TASK, compile=True)), toy.training()


def test_a_trial_whose_forward_cannot_be_compiled_goes_on_without_and_says_so_once(toys, monkeypatch):
    run, plain = toys
    graphs = Graphs(bad=True)
    monkeypatch.setattr(compiled, "BACKEND", graphs)
    run = toy.training(run.task)
    losses(run, compiled.FIRST)
    assert run.remarks() == []
    losses(run, 2)
    assert run.remarks() == ["goes on without --compile, which failed: ValueError: no such kernel"]
    losses(run, 1)
    assert run.remarks() == [] and graphs.count == 1
    losses(plain, compiled.FIRST + 3)
    assert toy.state(run) == toy.state(plain), "the noise too"


def test_so_does_one_whose_backward_pass_cannot(toys, monkeypatch):
    monkeypatch.setattr(compiled, "BACKEND", lambda graph, inputs: lambda *args: [Bad.apply(x) for x in graph(*args)])
    run, plain = toy.training(toys[0].task), toys[1]
    assert losses(run) == losses(plain)
    assert run.remarks() == ["goes on without --compile, which failed: ValueError: no such kernel"]
    assert toy.state(run) == toy.state(plain)


class Bad(torch.autograd.Function):
    """The identity, whose backward pass fails."""

    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        raise ValueError("no such kernel")


def test_a_models_own_error_is_no_matter_of_compiling(toys, monkeypatch):
    def forward(self, image, step):
        raise IndexError("mine")

    monkeypatch.setattr(compiled, "BACKEND", Graphs())
    monkeypatch.setattr(trainables.load("toy").Model, "forward", forward)
    run = toy.training(toys[0].task)
    run.step = compiled.FIRST
    with pytest.raises(IndexError, match="mine"):
        run.advance(1)


def test_a_compiler_that_is_missing_is_named(monkeypatch):
    compiled.refuse_without_compiler(on_gpu=False)
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ValueError, match=r"^--compile needs a C\+\+ compiler, and there is no no-such-compiler; "):
        compiled.refuse_without_compiler(on_gpu=False)


@pytest.mark.skipif(importlib.util.find_spec("triton") is not None, reason="Triton is installed")
def test_on_a_gpu_triton_is_needed():
    with pytest.raises(ValueError, match=r"^--compile needs Triton on a GPU"):
        compiled.refuse_without_compiler(on_gpu=True)


def test_a_worker_compiles_with_no_more_processes_than_it_has_cores():
    trial("slot_attention", True)
    assert torch._inductor.config.compile_threads == 1


def test_importing_models_does_not_load_the_compiler():
    """It takes a second and 70 MB, in each process that only scores or predicts."""
    script = (
        "import sys, trainables.scoring, trainables.noise, trainables.spair.count_prior, trainables.iodine.likelihood"
    )
    script += "; assert 'torch._dynamo' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)
