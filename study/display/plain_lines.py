"""Lines on a console, printed as they are."""

from collections.abc import Iterable

from rich.console import Console


def say(console: Console, line: str, style: str | None = None) -> None:
    """Print ``line``: paths and specs hold characters that rich would take for markup."""
    console.print(line, style=style, highlight=False, markup=False, soft_wrap=True)


def begin(console: Console, step: str) -> None:
    """Say that a long step begins where no bar shows it: off a terminal."""
    if not console.is_terminal:
        say(console, step)


def show(console: Console, lines: Iterable[tuple[str, bool]]) -> None:
    """Print ``lines``, each with whether it is bold."""
    for line, bold in lines:
        say(console, line, "bold" if bold else None)
