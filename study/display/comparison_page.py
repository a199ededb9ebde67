"""The page that compares several studies."""

import os
from pathlib import Path

from study.display import pages
from study.display.curve_plot import curve_section
from study.results_folder import read_record
from study.scoring import curve
from study.scoring.comparison import Comparison
from study.scoring.leaderboard import sections


def write(comparison: Comparison, path: Path) -> None:
    """Write one self-contained page to ``path``: the tables, and the winners' pictures by split."""
    pictures: dict[str, list[tuple[str, bytes]]] = {}
    for split in dict.fromkeys(row.split for row in comparison.rows):
        for entry, winner in comparison.best.items():
            file = comparison.folders[entry] / "pictures" / f"{winner}_{split}.png"
            if file.exists():
                pictures.setdefault(split, []).append((entry, file.read_bytes()))
    studies = [
        (entry, folder.name, os.path.relpath(folder / "report.html", path.parent), comparison.trials[entry])
        for entry, folder in comparison.folders.items()
    ]
    fragments = [
        pages.headline(
            f"{len(comparison.folders)} studies on {comparison.data}",
            {"size": f"{comparison.size}x{comparison.size}", "each row": "the winner of a study by validation"},
        ),
        pages.section(
            "Leaderboard",
            pages.leaderboard(sections(comparison.rows, comparison.size)),
            pages.notes(comparison.notes),
        ),
        pages.section("Pictures", pages.pictures(pictures)),
        pages.section("Studies", pages.studies(studies), pages.notes([comparison.caption])),
    ]
    read = {entry: curve.read(folder, read_record(folder)) for entry, folder in comparison.folders.items()}
    if curves := {entry: found for entry, found in read.items() if found}:
        section, scripts = curve_section(curves)
        fragments.insert(2, section)
    pages.write(path, f"{comparison.data} - clevrtune", fragments, scripts if curves else [])
