"""The leaderboard of a study: means over the scores of all images, ordered and set as text."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from study.scoring.trial_table import read_trials

TITLES = {"test": "test", "outd": "OOD", "camo": "CAMO"}
"""The splits of the final stage in the order of the tables: name in files -> name in the papers."""

FRACTIONS = ("mIoU_fg", "ARI_FG")
"""Metrics that are stored as fractions and shown in percent; higher is better."""

METRICS = (*FRACTIONS, "MSE")
"""The columns of the tables; of MSE, lower is better."""


@dataclass(frozen=True)
class Row:
    """Means over the images of one split, for one entry or for the trials together."""

    entry: str
    """as people read it: 'trial 7', 'best 3 trials', 'grid 4x4'"""
    kind: Literal["trial", "summary", "baseline"]
    """summary: mean and population standard deviation over the trials' means"""
    split: str
    """its name in files: test, outd or camo"""
    images: int
    """images of the split"""
    undefined: int
    """images without true foreground; ``mIoU_fg`` and ``ARI_FG`` leave them out"""
    means: dict[str, float]
    """metric -> mean as stored (fractions, MSE as a sum over 3HW); NaN if no image defines it"""
    stds: dict[str, float] = field(default_factory=dict)
    """metric -> standard deviation over trials; only of a summary"""


@dataclass(frozen=True)
class Section:
    """The table of one split, as text."""

    split: str
    """its name as people read it"""
    title: str
    """the same, with the number of images"""
    headings: list[str]
    rows: list[tuple[Row, list[str], list[bool]]]
    """row, its cells, and which of these are the best of their column"""


def leaderboard(evaluation: pa.Table, by_validation: Sequence[int]) -> list[Row]:
    """Rows by split: the trials, their summary if they are two or more, the baselines.

    ``evaluation`` has one row per entry, split and image: entry, trial (null for baselines), split, image and
    one column per metric; NaN where an image leaves a metric undefined. ``by_validation`` holds the numbers of the
    trials, the best on validation images first: the rows keep that order, since test labels choose nothing. Trials
    that it lacks follow by number. Baselines, which nobody chooses, are ordered by mIoU_fg on the first split.
    """
    table = evaluation.select(["entry", "trial", "split"])
    undefined = pa.array(np.zeros(len(evaluation), bool))
    for metric in METRICS:
        values = evaluation[metric].combine_chunks().cast(pa.float64()).fill_null(math.nan)
        if metric in FRACTIONS:
            undefined = pc.or_(undefined, pc.is_nan(values))
        known = pc.if_else(pc.is_nan(values), pa.scalar(None, pa.float64()), values)  # a mean skips nulls
        table = table.append_column(metric, known)
    table = table.append_column("undefined", pc.cast(undefined, pa.int64()))
    groups = table.group_by(["entry", "trial", "split"]).aggregate(
        [([], "count_all"), ("undefined", "sum"), *((metric, "mean") for metric in METRICS)]
    )
    rows = [_row(group) for group in groups.to_pylist()]
    splits = sorted({row.split for row in rows}, key=_split_order)
    rank = {f"trial {number}": place for place, number in enumerate(by_validation)}
    first = {row.entry: row.means["mIoU_fg"] for row in rows if row.split == splits[0]}
    ordered = []
    for split in splits:
        here = [row for row in rows if row.split == split]
        trials = [row for row in here if row.kind == "trial"]
        trials.sort(key=lambda row: (rank.get(row.entry, len(rank)), int(row.entry.removeprefix("trial "))))
        ordered += trials
        if len(trials) > 1:
            ordered.append(_summary(trials))
        baselines = [row for row in here if row.kind == "baseline"]
        ordered += sorted(baselines, key=lambda row: (-_or(first.get(row.entry), -math.inf), row.entry))
    return ordered


