"""The report of a study, made anew from its results folder: ``python study/report.py results/<study>``."""

import sys
from pathlib import Path

if __name__ == "__main__":  # the checkout in place of study/, whose modules must not hide others
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from collections.abc import Sequence

from study.config import OneLineParser


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the report and print the leaderboard; returns the exit status, 2 if there is no study."""
    parser = OneLineParser(
        prog="study/report.py", description="Write the report of a study anew, from its results folder alone."
    )
    parser.add_argument("folder", type=Path, help="folder of a study, e.g. results/space-synthetic-tiny")
    parser.add_argument("--markdown", action="store_true", help="print the leaderboard as Markdown")
    options = parser.parse_args(arguments)
    return report(options.folder.resolve(), markdown=options.markdown)


def report(folder: Path, *, markdown: bool) -> int:
    """Write the report of the study in ``folder`` and print its leaderboard; returns the exit status."""
    # Optuna, PyArrow and plotly take seconds to import: not before the arguments are known to be right.
    from rich.console import Console

    from study.display import study_page

    errors = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    try:
        path = study_page.write(folder, None if markdown else Console())
        if markdown:
            print(study_page.leaderboard_markdown(folder), end="")
    except ValueError as error:
        errors.print(f"error: {error}")
        return 2
    errors.print(f"report: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
