"""``python -m tests.benchmarks [PART ...]``: measure this machine, print one table and keep it.

Parts: models, metrics, data, turnover; all by default. The figures are kept in ``results/PROCESSOR_CORES.json``, with
the commit, versions and date of each part; docs/models.md is written from it.
"""

import contextlib
import datetime
import io
import json
import os
import platform
import re
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from data import atomic, machine
from study.results_folder import git_revision
from tests.benchmarks import data, metrics, models, turnover
from tests.gpu.report import table

RESULTS = Path(__file__).with_name("results")
DISTRIBUTIONS = ("torch", "numpy", "ray", "optuna", "pyarrow")


def printed(part: Callable[[], object]) -> list[str]:
    """The lines that ``part`` prints; they are printed here, too."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        part()
    print(said.getvalue(), end="", flush=True)
    return said.getvalue().splitlines()


def of_models() -> list[dict[str, Any]]:
    """The rows of all models, and their table."""
    rows = models.rows(list(models.PUBLISHED))
    print("\n".join(["", *table([models.line(row) for row in rows]), ""]))
    return rows


def of_turnover() -> dict[str, Any]:
    """The figures of 50 short trials."""
    figures = turnover.measure()
    print("\n".join(table([figures])))
    return figures


PARTS: dict[str, Callable[[], Any]] = {
    "models": of_models,
    "metrics": lambda: printed(metrics.main),
    "data": lambda: printed(data.main),
    "turnover": of_turnover,
}
"""Name -> what measures it, prints it, and returns what is kept."""


def processor() -> str:
    """The processor's name, as Linux has it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    found = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return found[0] if found else platform.machine()


def about() -> dict[str, Any]:
    """What a figure depends on beside the machine, and how busy that was."""
    return {
        "commit": git_revision(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in DISTRIBUTIONS},
        "cores": machine.usable_cores(),
        "load": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    """Measure the parts that are named, or all, and keep each as soon as it is known."""
    wanted = sys.argv[1:] or list(PARTS)
    if unknown := [name for name in wanted if name not in PARTS]:
        sys.exit(f"error: {unknown[0]!r} is no part of the benchmark; the parts are {', '.join(PARTS)}")
    slug = re.sub(r"[^a-z0-9]+", "_", processor().lower()).strip("_")
    path = RESULTS / f"{slug}_{machine.usable_cores()}_cores.json"
    sys.argv[1:] = []  # the parts read it
    for name in wanted:
        print(f"== {name}", flush=True)
        before = about()
        figures = PARTS[name]()
        kept: dict[str, Any] = (
            json.loads(path.read_text()) if path.exists() else {"processor": processor(), "parts": {}}
        )
        kept["parts"][name] = {"about": before, "figures": figures}
        with atomic.replacing(path) as partial:
            Path(partial).write_text(json.dumps(kept, indent=1) + "\n")
    print(f"kept: {path}")


if __name__ == "__main__":
    main()
