"""The finalists of a study: what each scored on validation images with each seed, in the order in which they won.

``finalists.json`` holds them. Test, OOD and CAMO have no say in it.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from study.results_folder import write_json

BASE = "base"
"""The entry of the base configuration; untrained baselines have entries that begin with ``baseline_``."""

FILE = "finalists.json"


@dataclass(frozen=True)
class Run:
    """One full training of a finalist."""

    seed: int
    folder: str
    """where its checkpoints are, below the study's folder"""
    value: float | None
    """the objective on validation images at its end; None: it failed"""
    reason: str | None = None
    """why it failed"""


@dataclass(frozen=True)
class Finalist:
    """A configuration that the final stage compares, with its runs in the order of the seeds."""

    entry: str
    """trial_0007, or :data:`BASE`"""
    trial: int | None
    """the trial of the search with these hyperparameters; None for a base that the search did not train"""
    runs: tuple[Run, ...]

    @property
    def complete(self) -> list[Run]:
        """The runs that did not fail."""
        return [run for run in self.runs if run.value is not None]

    @property
    def mean(self) -> float:
        """The mean objective of the complete runs; NaN without any."""
        values = [run.value for run in self.runs if run.value is not None]
        return float(np.mean(values)) if values else math.nan


def ranked(finalists: Sequence[Finalist], direction: str) -> list[Finalist]:
    """The winner first: by fewest failed runs, then by the mean objective; of equals the base.

    ``direction`` is max or min. Finalists without a complete run are left out.
    """
    sign = -1 if direction == "max" else 1
    scored = [finalist for finalist in finalists if finalist.complete]
    return sorted(scored, key=lambda f: (len(f.runs) - len(f.complete), sign * f.mean, f.entry != BASE))


def write(folder: Path, finalists: Sequence[Finalist], **more: Any) -> None:
    """Write ``finalists``, the winner first, and ``more`` to ``folder``/finalists.json."""
    write_json(folder / FILE, {**more, "finalists": [asdict(finalist) for finalist in finalists]})


def read(folder: Path) -> list[Finalist]:
    """The finalists in ``folder``/finalists.json, the winner first; none if it is missing or damaged."""
    try:
        return [
            Finalist(f["entry"], f["trial"], tuple(Run(**r) for r in f["runs"])) for f in _load(folder)["finalists"]
        ]
    except (KeyError, TypeError):
        return []


def read_asked(folder: Path) -> dict[str, int]:
    """How many ``finalists`` and ``seeds`` were asked for when ``folder``/finalists.json was written; empty without."""
    return dict(_load(folder).get("asked", {}))


def _load(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / FILE).read_text())
    except (OSError, ValueError):
        return {}
