"""The leaderboard of a study: means over the scores of all images and seeds, ordered and set as text."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from study.scoring import bootstrap, ranking, score_file
from study.scoring.bootstrap import Interval
from study.scoring.diagnosis import FIGURES, Diagnosis, diagnose
from study.scoring.interval import difference
from study.scoring.ranking import BASE
from study.scoring.trial_table import read_trials
from trainables import own_metrics

TITLES = {"test": "test", "outd": "OOD", "camo": "CAMO", "camo_textured": "textured CAMO"}
"""The splits of the final stage in the order of the tables: name in files -> name in the papers."""

FRACTIONS = ("mIoU_fg", "ARI_FG", "mBO_fg", "mBO", "ARI")
"""Metrics that are stored as fractions and shown in percent; higher is better."""

METRICS = (*FRACTIONS, "MSE")
"""The columns of the tables on pages; of MSE, lower is better."""

BRIEF = ("mIoU_fg", "ARI_FG", "MSE")
"""The columns of the tables in the terminal and in Markdown."""

BASELINE = "baseline_"
"""How the entries of untrained baselines begin."""

KMEANS = "kmeans"
"""The baseline of k-means, as :func:`entry_name` has it."""


@dataclass(frozen=True)
class Row:
    """Means over the images of one split, then over the seeds of one entry."""

    entry: str
    """as people read it: 'trial 7', 'base', 'trial 7 - base', 'grid 4x4'"""
    kind: Literal["trial", "base", "gain", "baseline"]
    """gain: what the best trial by validation has more than the base"""
    split: str
    """its name in files, see :data:`TITLES`"""
    images: int
    """images of the split"""
    undefined: int
    """images without true foreground; ``mIoU_fg``, ``ARI_FG`` and ``mBO_fg`` leave them out"""
    means: dict[str, float]
    """metric -> mean as stored (fractions, MSE as a sum over 3HW); NaN if no image defines it, or in older studies"""
    stds: dict[str, float] = field(default_factory=dict)
    """metric -> population standard deviation over the seeds, if they are several; of a gain, half the width of its
    95 % interval"""
    seeds: int = 1
    """over how many seeds the means are"""
    intervals: dict[str, Interval] = field(default_factory=dict)
    """metric -> 95 % interval of the mean over images, where it is known; none for a gain"""
    figures: dict[str, float] = field(default_factory=dict)
    """means of what the diagnosis rests on; NaN in older studies, none for a gain"""

    @property
    def diagnosis(self) -> Diagnosis | None:
        """What the entry does with the images; None where the figures are missing."""
        return diagnose(self.figures | {"ARI": self.means["ARI"]})


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


def leaderboard(
    evaluation: pa.Table, by_validation: Sequence[str], drawn: Mapping[bootstrap.Key, bootstrap.Floats] | None = None
) -> list[Row]:
    """Rows by split: the finalists, the gain of the best trial over the base if both have two seeds, the baselines.

    ``evaluation`` has one row per entry, seed, split and image: entry, trial, seed (null for baselines), split, image
    and one column per metric; NaN where an image leaves a metric undefined. ``by_validation`` holds the entries of the
    finalists, the best on validation images first: the rows keep that order, since test labels choose nothing.
    Entries that it lacks follow by name. Baselines, which nobody chooses, are ordered by mIoU_fg on the first split.
    With ``drawn``, the resampled means of :data:`METRICS`, the rows have intervals.
    """
    groups = _means(evaluation)
    splits = sorted({split for _, split in groups}, key=_split_order)
    rank = {entry: place for place, entry in enumerate(by_validation)}
    finalists = sorted(
        {entry for entry, _ in groups if not entry.startswith(BASELINE)},
        key=lambda entry: (rank.get(entry, len(rank)), entry),
    )
    best = next((entry for entry in finalists if entry != BASE), None)
    first = {
        entry: _row(entry, split, by_seed).means["mIoU_fg"]
        for (entry, split), by_seed in groups.items()
        if split == splits[0]
    }
    baselines = sorted(
        {entry for entry, _ in groups if entry.startswith(BASELINE)},
        key=lambda entry: (-_or(first.get(entry), -math.inf), entry),
    )
    ordered = []
    for split in splits:
        here = {entry: by_seed for (entry, where), by_seed in groups.items() if where == split}
        ordered += [_row(entry, split, here[entry]) for entry in finalists if entry in here]
        if best in here and BASE in here and min(len(here[best]), len(here[BASE])) > 1:
            ordered.append(_gain(best, split, here))
        ordered += [_row(entry, split, here[entry]) for entry in baselines if entry in here]
    named = {(entry_name(entry), split): means for (entry, split), means in (drawn or {}).items()}
    return [_with_intervals(row, named) for row in ordered]


def read_leaderboard(folder: Path) -> list[Row]:
    """The leaderboard of a study's ``folder``, without intervals over images; empty before the final stage.

    The order of its finalists by validation is that of finalists.json, or in older studies that of trials.parquet.
    """
    return read_scores(folder, images=False)[0]


def read_scores(folder: Path, *, images: bool = True) -> tuple[list[Row], dict[bootstrap.Key, bootstrap.Floats]]:
    """The leaderboard, and the resampled means of :data:`METRICS` by entry, as people read it, and split.

    Both are empty before the final stage; without ``images`` the latter is.
    """
    path = folder / "evaluation.parquet"
    if not path.exists():
        return [], {}
    order = [finalist.entry for finalist in ranking.read(folder)]
    order = order or [f"trial_{number:04d}" for number, _ in read_trials(folder)]
    table = score_file.read(path)
    drawn = bootstrap.all_resampled(table, METRICS) if images else {}
    return leaderboard(table, order, drawn), {(entry_name(entry), split): m for (entry, split), m in drawn.items()}


def sections(
    rows: Sequence[Row], size: int, metrics: Sequence[str] = METRICS, *, intervals: bool = False, own: bool = False
) -> list[Section]:
    """One table per split; ``size`` is the images' height and width in pixels, which MSE depends on.

    With ``own`` the metrics of one's own follow.

    With ``intervals`` a cell ends with the interval over images, where it is known: '62.5 ± 1.0 [60.9, 64.2]'.

    Of ``metrics``, those beyond :data:`BRIEF` that no row has are left out: studies of earlier versions lack them.
    """
    metrics = [name for name in metrics if name in BRIEF or not all(math.isnan(row.means[name]) for row in rows)]
    headings = [f"{name} ({unit(name, size)})" for name in metrics]
    more = [name for name in rows[0].means if name not in METRICS] if own and rows else []
    metrics, headings = [*metrics, *more], [*headings, *more]
    result = []
    for split in dict.fromkeys(row.split for row in rows):
        here = [row for row in rows if row.split == split]
        best = {metric: _best(metric, here) for metric in metrics}
        body = []
        for row in here:
            cells = [_cell(metric, row, intervals=intervals) for metric in metrics]
            bold = [row.kind != "gain" and cell(metric, row.means[metric]) == best[metric] for metric in metrics]
            body.append((row, cells, bold))
        title = TITLES.get(split, split)
        result.append(Section(title, f"{title} ({here[0].images:,} images)", headings, body))
    return result


def unit(metric: str, size: int) -> str:
    """In what tables show one of :data:`METRICS`; ``size`` as for :func:`sections`."""
    return "%" if metric in FRACTIONS else f"sum over 3x{size}x{size}"


def footnotes(rows: Sequence[Row], incomplete: bool) -> list[str]:
    """What a reader must know before comparing the numbers of ``rows``; ``incomplete``: images are missing."""
    notes = []
    if incomplete:
        notes.append("incomplete data: not comparable with published numbers")
    seeds = max((row.seeds for row in rows), default=1)
    if seeds > 1:
        notes.append(f"±: standard deviation over {seeds} seeds")
    if any(row.kind == "gain" for row in rows):
        notes.append("the difference from the base has its 95 % interval over seeds (Welch)")
    for split in dict.fromkeys(row.split for row in rows):
        undefined = max(row.undefined for row in rows if row.split == split)
        if undefined:
            title = TITLES.get(split, split)
            notes.append(
                f"{title}: mIoU_fg, ARI_FG and mBO_fg leave out images without foreground, {undefined} of them"
            )
    broken = [row for row in rows if row.images and row.kind != "gain" and math.isnan(row.means.get("MSE", 0.0))]
    for row in broken:
        notes.append(f"{row.entry} on {TITLES.get(row.split, row.split)}: its output is not finite on some images")
    return notes


def diagnoses(rows: Sequence[Row]) -> list[str]:
    """One line per trial, and for the base, on the first split of ``rows``: its verdict, and why.

    The table of diagnoses has the baselines, too.
    """
    here = [row for row in rows if row.split == rows[0].split and row.kind != "baseline"]
    return [f"{row.entry} on {TITLES.get(row.split, row.split)}: {row.diagnosis}" for row in here if row.diagnosis]


def entry_name(entry: str) -> str:
    """'trial 7' for 'trial_0007', 'grid 4x4' for 'baseline_grid_4x4'; 'base' is the base configuration."""
    kind, _, name = entry.partition("_")
    return f"trial {int(name)}" if kind == "trial" else entry.removeprefix(BASELINE).replace("_", " ")


def file_stem(row: Row) -> str:
    """The entry of ``row`` as files have it, the inverse of :func:`entry_name`: 'trial_0007', 'baseline_grid_4x4'."""
    if row.kind == "baseline":
        return BASELINE + row.entry.replace(" ", "_")
    return row.entry if row.entry == BASE else f"trial_{int(row.entry.removeprefix('trial ')):04d}"


def _means(evaluation: pa.Table) -> dict[tuple[str, str], dict[int | None, dict[str, float]]]:
    """(entry, split) -> seed -> metric -> mean over images, besides ``images`` and ``undefined``, which are counts."""
    keys = ["entry", "seed", "split"]
    if "seed" not in evaluation.column_names:  # of an earlier version
        evaluation = evaluation.append_column("seed", pa.nulls(len(evaluation), pa.int64()))
    table = evaluation.select(keys)
    undefined = pa.array(np.zeros(len(evaluation), bool))
    all_names = (*METRICS, *FIGURES, *(name for name in own_metrics.names() if name in evaluation.column_names))
    names = [name for name in all_names if name in evaluation.column_names]
    for metric in names:
        values = evaluation[metric].combine_chunks().cast(pa.float64()).fill_null(math.nan)
        if metric in ("mIoU_fg", "ARI_FG"):
            undefined = pc.or_(undefined, pc.is_nan(values))
        if metric != "MSE":  # which each image defines: NaN there is the model's
            values = pc.if_else(pc.is_nan(values), pa.scalar(None, pa.float64()), values)  # a mean skips nulls
        table = table.append_column(metric, values)
    table = table.append_column("undefined", pc.cast(undefined, pa.int64()))
    groups = table.group_by(keys).aggregate(
        [([], "count_all"), ("undefined", "sum"), *((metric, "mean") for metric in names)]
    )
    found: dict[tuple[str, str], dict[int | None, dict[str, float]]] = {}
    for group in groups.to_pylist():
        means = {metric: _or(group.get(f"{metric}_mean"), math.nan) for metric in all_names}
        counts = {"images": group["count_all"], "undefined": group["undefined_sum"]}
        found.setdefault((group["entry"], group["split"]), {})[group["seed"]] = means | counts
    return found


def _row(entry: str, split: str, by_seed: Mapping[int | None, Mapping[str, float]]) -> Row:
    """Mean and population standard deviation (ddof 0, as published) over the seeds' means."""
    first = next(iter(by_seed.values()))
    names = [name for name in first if name not in (*FIGURES, "images", "undefined")]
    values = {metric: np.array([means[metric] for means in by_seed.values()]) for metric in names}
    several = len(by_seed) > 1
    return Row(
        entry=entry_name(entry),
        kind="base" if entry == BASE else "baseline" if entry.startswith(BASELINE) else "trial",
        split=split,
        images=max(int(means["images"]) for means in by_seed.values()),
        undefined=max(int(means["undefined"]) for means in by_seed.values()),
        means={metric: float(value.mean()) for metric, value in values.items()},
        stds={metric: float(value.std()) for metric, value in values.items()} if several else {},
        seeds=len(by_seed),
        figures={name: float(np.mean([means[name] for means in by_seed.values()])) for name in FIGURES},
    )


