"""The terminal and Markdown show the same numbers."""

import os

from rich.console import Console

from study.display import tables
from study.scoring import leaderboard
from tests.study.results import SCORES, evaluation, with_figures


def test_terminal_and_markdown_show_the_same_numbers() -> None:
    table = with_figures(evaluation(SCORES))
    rows = leaderboard.leaderboard(table, ["trial_0002", "trial_0005", "base"])
    console = Console(record=True, width=100, file=open(os.devnull, "w"))
    tables.print_leaderboard(console, rows, 32, ["not comparable"])
    printed = console.export_text()
    text = tables.leaderboard_markdown(rows, 32, ["not comparable"])
    lines = text.splitlines()
    assert lines[0] == "**test (6 images)**" and lines[3] == "|---|---:|---:|---:|"
    assert "| trial 2 | **64.5 ± 2.0** | **64.5 ± 2.0** | **76.0 ± 4.0** |" in lines
    assert "| base | 40.5 ± 3.0 | 40.5 ± 3.0 | 124 ± 6 |" in lines
    assert "| *trial 2 - base* | +24.0 [+6.1, +41.9] | +24.0 [+6.1, +41.9] | -48.0 [-83.9, -12.1] |" in lines
    assert "| *grid 4x4* | 22.5 | 22.5 | 160 |" in lines
    for shown in (
        "64.5 ± 2.0",
        "trial 2 - base",
        "+24.0 [+6.1, +41.9]",
        "grid 4x4",
        "not comparable",
        "test (6 images)",
        "OOD (6 images)",
        "trial 2 on test: tiles the image (segmentations of successive images agree at 0.83 ARI)",
        "base on test: tiles the image",
    ):
        assert shown in printed and shown in text
    assert "grid 4x4 on test" not in printed and "grid 4x4 on test" not in text, "the page has the baselines'"
    assert "outd" not in printed and "outd" not in text
    assert "on OOD" not in printed and "on OOD" not in text, "a line per entry is enough"
    assert "mBO" not in printed and "mBO" not in text, "the page has all metrics"


def test_notes_are_printed_as_they_are() -> None:
    console = Console(record=True, width=20, file=open(os.devnull, "w"))
    tables.print_notes(console, ["loss is [red]nan at step 120 in trial 4"])
    assert console.export_text() == "loss is [red]nan at step 120 in trial 4\n"
