"""The page that compares several studies."""

import os
from pathlib import Path
from typing import Any

from study.display import figures, pages
from study.display.curve_plot import curve_section
from study.display.durations import duration
from study.display.page_table import Cell, Table
from study.display.picture_section import side_by_side
from study.display.score_section import DIRECTIONS, LOSSES, OVER_IMAGES, board, gaps_table
from study.results_folder import read_record
from study.scoring import curve
from study.scoring.comparison import Comparison
from study.scoring.leaderboard import TITLES, file_stem

SEEN = "mIoU_fg"
"""The score of the plots."""

SYMBOLS = ("circle", "square", "diamond", "cross", "triangle-up", "star", "hexagon")
"""Of a study's point, beside its colour."""


def write(comparison: Comparison, path: Path) -> None:
    """Write one self-contained page to ``path``: the tables, budgets, and the winners' pictures of the same scenes."""
    fragments = [
        pages.headline(
            f"{len(comparison.folders)} studies on {comparison.data}",
            {"size": f"{comparison.size}x{comparison.size}", "each row": "the winner of a study by validation"},
        ),
        pages.section(
            "Leaderboard",
            pages.cards(*(one.html() for one in board(comparison.rows, comparison.size)), layout="full-width"),
            pages.notes(
                [
                    *([DIRECTIONS] if comparison.rows else []),
                    *comparison.notes,
                    *([OVER_IMAGES] if comparison.rows else []),
                ]
            ),
        ),
        pages.section("Budgets", _budgets(comparison, path)),
    ]
    if lost := gaps_table(comparison.gaps):
        fragments.append(pages.section("Generalisation", lost.html(), pages.notes([LOSSES])))
    if costs := _costs(comparison):
        fragments.append(pages.section("Scores and costs", costs))
    read = {entry: curve.read(folder, read_record(folder)) for entry, folder in comparison.folders.items()}
    if curves := {entry: found for entry, found in read.items() if found}:
        fragments.append(curve_section(curves))
    if shown := _pictures(comparison):
        fragments.append(pages.section("Pictures", shown))
    plots = any('class="plot' in fragment for fragment in fragments)
    script = figures.script() if plots else None
    pages.write(path, f"{comparison.data} - clevrtune", fragments, script or "")


def _pictures(comparison: Comparison) -> str:
    """The winners' panels by split, scene by scene; input and truth are those of a baseline, without boxes on them."""
    found: dict[str, list[tuple[str, bytes]]] = {}
    truth: dict[str, bytes] = {}
    for split in dict.fromkeys(row.split for row in comparison.rows):
        for entry, winner in comparison.best.items():
            folder = comparison.folders[entry] / "pictures"
            file = folder / f"{winner}_{split}.png"
            if file.exists():
                found.setdefault(split, []).append((entry, file.read_bytes()))
            baselines = (row for row in comparison.rows if row.split == split and row.kind == "baseline")
            files = (folder / f"{file_stem(row)}_{split}.png" for row in baselines)
            for plain in [one for one in files if one.exists()][:1]:
                truth.setdefault(split, plain.read_bytes())
    order = {entry: place for place, entry in enumerate(comparison.folders)}
    ordered = {split: sorted(files, key=lambda file: order[file[0]]) for split, files in found.items()}
    return side_by_side(ordered, truth)


def _budgets(comparison: Comparison, path: Path) -> str:
    """A table of studies: what each was given and used, and a link to its report."""
    heads = ["", "report", "trials: complete / pruned / failed", "steps of a full trial", "steps of the search"]
    heads += ["finalists x seeds, as asked", "wall time", "winner's training", "parameters"]
    rows: list[list[object]] = []
    for entry, folder in comparison.folders.items():
        budget = comparison.budgets[entry]
        address = os.path.relpath(folder / "report.html", path.parent)
        link = pages.link(address, folder.name)
        rows.append(
            [
                entry,
                Cell(folder.name, markup=link),
                Cell(comparison.trials[entry], budget.trials),
                _count(budget.steps),
                _count(budget.trained),
                f"{budget.finalists} x {budget.seeds}",
                Cell(duration(budget.wall), budget.wall or ""),
                Cell(duration(budget.seconds), budget.seconds or ""),
                _count(budget.parameters),
            ]
        )
    return Table(heads, rows, "budgets").html()


def _costs(comparison: Comparison) -> str:
    """Scores of the winners on the first split against the seconds of their training, and their parameters."""
    if figures.script() is None or not comparison.rows:
        return ""
    split = comparison.rows[0].split
    means = {row.entry: row.means[SEEN] for row in comparison.rows if row.split == split}
    drawn = []
    for title, key in (("seconds of training and validation", "seconds"), ("parameters", "parameters")):
        costs = {entry: getattr(budget, key) for entry, budget in comparison.budgets.items()}
        data: list[dict[str, Any]] = []
        for number, (entry, cost) in enumerate(costs.items()):
            score = figures.short(means.get(entry))
            if cost and score is not None:
                symbol = SYMBOLS[number % len(SYMBOLS)]
                marker = {"size": 12, "symbol": symbol, "color": f"var(--series{number % 10 + 1})"}
                spot = {"x": [cost], "y": [round(100 * score, 2)], "name": figures.label(entry)}
                data.append({**spot, "mode": "markers", "marker": marker})  # no words at it: they would overlap
        if data:
            where = TITLES.get(split, split)
            axis = figures.decades([one["x"][0] for one in data])
            layout = {
                "xaxis": {"type": "log", "title": {"text": title}, **axis},
                "yaxis": {"title": {"text": f"{SEEN} on {where} (%)"}, "rangemode": "tozero"},
                "showlegend": True,
            }
            about = f"{SEEN} against {title}"
            drawn.append((f"{SEEN} against {title}", figures.figure(data, layout, about=about), False))
    return pages.plots(drawn)


def _count(number: int | None) -> Cell:
    return Cell(f"{number:,}", number) if number else Cell("")
