"""The best trials of several studies side by side: ``python study/compare.py results/<study> results/<study> ...``."""

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

    folders: list[Path]
    """folders of studies below results/"""
    markdown: bool = field(default=False, kw_only=True)
    """print Markdown"""
    html: Path | None = field(default=None, kw_only=True)
    """write a page with pictures to this file"""


@command_line.errors_in_one_line
def main(arguments: Sequence[str] | None = None) -> int:
    """Print the comparison of the folders on the command line; returns the exit status, 2 if they do not compare."""
    flags = command_line.parse(
        Flags,
        arguments,
        verb="study/compare.py",
        description="Compare the best trials of several studies on the same data.",
    )
    from study.display import comparison_page, tables  # not before the arguments are read: they take seconds
    from study.scoring import comparison

    compared = comparison.compare([folder.resolve() for folder in flags.folders])
    if flags.html is not None:
        comparison_page.write(compared, flags.html)
    if flags.markdown:
        print(tables.comparison_markdown(compared), end="")
    else:
        tables.print_comparison(Console(), compared)
    return 0


if __name__ == "__main__":
    sys.exit(main())
