"""Several studies side by side: the best trial of each, in one leaderboard of test, OOD and CAMO.

python study/compare.py results/<study> results/<study> ...
"""

import sys
from pathlib import Path

if __name__ == "__main__":  # the checkout in place of study/, whose modules must not hide others
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow.parquet as pq
from rich import box
from rich.console import Console
from rich.table import Table

from study import report
from study.display import pages
from study.scoring.leaderboard import FRACTIONS, METRICS, Row, Section, footnotes, sections

TITLES = {"test": "test", "outd": "OOD", "camo": "CAMO"}
"""The splits as the papers call them."""

WIDE = 112
"""Characters of a line that hold all columns."""


@dataclass(frozen=True)
class Comparison:
    """The scores of several studies on the same data."""

    data: str
    """the data specification that all of them have"""
    size: int
    """height and width of the images in pixels"""
    rows: list[Row]
    """by split: one row per study, best test mIoU_fg first, then the baselines"""
    folders: dict[str, Path]
    """entry -> folder of its study, in the order of the rows; the studies without scores last"""
    best: dict[str, int]
    """entry -> number of its best trial, of the studies that have scores"""
    trials: dict[str, str]
    """entry -> how many trials were completed / stopped early / failed"""
    notes: list[str]
    """what a reader must know before comparing"""


