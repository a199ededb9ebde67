"""How far a long step is: a bar on a terminal, elsewhere a line now and then."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

EVERY = 30.0
"""Seconds between two lines."""


class Watched:
    """A step of ``total`` images; use it as a context."""

    def __init__(self, title: str, total: int, console: Console) -> None:
        self._title, self._total, self._console = title, total, console
        self._done = self._said = 0
        self._looked = time.monotonic()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task(title, total=total)

    def __enter__(self) -> Self:
        self._bar.start()
        if not self._console.is_terminal:
            say(self._console, f"{self._title}: {self._total:,} images")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.stop()

    def advance(self, images: int) -> None:
        """``images`` more are done."""
        self._bar.advance(self._task, images)
        self._done += images
        seconds = time.monotonic() - self._looked
        if self._console.is_terminal or seconds < EVERY or self._done == self._total:
            return
        rate = (self._done - self._said) / max(seconds, 1e-9)
        left = (self._total - self._done) / rate
        self._said, self._looked = self._done, time.monotonic()
        say(
            self._console,
            f"{self._title}: {self._done:,} of {self._total:,} images, {rate:,.0f} a second, {_spoken(left)} left",
        )


def say(console: Console, line: str) -> None:
    """Print ``line`` as it is."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def _spoken(seconds: float) -> str:
    minutes = round(seconds / 60)
    return "less than a minute" if minutes < 1 else f"{minutes} min" if minutes < 120 else f"{seconds / 3600:.0f} h"
