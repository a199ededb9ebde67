"""How good a study's models are: the leaderboard, what each split was used for, and generalisation gaps."""

from collections.abc import Mapping, Sequence
from typing import Any

from study.display import pages
from study.display.page_table import Cell, Table, as_number, csv_text
from study.scoring.baselines import GRID_IMAGES
from study.scoring.gaps import Gap
from study.scoring.leaderboard import FRACTIONS, TITLES, Row, Section, between, cell, sections
from study.scoring.published import Published

DIAGNOSED = {
    "seg_largest": "largest segment (% of pixels)",
    "seg_segments": "segments per image",
    "seg_kmeans": "ARI with k-means (%)",
    "seg_previous": "ARI with the previous image's (%)",
    "seg_found": "objects found (%)",
    "seg_merged": "merged (%)",
    "seg_split": "split (%)",
}
"""The figures of a diagnosis and their headings; study/scoring/diagnosis.py defines them."""

ABOUT_DIAGNOSES = (
    "means over images: segments with 1 % of the pixels or more; objects that have a segment with IoU above 0.5 are "
    "found, of the others some share a segment (merged) or lie in several (split)"
)
DIRECTIONS = "more is better, but of MSE less; the best of each column is bold"
LOSSES = (
    "above zero the model is worse on the other split, of MSE below zero; [ ]: 95 % interval over both splits' images"
)
WIDE = 10
"""A table with so many columns scrolls."""

OVER_IMAGES = "[ ]: 95 % interval over images, by resampling them; another training may lie outside it"


def board(rows: Sequence[Row], size: int) -> list[Table]:
    """The leaderboard, one table per split, with intervals over images; the first one's CSV has all in full."""
    tables = sections(rows, size, intervals=True, own=True)
    return [_split_table(one, scores_csv(rows) if i == 0 else None) for i, one in enumerate(tables)]


def scores_csv(rows: Sequence[Row]) -> str:
    """All numbers of a leaderboard, unrounded: one line per entry, split and metric."""
    lines = [
        [
            *(row.entry, row.split, row.images, row.seeds, metric, row.means[metric], row.stds.get(metric)),
            *row.intervals.get(metric, (None, None)),
        ]
        for row in rows
        for metric in row.means
    ]
    heads = ["entry", "split", "images", "seeds", "metric", "mean", "deviation", "low", "high"]
    return csv_text(heads, lines)


def protocol(record: Mapping[str, Any], rows: Sequence[Row]) -> Table | None:
    """A table of which split touched what; None without the data's counts."""
    data = record.get("data") or {}
    counts, where = data.get("counts") or {}, data.get("final_splits") or {}
    if not counts:
        return None
    later = {name: f"{about['spec']} {about['split']}" for name, about in (record.get("added") or {}).items()}
    images = {row.split: row.images for row in rows}
    judged = record["config"].get("validation_images")
    some = f"{judged:,} of them, evenly spread, for " if judged and judged < counts.get("val", 0) else ""
    tiled = f", the best grid (the first {GRID_IMAGES:,})" if counts.get("val", 0) > GRID_IMAGES else ", the best grid"
    lines = [
        ["train", _count(counts.get("train")), "gradients; its labels touch nothing"],
        ["validation", _count(counts.get("val")), f"{some}pruning, the search, the finalists' order{tiled}"],
    ]
    for split in dict.fromkeys([*where, *images]):
        lies = {**where, **later}.get(split)
        source = f" ({lies})" if lies and (split not in counts or split in later) else ""
        used = "scored after the study's end" if split in later else "scores of the final stage"
        count = _count(images.get(split, counts.get(split)))
        lines.append([f"{TITLES.get(split, split)}{source}", count, f"{used}; chooses nothing"])
    if curve := record.get("curve"):
        places = ", ".join(curve["labels"])
        lines.append([f"curve: {curve['axis']} {places}", "", "the winner's curve; chooses nothing"])
    return Table(["split", "images", "used for"], lines, "protocol", "Which split was used for what")


