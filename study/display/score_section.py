"""How good a study's models are: the leaderboard, what each split was used for, and generalisation gaps."""

from collections.abc import Mapping, Sequence
from typing import Any

from study.display import pages
from study.display.pages import Cell
from study.scoring.gaps import Gap
from study.scoring.leaderboard import FRACTIONS, METRICS, TITLES, Row, between, cell, sections

DIAGNOSED = {
    "seg_largest": "share of the largest segment",
    "seg_segments": "segments",
    "seg_kmeans": "ARI with k-means",
    "seg_previous": "ARI with the previous image's",
    "seg_found": "objects found",
    "seg_merged": "merged",
    "seg_split": "split",
}
"""The figures of a diagnosis and their headings; study/scoring/diagnosis.py defines them."""

OVER_IMAGES = "[ ]: 95 % interval over images, by resampling them; another training may lie outside it"


def board(rows: Sequence[Row], size: int) -> str:
    """The leaderboard, one card per split, with intervals over images; its CSV has the numbers in full."""
    return pages.leaderboard(sections(rows, size, intervals=True), scores_csv(rows)) if rows else ""


def scores_csv(rows: Sequence[Row]) -> str:
    """All numbers of a leaderboard, unrounded: one line per entry, split and metric."""
    lines = [
        [
            *(row.entry, row.split, row.images, row.seeds, metric, row.means[metric], row.stds.get(metric)),
            *row.intervals.get(metric, (None, None)),
        ]
        for row in rows
        for metric in METRICS
    ]
    heads = ["entry", "split", "images", "seeds", "metric", "mean", "deviation", "low", "high"]
    return pages.csv_text(heads, lines)


def protocol(record: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """A table of which split touched what; nothing without the data's counts."""
    data = record.get("data") or {}
    counts, where = data.get("counts") or {}, data.get("final_splits") or {}
    if not counts:
        return ""
    images = {row.split: row.images for row in rows}
    judged = record["config"].get("validation_images")
    some = f", the first {judged:,} of them" if judged and judged < counts.get("val", 0) else ""
    lines = [
        ["train", _count(counts.get("train")), "gradients; its labels touch nothing"],
        ["validation", _count(counts.get("val")), f"pruning, the search, the finalists' order, the best grid{some}"],
    ]
    for split in dict.fromkeys([*where, *images]):
        source = f" ({where[split]})" if split in where and split not in counts else ""
        title = f"{TITLES.get(split, split)}{source}"
        lines.append(
            [title, _count(images.get(split, counts.get(split))), "scores of the final stage; chooses nothing"]
        )
    if curve := record.get("curve"):
        places = ", ".join(curve["labels"])
        lines.append([f"curve: {curve['axis']} {places}", "", "the winner's curve; chooses nothing"])
    return pages.table(["split", "images", "used for"], lines, name="protocol", title="Which split was used for what")


def gaps_table(found: Sequence[Gap]) -> str:
    """A table of generalisation gaps, one row per entry; nothing without another split than test."""
    heads = list(dict.fromkeys((gap.split, gap.metric) for gap in found))
    by_entry: dict[str, dict[tuple[str, str], Gap]] = {}
    for gap in found:
        by_entry.setdefault(gap.entry, {})[gap.split, gap.metric] = gap
    if not heads:
        return ""
    rows = [[entry, *(_gap(here.get(head)) for head in heads)] for entry, here in by_entry.items()]
    names = ["", *(f"test - {split}, {metric}{' (points)' if metric in FRACTIONS else ''}" for split, metric in heads)]
    return pages.table(names, rows, name="gaps", title="What is lost from test to other images")


def diagnosis_section(rows: Sequence[Row]) -> str:
    """A section with the figures of each entry that has a diagnosis; nothing if none has."""
    lines: list[list[Cell | str]] = [
        [
            f"{row.entry}, {TITLES.get(row.split, row.split)}",
            *(Cell(f"{row.figures[name]:.2f}", row.figures[name]) for name in DIAGNOSED),
            row.diagnosis.verdict,
        ]
        for row in rows
        if row.diagnosis
    ]
    heads = ["", *DIAGNOSED.values(), "diagnosis"]
    return pages.section("Diagnosis", pages.table(heads, lines, name="diagnosis")) if lines else ""


def _gap(gap: Gap | None) -> Cell:
    if gap is None:
        return Cell("-")
    words = cell(gap.metric, gap.difference, gain=True)
    below = between(gap.metric, gap.interval, signed=True) if gap.interval else ""
    return Cell(words, gap.difference, below)


def _count(images: int | None) -> Cell:
    return Cell("") if images is None else Cell(f"{images:,}", images)
