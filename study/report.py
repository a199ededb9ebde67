"""The report of a study, made anew from its results folder: ``python study/report.py results/<study>``."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

if __name__ == "__main__":  # Python puts study/ first on the path; the packages are one level up
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from rich.console import Console

from study import command_line


@dataclass(frozen=True)
class Flags:
    """The flags of this command."""

    folder: Path
    """folder of a study, e.g. 'results/space-synthetic-0.2+siblings-tiny'"""
    markdown: bool = field(default=False, kw_only=True)
    """print the leaderboard as Markdown"""
    latex: bool = field(default=False, kw_only=True)
    """print the tables for a paper, which tables.tex has, too"""
    pdf: bool = field(default=False, kw_only=True)
    """print report.pdf with Chromium, where that is installed"""
    storage: str | None = field(default=None, kw_only=True)
    """Optuna storage URL of a study that was run with --storage; study.json alone makes nothing open it"""


@command_line.errors_in_one_line
def main(arguments: Sequence[str] | None = None) -> int:
    """Write the report and print the leaderboard; returns the exit status, 2 if there is no study."""
    flags = command_line.parse(
        Flags,
        arguments,
        verb="study/report.py",
        description="Write the report of a study anew, from its results folder alone.",
    )
    from study.display import (
        paper_files,
        printed,
        study_page,
    )  # not before the arguments are read: Optuna and plotly take seconds

    folder = flags.folder.resolve()
    path = study_page.write(folder, None if flags.markdown or flags.latex else Console(), flags.storage)
    if flags.markdown:
        print(study_page.leaderboard_markdown(folder), end="")
    if flags.latex:
        print(paper_files.read_latex(folder), end="")
    print(f"report: {path}", file=sys.stderr)
    if flags.pdf:
        print(printed.write(path), file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
