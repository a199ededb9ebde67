"""The yardstick: one unit of work, timed beside every speed claim, so that two machines' figures compare."""

import os
import statistics
import time
from collections.abc import Callable

import torch

from trainables.precision import autocast

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


def peak(precision: str, repeats: int = 5) -> float:
    """The best rate of a convolution on this machine at this moment, in operations a second of CPU time.

    The yard's convolution, forward and backward on one thread, in both layouts of memory and in the number format
    ``precision``: what the machine can do at most where all is well.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    operations = 3 * 2 * 4 * 128 * 128 * 64 * 64 * 25  # backward is two products of the forward's size
    seconds = []
    for layout in (torch.contiguous_format, torch.channels_last):
        conv = torch.nn.Conv2d(64, 64, 5, padding=2).to(memory_format=layout)
        x = torch.rand(4, 64, 128, 128).to(memory_format=layout).requires_grad_()

        def once(conv: torch.nn.Module = conv, x: torch.Tensor = x) -> None:
            conv.zero_grad()
            x.grad = None
            with autocast(x.device, precision):
                y = conv(x)
            y.sum().backward()

        seconds.append(median_seconds(once, repeats)[0])
    return operations / min(seconds)
