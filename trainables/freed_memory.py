"""Memory that a training step frees stays with the process, so that the next step need not ask the kernel for it.

glibc gives large blocks back as soon as they are freed, and the kernel clears every page that it hands out again: up to
a third of a step's CPU time (docs/models.md).
"""

import ctypes
import os

from data import machine

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""From ``malloc.h``; see mallopt(3)."""

SPARE = 2 << 30
"""Bytes of free memory per core from which keeping is worth it: steps hold up to an eighth more than without."""


def keep() -> bool:
    """Keep freed memory for the rest of this process; returns whether that is so now.

    Does nothing where memory is short, where the user has set glibc's own ``MALLOC_`` variables, or where the C library
    is another one.
    """
    if any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ):
        return False
    if machine.free_memory() < SPARE * machine.usable_cores():
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return bool(mallopt and mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, -1))


def give_back() -> None:
    """Give what is kept and not in use back to the kernel, once: between trials."""
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)
