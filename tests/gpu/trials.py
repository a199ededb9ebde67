"""Trials as the parts of the GPU run want them: the published configuration at 128x128, through the real loop."""

import time
from collections.abc import Callable
from typing import Any

import torch

import trainables
from study import presets
from tests.gpu.rows import Setting
from tests.trainables import scenes
from trainables.training import Task, Training

SIZES = {"cuda": 128, "cpu": 32}
"""Pixels of a side; the rehearsal on a CPU is small."""


def trial(
    model: str,
    given: Setting,
    *,
    batch: int | None = None,
    micro_batch: int | None = None,
    precision: str = "fp32",
    compile: bool = False,
) -> Training:
    """A trial of ``model`` in its published configuration, tiny in a rehearsal, with ``batch`` images a step."""
    size = SIZES[given.device]
    config: dict[str, Any] = presets.preset_values(model, "tiny" if given.small else "paper")
    if given.small or batch:
        config["batch_size"] = batch or 4
    steps = trainables.load(model).Config(**config).steps
    task = Task(
        model,
        size,
        steps=steps,
        reports=10,
        seed=0,
        metric="mIoU_fg",
        precision=precision,
        micro_batch=micro_batch,
        compile=compile,
    )
    return Training(task, config, 0, scenes.split(64, size), torch.device(given.device))


def tf32(on: bool) -> None:
    """Let convolutions and matrix products round their inputs to TF32, or keep them in fp32."""
    torch.backends.cuda.matmul.allow_tf32 = on
    torch.backends.cudnn.allow_tf32 = on


def milliseconds(work: Callable[[], object], device: str) -> float:
    """How long ``work`` takes, by the events of the GPU."""
    if device == "cpu":
        started = time.perf_counter()
        work()
        return 1000 * (time.perf_counter() - started)
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    work()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end)


def empty(device: str) -> None:
    """Give the memory of trials that are gone back to the GPU."""
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
