"""What a training step costs, beside the published code's: ``python -m tests.benchmarks.models [NAME ...]``.

As in reference_speed.md: 128x128 images of noise, the published configuration, one thread, float32, a process per
model; a step is forward, loss, backward, clipping where the benchmark clips, and the optimiser. The figure to compare
is in yards, multiples of a convolution timed right before and after, since seconds depend on the machine and its load.
"""

import multiprocessing
import resource
import statistics
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import torch

import trainables
from tests.benchmarks.yardstick import cpu_seconds, yard
from trainables import freed_memory

SIZE, REPEATS = 128, 5


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


def measure(name: str) -> None:
    """Print the medians of ``REPEATS`` steps, their ranges, and the published figures."""
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
        model(image, at).loss.backward()
        limit = model.clip_norm()
        if limit is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), limit)
        for optimizer in optimizers:
            optimizer.step()

    step()
    rows = []
    # A yard is a convolution as the published figures' was, with the C library's own use of memory: another process.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        for _ in range(REPEATS):
            before, work, after = process.submit(yard, 3).result(), cpu_seconds(step), process.submit(yard, 3).result()
            # in yards measured just before and after: the machine's speed drifts within seconds
            yards = [2 * w / (b + a) for w, b, a in zip(work, before, after, strict=True)]
            rows.append((1000 * work[0], *yards))
    milliseconds, cpu, user = zip(*rows, strict=True)
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(
        f"{name:<16}{published.batch:<7}{statistics.median(milliseconds):<9.0f}"
        f"{statistics.median(cpu):>5.1f} ({min(cpu):.1f}-{max(cpu):.1f})".ljust(52)
        + f"{published.cpu:g} (>= {published.cpu_minimum:g})".ljust(18)
        + f"{statistics.median(user):>5.1f} ({min(user):.1f}-{max(user):.1f})".ljust(20)
        + f"{published.user:g} (>= {published.user_minimum:g})".ljust(18)
        + f"{rss} ({published.rss})",
        flush=True,
    )


def main() -> None:
    """Measure the models named on the command line, or all."""
    if len(sys.argv) == 2:
        measure(sys.argv[1])
        return
    print(
        "                              yards, CPU time                       yards, user time                      MiB"
    )
    print(
        "model           batch  ms       ours (range)        published         ours (range)        published         "
    )
    for name in sys.argv[1:] or PUBLISHED:
        subprocess.run([sys.executable, "-m", "tests.benchmarks.models", name], check=True)


if __name__ == "__main__":
    main()
