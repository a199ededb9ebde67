"""Lines on a console, printed as they are."""

import re
from collections.abc import Iterable

from rich.console import Console

COPIED = re.compile(r"\||(watch|folder|files|report|curves|longer|again|page|trace):")
"""How lines begin whose paths, commands and tables people copy: a line break within would go along."""


def say(console: Console, line: str, style: str | None = None) -> None:
    """Print ``line``: paths and specs hold characters that rich would take for markup. On a terminal it breaks between
    words, unless it is there to be copied.
    """
    whole = not console.is_terminal or COPIED.match(line) is not None
    console.print(line, style=style, highlight=False, markup=False, soft_wrap=whole)


def begin(console: Console, step: str) -> None:
    """Say that a long step begins where no bar shows it: off a terminal."""
    if not console.is_terminal:
        say(console, step)


def show(console: Console, lines: Iterable[tuple[str, bool]]) -> None:
    """Print ``lines``, each with whether it is bold."""
    for line, bold in lines:
        say(console, line, "bold" if bold else None)