def gaps_table(found: Sequence[Gap]) -> Table | None:
    """A table of generalisation gaps, one row per entry; None without another split than test."""
    heads = list(dict.fromkeys((gap.split, gap.metric) for gap in found))
    by_entry: dict[str, dict[tuple[str, str], Gap]] = {}
    for gap in found:
        by_entry.setdefault(gap.entry, {})[gap.split, gap.metric] = gap
    if not heads:
        return None
    rows = [[entry, *(_gap(here.get(head)) for head in heads)] for entry, here in by_entry.items()]
    names = ["", *(f"{split} {metric}" for split, metric in heads)]
    title = "What is lost: test minus the other split, mIoU_fg and ARI_FG in points, MSE as above"
    return Table(names, rows, "gaps", title, scroll=len(names) > WIDE)


def diagnosis_section(rows: Sequence[Row]) -> str:
    """A section with the figures of each entry that has a diagnosis; nothing if none has."""
    lines: list[list[Cell | str]] = [
        [
            f"{row.entry}, {TITLES.get(row.split, row.split)}",
            *(_diagnosed(name, row.figures[name]) for name in DIAGNOSED),
            row.diagnosis.verdict,
        ]
        for row in rows
        if row.diagnosis
    ]
    heads = ["", *DIAGNOSED.values(), "diagnosis"]
    about = pages.notes([ABOUT_DIAGNOSES])
    return pages.section("Diagnosis", Table(heads, lines, "diagnosis").html(), about) if lines else ""


def _diagnosed(name: str, value: float) -> Cell:
    return Cell(f"{value:.1f}" if name == "seg_segments" else f"{100 * value:.0f}", value)


def published_table(found: Sequence[Published], winner: str) -> Table | None:
    """A table of published numbers beside those of ``winner``; None without any."""
    rows = [
        [
            TITLES.get(one.split, one.split),
            one.metric,
            Cell(_amount(one.metric, one.mean, one.std), one.mean),
            Cell(_amount(one.metric, one.ours), one.ours),
            {None: "", True: "yes", False: "no"}[one.within],
            one.status,
        ]
        for one in found
    ]
    heads = ["", "metric", "published", winner, "within 2 deviations", "status of the published number"]
    return Table(heads, rows, "published", "Beside the published numbers") if rows else None


def _amount(metric: str, mean: float, std: float | None = None) -> str:
    digits = 1 if metric in FRACTIONS else 0
    return f"{mean:.{digits}f}" + ("" if std is None else f" ± {std:.{digits}f}")


def _split_table(one: Section, saved: str | None) -> Table:
    diagnosed = any(row.diagnosis for row, _, _ in one.rows)
    rows: list[list[object]] = []
    classes, previous = [], None
    for row, cells, bold in one.rows:
        line: list[object] = [row.entry]
        for words, best in zip(cells, bold, strict=True):
            value, bracket, interval = words.partition(" [")
            line.append(Cell(value, as_number(value).key, (bracket + interval).strip(), best))
        rows.append(line + ([row.diagnosis.verdict if row.diagnosis else ""] if diagnosed else []))
        classes.append(_row_class(row, previous))
        previous = row
    heads = ["", *one.headings, *(["diagnosis"] if diagnosed else [])]
    name = "leaderboard" if saved is not None else f"leaderboard_{one.split}"
    return Table(heads, rows, name, one.title, classes=classes, saved=saved)


def _row_class(row: Row, previous: Row | None) -> str:
    starts_baselines = row.kind == "baseline" and previous is not None and previous.kind != "baseline"
    return f"{row.kind} rule" if starts_baselines else row.kind


def _gap(gap: Gap | None) -> Cell:
    if gap is None:
        return Cell("-")
    words = cell(gap.metric, gap.difference, gain=True)
    below = between(gap.metric, gap.interval, signed=True) if gap.interval else ""
    return Cell(words, gap.difference, below)


def _count(images: int | None) -> Cell:
    return Cell("") if images is None else Cell(f"{images:,}", images)
