"""``python -m tests.mutations [FILE ...]``: each mutation of ``table.py`` in turn, and the source's own tests on it.

Each runs in a temporary copy of the checkout, with a deadline: a test that hangs counts as failed. With FILEs, only
mutations of sources whose path contains one of them. Status 1 if a mutation survives that the table does not excuse,
or no longer fits its source.
"""

import argparse
import contextlib
import importlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NoReturn

from tests.mutations.noticed_by import TESTS
from tests.mutations.table import MUTATIONS, Mutation

ROOT = Path(__file__).resolve().parents[2]
SLOWEST = 600.0
"""Seconds that the tests of one source may take when nothing is wrong."""


def preload() -> None:
    """Import the libraries that the tests import, once for all runs: that is most of a short run's time."""
    sys.dont_write_bytecode = True  # a mutation may leave size and time of a source as they were
    os.environ |= {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    for name in ("optuna", "PIL.Image", "pyarrow.parquet", "pytest", "ray.tune", "rich.progress", "scipy.optimize"):
        importlib.import_module(name)
    importlib.import_module("torch.distributed")


def run_tests(copy: Path, source: str, deadline: float) -> tuple[str, str]:
    """Whether the tests of ``source`` "passed", "failed" or "hung", and the first that failed or the last line."""
    tests = [str(path.relative_to(copy)) for pattern in TESTS[source] for path in sorted(copy.glob(pattern))]
    assert tests, f"no tests of {source}"
    with tempfile.TemporaryFile("w+") as output:
        child = os.fork()
        if child == 0:
            become_pytest(copy, tests, output.fileno())
        until = time.monotonic() + deadline
        while time.monotonic() < until:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                break
            time.sleep(0.05)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # and with it what it has started
        if not ended:
            os.waitpid(child, 0)
            return "hung", f"after {deadline:.0f} s"
        output.seek(0)
        text = output.read()
    first = re.search(r"^(?:FAILED|ERROR) ([^ \n]+)", text, re.MULTILINE)
    words = first[1] if first else (text.strip().splitlines() or ["no output"])[-1]
    code = os.waitstatus_to_exitcode(status)
    return ("passed" if code == 0 else "failed"), words if code >= 0 else f"ended by signal {-code}"


def become_pytest(copy: Path, tests: list[str], output: int) -> NoReturn:
    """Run ``tests`` in this forked process, on the modules in ``copy``, and end with pytest's status."""
    os.setsid()
    for stream in (1, 2):
        os.dup2(output, stream)
    os.chdir(copy)
    sys.path[0] = os.environ["PYTHONPATH"] = str(copy)
    for name in [name for name in sys.modules if name.split(".")[0] == "tests"]:
        del sys.modules[name]
    status = 1
    try:
        status = int(importlib.import_module("pytest").main(["-q", "-x", "-p", "no:cacheprovider", *tests]))
    finally:
        os._exit(status)  # without what the parent would do at its end


def apply(copy: Path, mutation: Mutation) -> str | None:
    """Change the source in ``copy``; its text before, or None where the line is not there exactly once."""
    path = copy / mutation.source
    text = path.read_text() if path.exists() else ""
    if text.count(mutation.old) != 1:
        return None
    changed = text.replace(mutation.old, mutation.new)
    compile(changed, str(path), "exec")
    path.write_text(changed)
    return text


def main() -> int:
    """Print a line per mutation, then the sum."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description="Mutate sources, run their tests.")
    parser.add_argument("files", nargs="*", metavar="FILE", help="part of a source's path [default: all]")
    wanted = parser.parse_args().files
    chosen = [m for m in MUTATIONS if not wanted or any(name in m.source for name in wanted)]
    preload()
    counts = {"caught": 0, "excused": 0, "survived": 0, "stale": 0}
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "checkout"
        tracked = subprocess.run(
            ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for name in filter(None, tracked.split("\0")):
            if (ROOT / name).is_file():
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, copy / name)
        deadlines: dict[str, float] = {}
        for mutation in chosen:
            if mutation.source not in deadlines:
                started = time.monotonic()
                outcome, words = run_tests(copy, mutation.source, SLOWEST)
                assert outcome == "passed", f"without a mutation, the tests of {mutation.source} {outcome}: {words}"
                deadlines[mutation.source] = 60 + 3 * (time.monotonic() - started)
            before = apply(copy, mutation)
            if before is None:
                verdict, words = "stale", "the line is not there, or more than once"
            else:
                outcome, words = run_tests(copy, mutation.source, deadlines[mutation.source])
                (copy / mutation.source).write_text(before)
                verdict = "caught" if outcome != "passed" else "excused" if mutation.excuse else "survived"
                words = mutation.excuse if verdict == "excused" else words
            counts[verdict] += 1
            change = f"{mutation.old.strip()}  ->  {mutation.new.strip()}".replace("\n", "\\n")
            print(f"{verdict:8} {mutation.source}: {change}  [{words}]", flush=True)
    print(", ".join(f"{number} {verdict}" for verdict, number in counts.items()))
    return 1 if counts["survived"] or counts["stale"] else 0


if __name__ == "__main__":
    sys.exit(main())