def _gain(best: str, split: str, here: Mapping[str, Mapping[int | None, Mapping[str, float]]]) -> Row:
    """What ``best`` has more than the base on ``split``; ``here`` holds the means of all entries there, by seed."""
    one, base = _row(best, split, here[best]), _row(BASE, split, here[BASE])
    differences, halves = {}, {}
    for metric in one.means:
        scores = [[means[metric] for means in here[entry].values()] for entry in (best, BASE)]
        differences[metric], halves[metric] = difference(*scores)
    seeds = min(len(here[best]), len(here[BASE]))
    name = f"{one.entry} - {base.entry}"
    return replace(one, entry=name, kind="gain", means=differences, stds=halves, seeds=seeds, figures={})


def cell(metric: str, mean: float, spread: float | None = None, *, gain: bool = False) -> str:
    """A value of ``metric`` as text, fractions in percent: '62.5', '62.5 ± 1.0', or as a gain '+2.5 [-0.1, +5.1]'.

    ``spread`` is the standard deviation, of a gain half the width of the interval.
    """
    if math.isnan(mean):
        return "-"
    if metric in own_metrics.names():  # of any scale
        near = "" if spread is None or math.isnan(spread) else f" ± {spread:.3g}"
        return f"{mean:{'+' if gain else ''}.3g}{near}"
    factor = 100 if metric in FRACTIONS else 1
    largest = abs(mean) + (spread if gain and spread is not None and not math.isnan(spread) else 0.0)
    digits = 1 if metric in FRACTIONS or largest < 100 else 0
    if not gain:
        return f"{mean * factor:.{digits}f}" + ("" if spread is None else f" ± {spread * factor:.{digits}f}")
    text = f"{mean * factor:+.{digits}f}"
    if spread is None or math.isnan(spread):
        return text
    low, high = (mean - spread) * factor, (mean + spread) * factor
    return f"{text} [{low:+.{digits}f}, {high:+.{digits}f}]"


