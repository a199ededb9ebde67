"""What a training step costs on a GPU: the published configuration and batch at 128x128, through the real loop.

A figure is the median of three blocks of steps between two events of the GPU, after a warm-up; copies of images and
the check of the loss are in it. Where the published batch does not fit, it goes through in parts (``micro_batch``).
"""

import gc
import statistics
import sys
import time
from typing import Any

import torch

import trainables
from tests.gpu.rows import Rows, Setting, each, setting
from tests.gpu.trials import SIZES, empty, milliseconds, tf32, trial
from tests.trainables import scenes
from trainables import noise
from trainables.compiled import FIRST
from trainables.training import CHECK_EVERY, Training

FORMATS = {"fp32": ("fp32", False), "TF32": ("fp32", True), "bf16": ("bf16", True)}
"""Name -> precision, and whether convolutions and matrix products round to TF32."""

BLOCKS = 3
BLOCK_SECONDS = 0.7
COMPILED = ("slot_attention", "monet", "genesis_v2", "space")
COMPILING = 100.0
"""Seconds that torch.compile may take for a model; the next one is not begun with less time left."""


def main() -> None:
    """Time all models, or with ``--compiled`` a few under torch.compile."""
    compiled = "--compiled" in sys.argv
    sys.argv = [argument for argument in sys.argv if argument != "--compiled"]
    given = setting()
    rows = Rows(given.rows)
    if compiled:
        until = given.until - (0 if given.small else COMPILING)
        each(COMPILED[: 1 if given.small else None], rows, until, lambda name: under_compile(name, given))
    else:
        each(trainables.names(), rows, given.until, lambda name: eager(name, given))


def eager(name: str, given: Setting) -> dict[str, Any]:
    """A row: ms a step in each format, then images a second, memory and hours of a published run in TF32."""
    figures: dict[str, Any] = {}
    for label, (precision, rounded) in FORMATS.items():
        tf32(rounded)
        ms, trained, gib = fitted(name, given, precision)
        config = trained.model.config
        figures |= {"batch": config.batch_size, "parts of": trained.task.micro_batch, f"{label} ms": ms}
        figures[f"{label} GiB"] = gib
        if label == "TF32":
            kept(trained, given)
            figures |= {"TF32 images/s": 1000 * config.batch_size / ms, "TF32 hours": config.steps * ms / 3.6e6}
            figures |= profile(trained, ms, given)
        del trained
        gc.collect()
        empty(given.device)
    return figures


def fitted(name: str, given: Setting, precision: str) -> tuple[float, Training, float | None]:
    """Milliseconds a step, the trial and its peak in GiB, with the largest parts of the batch that fit."""
    micro: int | None = None
    while True:
        trained = trial(name, given, precision=precision, micro_batch=micro)
        try:
            empty(given.device)
            ms = timed(trained, given)
            gib = torch.cuda.max_memory_allocated() / 2**30 if given.device == "cuda" else None
            return ms, trained, gib
        except torch.OutOfMemoryError:
            micro = (micro or trained.model.config.batch_size) // 2
            if not micro:
                raise
        del trained
        gc.collect()
        empty(given.device)


def timed(trained: Training, given: Setting) -> float:
    """Milliseconds a step: the median of ``BLOCKS`` blocks, each as long as CHECK_EVERY steps or BLOCK_SECONDS."""
    trained.advance(2)
    one = milliseconds(lambda: trained.advance(1), given.device)
    steps = max(1, min(CHECK_EVERY, round(1000 * BLOCK_SECONDS / one)))
    blocks = [milliseconds(lambda: trained.advance(steps), given.device) / steps for _ in range(BLOCKS)]
    return statistics.median(blocks)


def kept(trained: Training, given: Setting) -> None:
    """Assert that after these steps the output keeps the contract, on the device."""
    image = scenes.images(2, SIZES[given.device]).to(given.device)
    trained.model.eval()
    with torch.no_grad(), noise.drawn_from(torch.Generator(given.device).manual_seed(0)):
        output = trained.model(image, trained.step)
    output.check(image)
    for tensor in (output.loss, output.reconstruction, output.masks):
        assert tensor.device.type == given.device and tensor.isfinite().all()


def profile(trained: Training, ms: float, given: Setting) -> dict[str, Any]:
    """Which share of a step the GPU works, and its five costliest operations, by torch's profiler over two steps."""
    if given.device == "cpu":
        return {}
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profiler:
        trained.advance(2)
    kernels = sorted(profiler.key_averages(), key=lambda row: -row.self_device_time_total)
    total = sum(row.self_device_time_total for row in kernels) / 2000  # ms a step
    return {
        "GPU works": f"{total / ms:.0%}",
        "kernels a step": sum(row.count for row in kernels) // 2,
        "costliest": [[row.key[:80], row.self_device_time_total / 2000, row.count // 2] for row in kernels[:8]],
    }


def under_compile(name: str, given: Setting) -> dict[str, Any]:
    """A row: seconds of compiling, and ms a step in TF32 and bf16 beside the same without it."""
    figures: dict[str, Any] = {}
    tf32(True)
    for label in ("TF32", "bf16"):
        torch._dynamo.reset()
        plain = trial(name, given, precision=FORMATS[label][0])
        figures[f"{label} eager ms"] = timed(plain, given)
        del plain
        gc.collect()
        empty(given.device)
        trained = trial(name, given, precision=FORMATS[label][0], compile=True)
        trained.advance(FIRST)
        started = time.perf_counter()
        trained.advance(3)
        figures[f"{label} compiling s"] = time.perf_counter() - started
        figures[f"{label} compiled ms"] = timed(trained, given)
        figures["compile"] = " ".join(trained.remarks()) or "worked"
        figures["graph breaks"] = sum(torch._dynamo.utils.counters["graph_break"].values())
        del trained
        gc.collect()
        empty(given.device)
    return figures


if __name__ == "__main__":
    main()