def compare(folders: Sequence[Path]) -> Comparison:
    """Gather the best trial of each study in ``folders``; a study without scores becomes a note.

    Raises ValueError if a folder holds no study, or if the studies were scored on different images.
    """
    records = {folder: report.read_record(folder) for folder in folders}
    first, reference = next(iter(records.items()))
    rows: list[Row] = []
    baselines: list[Row] = []
    named: dict[str, Path] = {}
    chosen: dict[str, int] = {}
    notes: list[str] = []
    for folder, record in records.items():
        for key, here, there in (
            ("data", record["config"]["data"], reference["config"]["data"]),
            ("size", record["config"]["size"], reference["config"]["size"]),
            ("fingerprint", _images(record), _images(reference)),
        ):
            if here != there:
                raise ValueError(
                    f"{folder.name} and {first.name} were not scored on the same images ({key} {here} and {there}); "
                    "compare studies of one data set and size"
                )
        entry = _entry(folder, records)
        named[entry] = folder
        scored = report.read_leaderboard(folder)
        if not scored or not (folder / "best.json").exists():
            notes.append(f"{entry}: nothing to compare yet; run its study to the end")
            continue
        chosen[entry] = json.loads((folder / "best.json").read_text())["trial"]
        rows += [replace(row, entry=entry) for row in scored if row.entry == f"trial {chosen[entry]}"]
        baselines = baselines or [row for row in scored if row.kind == "baseline"]
        notes += (record.get("data") or {}).get("notices", [])
    rank = _rank(rows)
    splits = dict.fromkeys(row.split for row in [*rows, *baselines])
    ordered = []
    for split in splits:
        ordered += sorted((row for row in rows if row.split == split), key=lambda row: rank.index(row.entry))
        ordered += [row for row in baselines if row.split == split]
    incomplete = any((record.get("data") or {}).get("incomplete") for record in records.values())
    entries = [*rank, *(entry for entry in named if entry not in rank)]
    return Comparison(
        data=reference["config"]["data"],
        size=reference["config"]["size"],
        rows=ordered,
        folders={entry: named[entry] for entry in entries},
        best=chosen,
        trials={entry: _trials(named[entry]) for entry in entries},
        notes=[*dict.fromkeys(notes), *footnotes(ordered, incomplete)],
    )


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Print one table: a row per study and baseline, columns per split; the best of each column is bold.

    A narrow terminal gets the two fractions alone; the page has the rest.
    """
    metrics = METRICS if console.width >= WIDE else FRACTIONS
    tables = sections(comparison.rows, comparison.size)
    table = Table(title=f"best trial of each study on {comparison.data}", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    if metrics == METRICS:
        table.add_column("trials", justify="right")
        table.caption = _caption(comparison.size)
    for section in tables:
        for metric in metrics:
            title = TITLES.get(_split(section), _split(section))
            table.add_column(f"{title}\n{metric}", justify="right", no_wrap=True)
    shown = [METRICS.index(metric) + i * len(METRICS) for i in range(len(tables)) for metric in metrics]
    for entry, (row, cells, bold) in _lines(tables).items():
        scores = [f"[bold]{cells[i]}[/bold]" if bold[i] else cells[i] for i in shown]
        trials = [comparison.trials.get(entry, "")] if metrics == METRICS else []
        style = "dim" if row.kind == "baseline" else None
        above_baselines = len(table.rows) + 1 == len(comparison.best)
        table.add_row(entry, *trials, *scores, style=style, end_section=above_baselines)
    console.print(table)
    for note in comparison.notes:
        console.print(note, style="yellow", markup=False, highlight=False, soft_wrap=True)


def markdown(comparison: Comparison) -> str:
    """The same table in Markdown, to be pasted into notes and papers."""
    tables = sections(comparison.rows, comparison.size)
    heads = [f"{TITLES.get(_split(section), _split(section))} {metric}" for section in tables for metric in METRICS]
    lines = ["| | trials | " + " | ".join(heads) + " |", "|---|" + "---:|" * (1 + len(heads))]
    for entry, (row, cells, bold) in _lines(tables).items():
        marked = [f"**{cell}**" if best else cell for cell, best in zip(cells, bold, strict=True)]
        name = f"*{entry}*" if row.kind == "baseline" else entry
        lines.append(f"| {name} | {comparison.trials.get(entry, '')} | " + " | ".join(marked) + " |")
    return "\n".join([*lines, "", f"- {_caption(comparison.size)}", *(f"- {note}" for note in comparison.notes)]) + "\n"


def write(comparison: Comparison, path: Path) -> None:
    """Write one self-contained page to ``path``: the tables, and the best trials' pictures split by split."""
    pictures: dict[str, list[tuple[str, bytes]]] = {}
    for split in dict.fromkeys(row.split for row in comparison.rows):
        for entry, trial in comparison.best.items():
            file = comparison.folders[entry] / "pictures" / f"trial_{trial:04d}_{split}.png"
            if file.exists():
                pictures.setdefault(split, []).append((entry, file.read_bytes()))
    studies = [
        (entry, folder.name, os.path.relpath(folder / "report.html", path.parent), comparison.trials[entry])
        for entry, folder in comparison.folders.items()
    ]
    fragments = [
        pages.headline(
            f"{len(comparison.folders)} studies on {comparison.data}",
            {"size": f"{comparison.size}x{comparison.size}", "each row": "the best trial of a study by validation"},
        ),
        pages.section(
            "Leaderboard",
            pages.leaderboard(sections(comparison.rows, comparison.size)),
            pages.notes(comparison.notes),
        ),
        pages.section("Pictures", pages.pictures(pictures)),
        pages.section("Studies", pages.studies(studies), pages.notes([_caption(comparison.size)])),
    ]
    partial = path.with_name(path.name + ".partial")
    partial.write_text(pages.page(f"{comparison.data} - clevrtune", fragments))
    os.replace(partial, path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the comparison of the folders on the command line; returns the exit status, 2 if they do not compare."""
    parser = argparse.ArgumentParser(
        prog="python study/compare.py", description="Compare the best trials of several studies on the same data."
    )
    parser.add_argument("folders", type=Path, nargs="+", metavar="folder", help="folder of a study below results/")
    parser.add_argument("--markdown", action="store_true", help="print Markdown")
    parser.add_argument("--html", type=Path, help="write a page with pictures to this file")
    options = parser.parse_args(arguments)
    try:
        comparison = compare([folder.resolve() for folder in options.folders])
        if options.html is not None:
            write(comparison, options.html)
    except (ValueError, OSError) as error:
        Console(stderr=True, highlight=False, soft_wrap=True, markup=False).print(f"error: {error}")
        return 2
    if options.markdown:
        print(markdown(comparison), end="")
    else:
        print_comparison(Console(), comparison)
    return 0


def _entry(folder: Path, records: dict[Path, dict[str, Any]]) -> str:
    """The model's name, or the study's where several studies are of one model."""
    model = records[folder]["config"]["model"]
    alone = sum(record["config"]["model"] == model for record in records.values()) == 1
    return model if alone else folder.name


def _images(record: dict[str, Any]) -> str | None:
    """What tells the images apart; synthetic scenes are drawn anew on each machine, equal up to their last bit."""
    return None if record["config"]["data"].startswith("synthetic") else (record.get("data") or {}).get("fingerprint")


def _trials(folder: Path) -> str:
    path = folder / "trials.parquet"
    states = pq.read_table(path, columns=["state"])["state"].to_pylist() if path.exists() else []
    return " / ".join(str(states.count(state)) for state in ("COMPLETE", "PRUNED", "FAIL"))


def _rank(rows: Sequence[Row]) -> list[str]:
    """Entries by mIoU_fg on the first split, best first."""
    first = {row.entry: row.means["mIoU_fg"] for row in reversed(rows)}
    return sorted(first, key=lambda entry: (math.isnan(first[entry]), -first[entry], entry))


def _lines(tables: Sequence[Section]) -> dict[str, tuple[Row, list[str], list[bool]]]:
    """Entry -> a row of it, its cells over all splits, and which of these are the best of their column."""
    lines: dict[str, tuple[Row, list[str], list[bool]]] = {}
    for row, _, _ in (line for section in tables for line in section.rows):
        if row.entry in lines:
            continue
        cells: list[str] = []
        bold: list[bool] = []
        for section in tables:
            found = [(c, b) for other, c, b in section.rows if other.entry == row.entry]
            here, marks = found[0] if found else (["-"] * len(METRICS), [False] * len(METRICS))
            cells += here
            bold += marks
        lines[row.entry] = (row, cells, bold)
    return lines


def _split(section: Section) -> str:
    return section.rows[0][0].split


def _caption(size: int) -> str:
    return f"mIoU_fg and ARI_FG in %; trials: completed / stopped early / failed; MSE: sum over 3x{size}x{size}"


if __name__ == "__main__":
    sys.exit(main())
