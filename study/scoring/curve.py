"""The curve: the winner and the baselines on other variants of the data, without retraining. Nothing is chosen by it.

``curve.parquet`` has the columns of evaluation.parquet; its splits are the places on the curve.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
from rich.console import Console

from data.final_splits import Splits, curve_splits
from data.shards import ShardIndex
from study.presets import Resolved
from study.scoring import evaluation, score_file
from study.scoring.evaluation import Entry
from study.scoring.leaderboard import BASELINE, entry_name

FILE = "curve.parquet"
METRIC = "mIoU_fg"
"""What the curve shows."""

LEFT_OUT = f"{BASELINE}background"
"""It scores 0 everywhere."""


@dataclass(frozen=True)
class Curve:
    """Mean :data:`METRIC` of a study's winner and of the baselines, place by place."""

    axis: str
    """what differs between the places"""
    labels: list[str]
    own: str | None
    """the place of the variant that was trained on, where it is one"""
    winner: str
    """as people read it: trial 7"""
    scores: dict[str, list[float]]
    """entry as people read it -> mean per place, as a fraction; NaN where it is not scored; the winner first"""

    @property
    def places(self) -> list[float] | list[str]:
        """Where the labels stand: numbers are places on an axis."""
        try:
            return [float(label) for label in self.labels]
        except ValueError:
            return self.labels

    def at(self, labels: Sequence[str]) -> list[float]:
        """The winner's means at places that may be others; NaN where it has none."""
        own = dict(zip(self.labels, self.scores[self.winner], strict=True))
        return [own.get(label, math.nan) for label in labels]

    @property
    def line(self) -> str:
        """The winner's curve in one line."""
        shown = " ".join("-" if math.isnan(score) else f"{score:.0%}"[:-1] for score in self.scores[self.winner])
        return f"{self.axis} {' / '.join(self.labels)}: {METRIC} of {self.winner} {shown}"


def splits(study: Resolved, index: ShardIndex, console: Console) -> tuple[Splits, list[str]]:
    """Where the splits of the curve of ``study`` lie, and notices; none if it draws no curve.

    ``index`` was trained on.
    """
    if not study.config.draws_curve:
        return {}, []
    root, cache = study.config.data_root, study.config.cache
    return curve_splits(study.data, index, root=root, cache=cache, console=console)


def score(
    study: Resolved, entries: Sequence[Entry], winner: str, places: Splits, max_objects: int, console: Console
) -> None:
    """Score the first run of the ``winner`` among ``entries``, and the baselines, on ``places``, where there are some.

    What curve.parquet has already is not computed again.
    """
    if not places:
        return
    shown = [e for e in entries if (e.pictured if e.name == winner else e.folder is None and e.name != LEFT_OUT)]
    source = study.data.source
    own = [each.name for each in source.curve(study.data.variant) if each.variant is None and each.name in places]
    study.folder.write(curve={"axis": source.curve_axis, "labels": [*places], "own": own[0] if own else None})
    chosen = [replace(entry, pictured=False) for entry in shown]
    evaluation.evaluate_study(study, chosen, places, max_objects, console, file=FILE)


def read(folder: Path, record: dict[str, Any]) -> Curve | None:
    """The curve of the study in ``folder``, whose study.json says ``record``; None unless its winner is scored."""
    said = record.get("curve")
    try:
        best = json.loads((folder / "best.json").read_text())
        winner, seed = best["entry"], best.get("seed")
        table = score_file.read(folder / FILE).select(["entry", "seed", "split", METRIC])
    except (FileNotFoundError, KeyError):
        return None
    # rows of an earlier call, which exported another run
    other = pc.and_(pc.equal(table["entry"], winner), pc.fill_null(pc.not_equal(table["seed"], seed), False))
    table = table.filter(pc.invert(other))
    values = table[METRIC].combine_chunks().cast("float64")
    known = table.filter(pc.is_finite(pc.fill_null(values, math.nan)))  # not images without foreground
    means = {
        (group["entry"], group["split"]): group[f"{METRIC}_mean"]
        for group in known.group_by(["entry", "split"]).aggregate([(METRIC, "mean")]).to_pylist()
    }
    entries = dict.fromkeys(entry for entry, _ in sorted(means) if entry.startswith(BASELINE))
    if not said or not any((winner, label) in means for label in said["labels"]):
        return None
    return Curve(
        **said,
        winner=entry_name(winner),
        scores={
            entry_name(entry): [means.get((entry, label), math.nan) for label in said["labels"]]
            for entry in (winner, *entries)
        },
    )
