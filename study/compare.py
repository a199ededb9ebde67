"""The best trials of several studies side by side: ``python study/compare.py results/<study> results/<study> ...``."""

import sys
from pathlib import Path

if __name__ == "__main__":  # the checkout in place of study/, whose modules must not hide others
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from collections.abc import Sequence

from study.config import OneLineParser


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the comparison of the folders on the command line; returns the exit status, 2 if they do not compare."""
    parser = OneLineParser(
        prog="study/compare.py", description="Compare the best trials of several studies on the same data."
    )
    parser.add_argument("folders", type=Path, nargs="+", metavar="folder", help="folder of a study below results/")
    parser.add_argument("--markdown", action="store_true", help="print Markdown")
    parser.add_argument("--html", type=Path, help="write a page with pictures to this file")
    options = parser.parse_args(arguments)
    return compare([folder.resolve() for folder in options.folders], markdown=options.markdown, page=options.html)


def compare(folders: Sequence[Path], *, markdown: bool, page: Path | None) -> int:
    """Print the comparison of the studies in ``folders``, write ``page`` if there is one; returns the exit status."""
    # PyArrow and Optuna take seconds to import: not before the arguments are known to be right.
    from rich.console import Console

    from study.display import comparison_page, tables
    from study.scoring import comparison

    try:
        compared = comparison.compare(folders)
        if page is not None:
            comparison_page.write(compared, page)
    except (ValueError, OSError) as error:
        Console(stderr=True, highlight=False, soft_wrap=True, markup=False).print(f"error: {error}")
        return 2
    if markdown:
        print(tables.comparison_markdown(compared), end="")
    else:
        tables.print_comparison(Console(), compared)
    return 0


if __name__ == "__main__":
    sys.exit(main())
