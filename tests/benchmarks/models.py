"""What a training step costs, beside the published code's: ``python -m tests.benchmarks.models [NAME ...]``.

As in reference_speed.md: 128x128 images of noise, the published configuration, one thread, a process per model and
number format; a step is forward, loss, backward, clipping where the benchmark clips, and the optimiser. The figure to
compare is in yards, multiples of a convolution timed right before and after, since seconds depend on the machine and
its load.
"""

import json
import multiprocessing
import resource
import statistics
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch

import trainables
from tests.benchmarks.yardstick import cpu_seconds, peak, yard
from trainables import freed_memory, operations
from trainables.precision import autocast

SIZE = 128
REPEATS = {"fp32": 5, "bf16": 3}

PRODUCTS = ("conv", "mm", "linear")
"""Parts of the names of operations that are convolutions or matrix products."""


class Published(NamedTuple):
    """A row of reference_speed.md."""

    batch: int
    cpu: float
    """yards per step of CPU time"""
    cpu_minimum: float
    """least of its repeats"""
    user: float
    """yards per step without the kernel's share"""
    user_minimum: float
    """least of its repeats"""
    rss: int
    """peak resident memory in MiB"""


# A model, after @ at which share of its steps if what a step does depends on it.
PUBLISHED = {
    "space": Published(4, 13.7, 12.6, 10.5, 9.5, 2190),
    "slot_attention": Published(4, 30, 27, 23.0, 21.3, 1710),
    "monet": Published(4, 49, 41, 47, 41, 3270),
    "iodine": Published(1, 49, 46, 33, 30, 3150),
    "genesis_v2": Published(4, 18.1, 14.8, 16.1, 13.8, 2450),
    "efficient_morl": Published(1, 41, 32, 25, 20, 2360),
    "gnm": Published(4, 0.98, 0.85, 0.94, 0.83, 700),
    "spair": Published(4, 1.8, 1.8, 1.8, 1.7, 660),
    "dti_sprites@0.2": Published(4, 37, 25, 22.3, 19.6, 2080),
    "dti_sprites@0.5": Published(4, 32, 18, 18.6, 16.2, 2240),
    "marionette": Published(4, 49, 47, 23.7, 22.3, 5470),
}


COLUMNS = (
    *("model", "format", "batch", "ms", "yards, CPU time", "published", "share"),
    *("yards, user time", "published, user time", "MiB (published)", "products", "of peak"),
)
"""Of the table. ``share`` is of the published code's CPU time in fp32; ``products`` is the share of a step's time in
convolutions and matrix products; ``of peak`` is their rate beside that of the machine's best convolution."""


def measure(name: str, precision: str) -> dict[str, Any]:
    """The row of a model: medians of the steps, their ranges in yards, and what limits them."""
    published = PUBLISHED[name]
    torch.set_num_threads(1)
    freed_memory.keep()  # as the workers of a trial do
    torch.manual_seed(0)
    model_name, _, share = name.partition("@")
    model = trainables.build(model_name, {"replicate": True, "batch_size": published.batch}, SIZE)
    at = round(float(share or 0) * model.config.steps)
    optimizers = model.optimizers()
    image = torch.rand(published.batch, 3, SIZE, SIZE)

    def step() -> None:
        for optimizer in optimizers:
            optimizer.zero_grad()
        with autocast(image.device, precision):
            output = model(image, at)
        output.loss.backward()
        limit = model.clip_norm()
        if limit is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), limit)
        for optimizer in optimizers:
            optimizer.step()

    step()
    rows = []
    # A yard is a convolution as the published figures' was, with the C library's own use of memory: another process.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        for _ in range(REPEATS[precision]):
            before, work, after = process.submit(yard, 3).result(), cpu_seconds(step), process.submit(yard, 3).result()
            # in yards measured just before and after: the machine's speed drifts within seconds
            yards = [2 * w / (b + a) for w, b, a in zip(work, before, after, strict=True)]
            rows.append((1000 * work[0], *yards))
        rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        best = process.submit(peak, precision).result()
    milliseconds, cpu, user = zip(*rows, strict=True)
    ms = statistics.median(milliseconds)
    with operations.counter() as counter:
        step()
    products, costliest = profile(step)
    return {
        "model": name,
        "batch": published.batch,
        "precision": precision,
        "ms": ms,
        "yards": [statistics.median(cpu), min(cpu), max(cpu)],
        "user yards": [statistics.median(user), min(user), max(user)],
        "of published": statistics.median(cpu) / published.cpu,
        "MiB": rss,
        "products": products,
        "of peak": counter.get_total_flops() / (ms / 1000) / best,
        "costliest": costliest,
    }


def profile(step: Any) -> tuple[float, list[list[Any]]]:
    """The share of a step's time in convolutions and matrix products, and its ten costliest operations with theirs."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        step()
    operations = sorted(profiler.key_averages(), key=lambda row: -row.self_cpu_time_total)
    total = sum(row.self_cpu_time_total for row in operations)
    products = sum(row.self_cpu_time_total for row in operations if any(part in row.key for part in PRODUCTS))
    return products / total, [[row.key, row.self_cpu_time_total / total, row.count] for row in operations[:10]]


def line(row: dict[str, Any]) -> dict[str, str]:
    """``row`` as a table shows it, the published figures beside ours; the keys are :data:`COLUMNS`."""
    published = PUBLISHED[row["model"]]
    yards, user = ("{:.1f} ({:.1f}-{:.1f})".format(*row[key]) for key in ("yards", "user yards"))
    cells = (
        row["model"],
        row["precision"],
        row["batch"],
        f"{row['ms']:.0f}",
        yards,
        f"{published.cpu:g} (>= {published.cpu_minimum:g})",
        f"{row['of published']:.2f}",
        user,
        f"{published.user:g} (>= {published.user_minimum:g})",
        f"{row['MiB']} ({published.rss})",
        f"{row['products']:.0%}",
        f"{row['of peak']:.0%}",
    )
    return dict(zip(COLUMNS, map(str, cells), strict=True))


def formats() -> list[str]:
    """The number formats this processor multiplies in: without instructions for bf16 a step of it takes minutes."""
    flags = Path("/proc/cpuinfo").read_text().split()
    return [name for name in REPEATS if name == "fp32" or not {"avx512_bf16", "amx_bf16"}.isdisjoint(flags)]


def rows(names: list[str]) -> list[dict[str, Any]]:
    """A row per model and number format, each measured by a process of its own."""
    found, precisions = [], formats()
    if "bf16" not in precisions:
        print("bf16: not measured, this processor has neither AVX512-BF16 nor AMX")
    for precision in precisions:
        for name in names:
            command = [sys.executable, "-m", "tests.benchmarks.models", "--row", name, precision]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            found.append(json.loads(done.stdout.splitlines()[-1]))
            print(" | ".join(line(found[-1]).values()), flush=True)
    return found


def main() -> None:
    """Measure the models named on the command line, or all."""
    if sys.argv[1:2] == ["--row"]:
        print(json.dumps(measure(*sys.argv[2:])))
        return
    print(" | ".join(COLUMNS))
    rows(sys.argv[1:] or list(PUBLISHED))


if __name__ == "__main__":
    main()