def between(metric: str, ends: Interval, *, signed: bool = False) -> str:
    """An interval of ``metric`` as text, fractions in percent: '[60.9, 64.2]'."""
    low, high = (100 * end if metric in FRACTIONS else end for end in ends)
    digits = 1 if metric in FRACTIONS or max(abs(low), abs(high)) < 100 else 0
    sign = "+" if signed else ""
    return f"[{low:{sign}.{digits}f}, {high:{sign}.{digits}f}]"


def _cell(metric: str, row: Row, *, intervals: bool) -> str:
    words = cell(metric, row.means[metric], row.stds.get(metric), gain=row.kind == "gain")
    around = row.intervals.get(metric) if intervals else None
    return words if around is None else f"{words} {between(metric, around)}"


def _with_intervals(row: Row, drawn: Mapping[bootstrap.Key, bootstrap.Floats]) -> Row:
    means = drawn.get((row.entry, row.split))
    if means is None:
        return row
    found = {metric: bootstrap.interval(means[:, i]) for i, metric in enumerate(METRICS)}
    return replace(row, intervals={metric: around for metric, around in found.items() if around is not None})


def _best(metric: str, rows: Sequence[Row]) -> str | None:
    """The best mean of a column as text, so that equal ones are all marked; None if all are undefined."""
    known = [row for row in rows if row.kind != "gain" and not math.isnan(row.means[metric])]
    if not known:
        return None
    more = metric in FRACTIONS or (metric not in METRICS and own_metrics.direction(metric) == "max")
    choose: Callable = max if more else min
    return cell(metric, choose(row.means[metric] for row in known))


def _split_order(split: str) -> tuple[int, str]:
    return (list(TITLES).index(split) if split in TITLES else len(TITLES)), split


def _or(value: float | None, default: float) -> float:
    return default if value is None or math.isnan(value) else value
