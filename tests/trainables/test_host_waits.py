"""No training step makes the host wait for the device: a GPU gets its next kernels before it has finished the last.

A batch on torch's ``meta`` device shows it without a GPU. A value that the host reads raises there, and a tensor that
the host makes and copies over is seen by a dispatch mode.
"""

import dataclasses
from contextlib import contextmanager, nullcontext

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import trainables
from study.presets import preset_values
from trainables import typed_config

META = torch.device("meta")


class Copies(TorchDispatchMode):
    """Remembers what is copied from the host to the device; used with :class:`Made`."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.device == META:
            name = function.overloadpacket.__name__
            for arg in args:
                if isinstance(arg, torch.Tensor) and arg.device.type == "cpu" and (arg.ndim or name == "_to_copy"):
                    self.found.append((name, tuple(arg.shape)))
        return result


class Made(TorchFunctionMode):
    """Adds to ``copies`` the tensors that are made of numbers on the host and put on the device."""

    def __init__(self, copies):
        super().__init__()
        self.copies = copies

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        made = function in (torch.tensor, torch.as_tensor) and not isinstance(args[0], torch.Tensor)
        if made and torch.device(kwargs.get("device") or "cpu") == META:
            self.copies.found.append((function.__name__, args[0]))
        return function(*args, **kwargs)


@contextmanager
def copies_seen():
    with Copies() as copies, Made(copies):
        yield copies.found


def built(name, preset, size):
    module = trainables.load(name)
    values = preset_values(name, preset) | {"steps": 1000}
    config = dataclasses.asdict(typed_config.make(module.Config, values))
    with META:
        model = trainables.build(name, config, size)
    return model.train()


@pytest.mark.parametrize("step", [0, 990], ids=["first", "late"])
@pytest.mark.parametrize(("preset", "size"), [("tiny", 32), ("paper", 128)], ids=["tiny", "paper"])
@pytest.mark.parametrize("name", trainables.names())
def test_a_step_reads_nothing_from_the_device_and_copies_nothing_to_it(name, preset, size, step, monkeypatch):
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # it does not know the device
    model = built(name, preset, size)
    images = torch.empty(2, 3, size, size, device=META)
    with copies_seen() as copies:
        model.lr_scale(step)
        output = model(images, step)
        output.loss.backward()
        model.after_step(step, output)
    assert not copies


@pytest.mark.parametrize("name", trainables.names())
def test_the_backward_pass_reads_nothing_either(name):
    """By the profiler, on a CPU: some operators skip on ``meta``, or under a dispatch mode, what they do elsewhere."""
    model = built(name, "tiny", 32).to_empty(device="cpu")
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.zero_()
    output = model(torch.rand(2, 3, 32, 32), 990)
    with torch.autograd.profiler.profile() as profiler:
        output.loss.backward()
        float(torch.ones(()))  # one that is seen
    assert [event.name for event in profiler.function_events].count("aten::item") == 1


def test_a_model_that_reads_or_copies_would_be_noticed():
    images = torch.empty(2, device=META)
    with pytest.raises(RuntimeError, match="meta"):
        float(images.sum())
    with copies_seen() as copies:
        images + 1.0
        images + torch.tensor(1.0)
        assert not copies  # numbers are arguments of a kernel
        images + torch.ones(2).to(META)
        torch.as_tensor(1.0, device=META)
        torch.tensor([1.0, 2.0], device=META)
        torch.tensor(1.0).to(META)
    assert [name for name, _ in copies] == ["_to_copy", "as_tensor", "tensor", "_to_copy"]
