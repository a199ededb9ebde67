"""The terminal and Markdown show the same numbers."""

import os

from rich.console import Console

from study.display import tables
from study.scoring import leaderboard
from tests.study.results import SCORES, evaluation


def test_terminal_and_markdown_show_the_same_numbers() -> None:
    rows = leaderboard.leaderboard(evaluation(SCORES), [2, 5])
    console = Console(record=True, width=80, file=open(os.devnull, "w"))
    tables.print_leaderboard(console, rows, 32, incomplete=True)
    printed = console.export_text()
    text = tables.leaderboard_markdown(rows, 32, incomplete=True)
    lines = text.splitlines()
    assert lines[0] == "**test (6 images)**" and lines[3] == "|---|---:|---:|---:|"
    assert "| trial 2 | **62.5** | **62.5** | **80.0** |" in lines
    assert "| *best 2 trials* | 52.5 ± 10.0 | 52.5 ± 10.0 | 100 ± 20 |" in lines
    assert "| *grid 4x4* | 22.5 | 22.5 | 160 |" in lines
    for shown in ("62.5", "52.5 ± 10.0", "grid 4x4", "not comparable", "test (6 images)", "OOD (6 images)"):
        assert shown in printed and shown in text
    assert "outd" not in printed and "outd" not in text


def test_notes_are_printed_as_they_are() -> None:
    console = Console(record=True, width=20, file=open(os.devnull, "w"))
    tables.print_notes(console, ["loss is [red]nan at step 120 in trial 4"])
    assert console.export_text() == "loss is [red]nan at step 120 in trial 4\n"
