"""The leaderboard: per-image scores of the final stage as means, set in tables for terminal and Markdown."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.table import Table

SPLITS = ("test", "outd", "camo")
"""The splits of the final stage, in the order of the tables."""

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
    """test, outd or camo"""
    images: int
    """images of the split"""
    undefined: int
    """images without true foreground, which ``mIoU_fg`` and ``ARI_FG`` leave out"""
    means: dict[str, float]
    """metric -> mean as stored (fractions, MSE as a sum over 3HW); NaN if no image defines it"""
    stds: dict[str, float] = field(default_factory=dict)
    """metric -> standard deviation over trials; only of a summary"""


@dataclass(frozen=True)
class Section:
    """One split's table, ready to be set in type."""

    title: str
    headings: list[str]
    rows: list[tuple[Row, list[str], list[bool]]]
    """row, its cells, and which of these are the best of their column"""


def leaderboard(evaluation: pa.Table) -> list[Row]:
    """Rows by split: trials (best mIoU_fg on the first split first), their summary if two or more, baselines.

    ``evaluation`` has one row per entry, split and image: entry, trial (null for baselines), split, image and
    one column per metric; NaN where an image leaves a metric undefined.
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
    first = {row.entry: row.means["mIoU_fg"] for row in rows if row.split == splits[0]}
    rank = sorted({row.entry for row in rows}, key=lambda entry: (-_or(first.get(entry), -math.inf), entry))
    ordered = []
    for split in splits:
        here = sorted((row for row in rows if row.split == split), key=lambda row: rank.index(row.entry))
        trials = [row for row in here if row.kind == "trial"]
        ordered += trials
        if len(trials) > 1:
            ordered.append(_summary(trials))
        ordered += [row for row in here if row.kind == "baseline"]
    return ordered


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
        result.append(Section(f"{split} ({here[0].images:,} images)", headings, body))
    return result


def footnotes(rows: Sequence[Row], incomplete: bool) -> list[str]:
    """What a reader must know before comparing the numbers."""
    notes = []
    if incomplete:
        notes.append("incomplete data: not comparable with published numbers")
    for split in dict.fromkeys(row.split for row in rows):
        undefined = max(row.undefined for row in rows if row.split == split)
        if undefined:
            notes.append(f"{split}: mIoU_fg and ARI_FG leave out images without foreground, {undefined} of them")
    return notes


def print_table(console: Console, rows: Sequence[Row], size: int, incomplete: bool = False) -> None:
    """Print one table per split; the best of each column is bold, baselines stand below a rule."""
    for section in sections(rows, size):
        table = Table(title=section.title, title_justify="left", title_style="bold cyan")
        table.add_column("")
        for heading in section.headings:
            table.add_column(heading, justify="right")
        previous = section.rows[0][0]
        for row, cells, bold in section.rows:
            if row.kind == "baseline" != previous.kind:
                table.add_section()
            marked = _emphasise(cells, bold, lambda cell: f"[bold]{cell}[/bold]")
            table.add_row(row.entry, *marked, style="italic" if row.kind == "summary" else "")
            previous = row
        console.print(table)
    for note in footnotes(rows, incomplete):
        console.print(f"[yellow]{note}[/yellow]")


def markdown(rows: Sequence[Row], size: int, incomplete: bool = False) -> str:
    """The same tables in Markdown, to be pasted into notes and issues."""
    lines = []
    for section in sections(rows, size):
        lines += [f"**{section.title}**", "", "| | " + " | ".join(section.headings) + " |"]
        lines.append("|---|" + "---:|" * len(section.headings))
        for row, cells, bold in section.rows:
            entry = f"*{row.entry}*" if row.kind != "trial" else row.entry
            marked = _emphasise(cells, bold, lambda cell: f"**{cell}**")
            lines.append(f"| {entry} | " + " | ".join(marked) + " |")
        lines.append("")
    return "\n".join([*lines, *(f"- {note}" for note in footnotes(rows, incomplete))]).rstrip() + "\n"


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
    """The best cell of a column as text, so that what looks equal is marked alike; None if all undefined."""
    known = [row for row in rows if row.kind != "summary" and not math.isnan(row.means[metric])]
    if not known:
        return None
    choose: Callable = max if metric in FRACTIONS else min
    return _cell(metric, choose(known, key=lambda row: row.means[metric]))


def _emphasise(cells: Sequence[str], bold: Sequence[bool], mark: Callable[[str], str]) -> list[str]:
    return [mark(cell) if best else cell for cell, best in zip(cells, bold, strict=True)]


def _split_order(split: str) -> tuple[int, str]:
    return (SPLITS.index(split) if split in SPLITS else len(SPLITS)), split


def _or(value: float | None, default: float) -> float:
    return default if value is None or math.isnan(value) else value
