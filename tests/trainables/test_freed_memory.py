"""Freed memory stays with the process: the next step asks the kernel for nothing."""

import os
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys, numpy
from trainables import freed_memory

def faults():  # pages that the kernel hands out while blocks of 64 MiB come and go
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        blocks = [numpy.ones(8 << 20) for _ in range(3)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) >> 10

if sys.argv[1] == "short":
    freed_memory.SPARE = 1 << 60
kept = freed_memory.keep()
faults()
between, before = faults(), resident()
freed_memory.give_back()
print(kept, between, before - resident())
"""


def run(*arguments: str, **variables: str) -> tuple[str, int, int]:
    """Whether memory is kept, page faults of ten rounds, and MiB that went back in the end."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    script = [sys.executable, "-c", FAULTS, *(arguments or ("plenty",))]
    shown = subprocess.run(script, capture_output=True, text=True, check=True, env={**clean, **variables}).stdout
    kept, faults, back = shown.split()
    return kept, int(faults), int(back)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's mallopt")
def test_kept_memory_comes_from_the_kernel_once_and_goes_back_on_demand():
    kept, faults, back = run()
    if kept == "False":
        pytest.skip("this machine is short of memory")
    assert faults < 1000  # ten rounds of 192 MiB are half a million pages
    assert back > 100


@pytest.mark.parametrize("case", ["short of memory", "the user's own setting"])
def test_nothing_is_kept_against_the_machine_or_the_user(case):
    if case == "short of memory":
        kept, faults, _ = run("short")
    else:
        kept, faults, _ = run(MALLOC_TRIM_THRESHOLD_="131072")
    assert kept == "False"
    assert faults > 10_000
