"""Trials that rest after they lost their workers: when each gets the next one.

A new worker at once would meet what ended the old one. Four tries of a healthy trial can be over in seconds, while
another program needs its memory for minutes.
"""

import time
from collections import Counter
from collections.abc import Callable

PAUSES = (0, 15, 60)
"""Seconds before the next worker: after the first death on a node that lives, the second, and all others."""

MEMORY_PAUSES = (10, 30, 60, 120, 300)
"""The same after kills for want of memory without a report between them. After one more the trial waits for the next
session, as if the study had been interrupted."""


class Retries:
    """Which trials rest, known by their numbers."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        """``clock`` counts seconds."""
        self.notes: list[str] = []
        """Lines for people, not yet shown, each after the number of its trial."""
        self._clock = clock
        self._until: dict[int, float] = {}
        self._kills: Counter[int] = Counter()  # since the last report

    def __len__(self) -> int:
        return len(self._until)

    def after_death(self, number: int, deaths: int, words: str) -> bool:
        """Whether the trial rests after so many ``deaths`` of its workers; ``words`` are about the last one."""
        seconds = PAUSES[min(deaths, len(PAUSES)) - 1] if deaths else 0
        return bool(seconds) and self._rest(number, seconds, words)

    def after_kill(self, number: int, words: str) -> bool:
        """Whether the trial rests after a kill for want of memory; else it waits for the next session."""
        self._kills[number] += 1
        kills = self._kills[number]
        if kills <= len(MEMORY_PAUSES):
            return self._rest(number, MEMORY_PAUSES[kills - 1], words)
        self.notes.append(f"{number} waits: {words}, {kills} times; the same command goes on with it")
        return False

    def reported(self, number: int) -> None:
        """The trial has reported: kills are counted anew."""
        self._kills.pop(number, None)

    def next(self) -> int | None:
        """The number of a trial that has rested for long enough, which rests no more; None if there is none."""
        number = min(self._until, key=lambda number: self._until[number], default=None)
        if number is not None:
            if self._until[number] > self._clock():
                return None
            del self._until[number]
        return number

    def take_notes(self) -> list[str]:
        """The lines for people since the last call."""
        taken, self.notes = self.notes, []
        return taken

    def _rest(self, number: int, seconds: float, words: str) -> bool:
        self._until[number] = self._clock() + seconds
        self.notes.append(f"{number}: {words}; it goes on in {seconds:g} s")
        return True