def read_leaderboard(folder: Path) -> list[Row]:
    """The leaderboard of a study's ``folder``; empty before the final stage.

    The order of its trials by validation is that of trials.parquet.
    """
    path = folder / "evaluation.parquet"
    return leaderboard(pq.read_table(path), [number for number, _ in read_trials(folder)]) if path.exists() else []


def sections(rows: Sequence[Row], size: int) -> list[Section]:
    """One table per split; ``size`` is the images' height and width in pixels, which MSE depends on."""
    headings = [*(f"{metric} (%)" for metric in FRACTIONS), f"MSE (sum over 3x{size}x{size})"]
    result = []
    for split in dict.fromkeys(row.split for row in rows):
        here = [row for row in rows if row.split == split]
        best = {metric: _best(metric, here) for metric in METRICS}
        body = []
        for row in here:
            cells = [_cell(metric, row) for metric in METRICS]
            bold = [cell == best[metric] for metric, cell in zip(METRICS, cells, strict=True)]
            body.append((row, cells, bold))
        title = TITLES.get(split, split)
        result.append(Section(title, f"{title} ({here[0].images:,} images)", headings, body))
    return result


def footnotes(rows: Sequence[Row], incomplete: bool) -> list[str]:
    """What a reader must know before comparing the numbers of ``rows``; ``incomplete``: images are missing."""
    notes = []
    if incomplete:
        notes.append("incomplete data: not comparable with published numbers")
    if any(row.kind == "summary" for row in rows):
        notes.append("trials are in the order of their validation scores, which chose them")
    for split in dict.fromkeys(row.split for row in rows):
        undefined = max(row.undefined for row in rows if row.split == split)
        if undefined:
            title = TITLES.get(split, split)
            notes.append(f"{title}: mIoU_fg and ARI_FG leave out images without foreground, {undefined} of them")
    return notes


def entry_name(entry: str) -> str:
    """'trial 7' for 'trial_0007', 'grid 4x4' for 'baseline_grid_4x4'."""
    kind, _, name = entry.partition("_")
    return f"trial {int(name)}" if kind == "trial" else name.replace("_", " ")


def _row(group: dict) -> Row:
    return Row(
        entry=entry_name(group["entry"]),
        kind="baseline" if group["trial"] is None else "trial",
        split=group["split"],
        images=group["count_all"],
        undefined=group["undefined_sum"],
        means={metric: _or(group[f"{metric}_mean"], math.nan) for metric in METRICS},
    )


def _summary(trials: Sequence[Row]) -> Row:
    """Mean and population standard deviation (ddof 0, as published) over the trials' means."""
    values = {metric: np.array([row.means[metric] for row in trials]) for metric in METRICS}
    return Row(
        entry=f"best {len(trials)} trials",
        kind="summary",
        split=trials[0].split,
        images=trials[0].images,
        undefined=max(row.undefined for row in trials),
        means={metric: float(value.mean()) for metric, value in values.items()},
        stds={metric: float(value.std()) for metric, value in values.items()},
    )


def _cell(metric: str, row: Row) -> str:
    mean = row.means[metric]
    if math.isnan(mean):
        return "-"
    factor = 100 if metric in FRACTIONS else 1
    digits = 1 if metric in FRACTIONS or abs(mean) < 100 else 0
    spread = f" ± {row.stds[metric] * factor:.{digits}f}" if row.stds else ""
    return f"{mean * factor:.{digits}f}{spread}"


def _best(metric: str, rows: Sequence[Row]) -> str | None:
    """The best cell of a column as text, so that equal cells are all marked; None if all are undefined."""
    known = [row for row in rows if row.kind != "summary" and not math.isnan(row.means[metric])]
    if not known:
        return None
    choose: Callable = max if metric in FRACTIONS else min
    return _cell(metric, choose(known, key=lambda row: row.means[metric]))


def _split_order(split: str) -> tuple[int, str]:
    return (list(TITLES).index(split) if split in TITLES else len(TITLES)), split


def _or(value: float | None, default: float) -> float:
    return default if value is None or math.isnan(value) else value
