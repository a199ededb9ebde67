"""The yardstick: one unit of work, timed beside every speed claim, so that two machines' figures compare."""

import os
import statistics
import time
from collections.abc import Callable

import torch

Seconds = tuple[float, float]
"""CPU seconds of this process, with and without the kernel's share."""


def cpu_seconds(work: Callable[[], object]) -> Seconds:
    """CPU time of one call of ``work``: user and system, and user alone."""
    total, user = time.process_time(), os.times().user
    work()
    return time.process_time() - total, os.times().user - user


def median_seconds(work: Callable[[], object], repeats: int = 7) -> Seconds:
    """Medians of :func:`cpu_seconds` over ``repeats`` calls, after one call to warm up."""
    work()
    total, user = zip(*(cpu_seconds(work) for _ in range(repeats)), strict=True)
    return statistics.median(total), statistics.median(user)


def yard(repeats: int = 7) -> Seconds:
    """One yard on this machine at this moment: forward and backward of a 5x5 convolution with 64 channels on
    (4, 64, 128, 128), float32, one thread, as in reference_speed.md. Sets torch to one thread.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(64, 64, 5, padding=2)
    x = torch.rand(4, 64, 128, 128, requires_grad=True)

    def once() -> None:
        conv.zero_grad()
        x.grad = None
        conv(x).sum().backward()

    return median_seconds(once, repeats)
