"""What a part of the GPU run gets and gives: its arguments, and rows of figures that outlast a kill."""

import argparse
import json
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any


class Rows:
    """The rows of a part, each in the file as soon as it is known."""

    def __init__(self, path: Path):
        self._path = path

    def add(self, what: str, verdict: str, **figures: Any) -> None:
        """Add a row. ``verdict`` is 'ok', 'skipped' or the failure in a few words."""
        with self._path.open("a") as file:
            file.write(json.dumps({"what": what, "verdict": verdict, **figures}) + "\n")
        print(what, verdict, figures, flush=True)


def read(path: Path) -> list[dict[str, Any]]:
    """The whole rows in ``path``, none where there is no such file; a killed part may leave half a line."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


class Setting(argparse.Namespace):
    """The arguments of a part."""

    rows: Path
    device: str
    seconds: float
    until: float
    """time.monotonic() at which the part should be through"""

    @property
    def small(self) -> bool:
        """Whether this is a rehearsal on a CPU: tiny presets and few steps."""
        return self.device == "cpu"


def setting() -> Setting:
    """The arguments that :mod:`tests.gpu.running` gives to a part."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=600)
    given = parser.parse_args(namespace=Setting())
    given.until = time.monotonic() + given.seconds
    return given


def each(names: Iterable[str], rows: Rows, until: float, measure: Callable[[str], dict[str, Any]]) -> None:
    """A row of ``measure(name)`` for each name; an exception is the row's verdict, and the others go on.

    ``measure`` may give a 'verdict' of its own. Nothing is begun after ``until``.
    """
    for name in names:
        if time.monotonic() > until:
            rows.add(name, "skipped", note="no time was left")
            continue
        try:
            figures = measure(name)
        except Exception as error:
            traceback.print_exc()
            rows.add(name, one_line(error))
        else:
            rows.add(name, figures.pop("verdict", "ok"), **figures)


def one_line(error: BaseException) -> str:
    """The type of ``error`` and its first line."""
    first = str(error).strip().splitlines()
    return f"{type(error).__name__}: {first[0] if first else ''}"[:200]
