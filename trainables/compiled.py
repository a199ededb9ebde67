"""A model's training forward under torch.compile, or without it where that fails.

The model itself stays as it is: validation, pictures and checkpoints know nothing of this.
"""

import importlib.util
import logging
import os
import shutil
import sys
import sysconfig
from pathlib import Path

import torch
from torch import Tensor, nn

from trainables.output import SegmentationOutput

BACKEND = "inductor"
"""What torch.compile hands its graphs to."""

FIRST = 2
"""Training step from which it is used. Torch compiles for the integers 0 and 1 alone, and for all others at once."""

LEFT_OUT = {
    "trainables.noise": ("normal", "uniform", "permutation"),  # whose generator and rows torch.compile cannot follow
    "trainables.iodine.model": ("log_likelihoods",),  # IODINE takes gradients within it
    "trainables.spair.count_prior": ("prior_table",),  # it would be compiled anew for each value of the prior
}
"""Functions of modules that run as they are in between. Torch's decorator for it would make each import of a model take
a second more, also where nothing is compiled."""

LARGEST_CACHE = 16
"""Shapes and configurations that a process keeps compiled, per piece of code; more run without. Torch's own 8 are few
for the trials of a search."""


class CompiledForward(nn.Module):
    """``model`` under torch.compile from step :data:`FIRST` on; called like it, with the same results up to rounding.

    What torch compiles for one trial the next one of this process takes over, where shapes and hyperparameters that the
    forward pass reads are the same. ``generator`` is that of the trial's noise.
    """

    def __init__(self, model: nn.Module, generator: torch.Generator):
        super().__init__()
        self.model = model
        self.failure: str | None = None
        """Why the model runs without torch.compile after all, in one line for people."""
        self._generator = generator
        _leave_out()
        if "TORCHINDUCTOR_COMPILE_THREADS" not in os.environ:  # else a process for each core of the machine
            torch._inductor.config.compile_threads = torch.get_num_threads()
        torch._dynamo.config.recompile_limit = LARGEST_CACHE
        torch._functorch.config.donated_buffer = False  # IODINE and EfficientMORL go backward twice through a graph
        logging.getLogger("torch._dynamo").setLevel(logging.ERROR)
        self._compiled = torch.compile(model.forward, backend=BACKEND)

    def forward(self, images: Tensor, step: int) -> SegmentationOutput:
        """The model's output for ``images`` (B, 3, H, W)."""
        if step < FIRST or self.failure is not None:
            output: SegmentationOutput = self.model(images, step)
            return output
        before = self._generator.get_state()
        try:
            compiled: SegmentationOutput = self._compiled(images, step)
            return compiled
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            self.fail(error)
        # Outside the except block, so that what the failed attempt has allocated is free. An error of the model's own
        # comes again.
        self._generator.set_state(before)
        return self.forward(images, step)

    def fail(self, error: Exception) -> None:
        """Go on without torch.compile, because of ``error``."""
        cause = getattr(error, "inner_exception", error)  # torch's own, around the backend's
        lines = str(cause).strip().splitlines()
        why = f"{type(cause).__name__}: {lines[0] if lines else ''}"[:200]
        self.failure = f"goes on without --compile, which failed: {why}"


def _leave_out() -> None:
    """Let torch.compile leave :data:`LEFT_OUT` out, as far as these modules are there."""
    for module, names in LEFT_OUT.items():
        for name in names if module in sys.modules else ():
            function = getattr(sys.modules[module], name)
            if not getattr(function, "_torchdynamo_disable", False):
                setattr(sys.modules[module], name, torch.compiler.disable(function))


def refuse_without_compiler(*, on_gpu: bool) -> None:
    """Raise ValueError if this machine lacks what torch.compile needs for a GPU, or else for a CPU."""
    if on_gpu and importlib.util.find_spec("triton") is None:
        raise ValueError(
            "--compile needs Triton on a GPU, and it is not installed; pip install triton, or leave it out"
        )
    compiler = os.environ.get("CC") if on_gpu else os.environ.get("CXX", "g++")
    known = [compiler] if compiler else ["gcc", "clang", "cc"]
    if not any(map(shutil.which, known)):
        raise ValueError(
            f"--compile needs a {'C' if on_gpu else 'C++'} compiler, and there is no {' or '.join(known)}; "
            f"install one, name yours in {'CC' if on_gpu else 'CXX'}, or leave --compile out"
        )
    header = Path(sysconfig.get_path("include"), "Python.h")
    if not header.exists():
        raise ValueError(
            f"--compile needs Python's header files, and there is no {header}; install python3-dev, or leave it out"
        )
