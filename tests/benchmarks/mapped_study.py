"""A study whose data are above Ray's store: ``python -m tests.benchmarks.mapped_study [--scenes N] [--cache DIR]``.

50,000 published scenes, hard links of the few in tests/data, are 3 GB at 128x128; the store has 400 MiB. Three short
trials of a whole study read them, two at a time, and its final stage scores the test split. Meanwhile the memory of all
workers is looked at, and whether Ray moves anything to disk. About ten minutes, of which the conversion takes three.
"""

import argparse
import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from data import conversion
from data.convert import prepare
from tests.benchmarks.data import QUIET, ROOT, SPEC, STORE, ancestors, publish

EVERY = 0.5
"""Seconds between two looks at the workers."""


def main() -> None:
    """Convert unless ``--cache`` has the scenes, run the study, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=50_000, help="published scenes (default 50,000)")
    parser.add_argument("--cache", help=f"folder that holds {SPEC} already (default: convert it first)")
    parser.add_argument("--model", default="slot_attention", help="model to tune (default slot_attention)")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if asked.cache is None:
            conversion.FEW = 0
            prepare(SPEC, root=str(publish(folder, asked.scenes)), cache=place, console=QUIET)
        study(asked.model, asked.cache or place, folder / "results")


def study(model: str, cache: str, results: Path) -> None:
    """Run a study of three trials on the shards in ``cache`` and print what it says and takes."""
    short = "--preset tiny --trials 3 --concurrent 2 --steps 24 --reports 2 --pruner none --validation-images 64"
    short += " --finalists 1 --seeds 1 --no-curve --name mapped"
    places = ["--data", str(SPEC), "--cache", cache, "--results", str(results)]
    command = [sys.executable, "study/run.py", "--model", model, *short.split(), *places]
    small = {"RAY_DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES": str(STORE), "OMP_NUM_THREADS": "1"}
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        running = subprocess.Popen(command, cwd=ROOT, env=os.environ | small, stdout=said, stderr=said)
        memory: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        stores, moved = set(), 0
        while running.poll() is None:
            for pid in descendants(running.pid):
                with contextlib.suppress(OSError, IndexError):
                    words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
                    if words[0].endswith("/raylet"):
                        stores |= {word for word in words if word.startswith("--object_store_memory")}
                        moved = max(moved, spilled(words))
                    elif words[0].startswith("ray::"):
                        for field, size in rollup(pid).items():
                            memory[words[0]][field] = max(memory[words[0]][field], size)
            time.sleep(EVERY)
        said.seek(0)
        print(said.read())
    seconds = time.perf_counter() - start
    print(f"status {running.returncode} after {seconds:.0f} s; {stores}; times that objects moved to disk: {moved}")
    for worker, fields in memory.items():
        print(f"{worker:35}", ", ".join(f"{field} {size / 1024:.0f} MiB" for field, size in fields.items()))


def descendants(pid: int) -> list[int]:
    """The processes below ``pid``."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if pid in ancestors(int(path.name))[1:]:
                found.append(int(path.name))
    return found


def rollup(pid: int) -> dict[str, int]:
    """KiB of ``pid``: what it shares with none (anonymous memory), and all that it has mapped, files included."""
    content = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return {field: int(size) for field, size in re.findall(r"^(Anonymous|Pss|Rss):\s+(\d+)", content, re.M)}


def spilled(words: list[str]) -> int:
    """How often the log of a raylet, started with ``words``, tells that it moved objects to disk."""
    (folder,) = [word.partition("=")[2] for word in words if word.startswith("--log_dir=")]
    return Path(folder, "raylet.out").read_text().count("Spilled")


if __name__ == "__main__":
    main()
