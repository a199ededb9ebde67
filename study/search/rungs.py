"""Rungs: the reports at which trials are compared, and which trial goes on from them.

Asynchronous promotion, algorithm 2 of Li et al. 2020 (ASHA, arXiv:1810.05934): a trial pauses at each rung and goes on
when it is among the best third of those that have reached it. Nobody waits for a rung to fill up.
"""

import bisect
import itertools
from collections.abc import Sequence

FACTOR = 3
"""One of so many trials goes on from a rung; so many times as far is the next rung."""

FEWEST_REPORTS = FACTOR
"""Trials of fewer reports have no rung."""

_DEPTH = 3  # a first rung at 1/27 of a trial


def positions(reports: int) -> list[int]:
    """The reports, ascending, at which trials of ``reports`` reports are compared: at 1/27, 1/9 and 1/3 of a trial.

    Rounded down, without those before the first report: 27 gives 1, 3 and 9; 9 and 10 give 1 and 3; 2 gives none.
    """
    return sorted({reports // FACTOR**depth for depth in range(1, _DEPTH + 1)} - {0})


def pauses(report: int | None, promoted: int, rungs: Sequence[int]) -> bool:
    """Whether a running trial pauses: its last ``report`` is a rung, and it was last ``promoted`` (0: never) before it.

    A pause has no record of its own that a kill could leave undone.
    """
    return report is not None and report in rungs and report > promoted


class Promotion:
    """Which paused trial goes on, decided from the values of all that reached its rung.

    Trials are known by their numbers, rungs by their reports. Of equal values the one with the lower number is the
    better. Each call takes logarithmic time in the number of trials, but for a move of a sorted list's tail.
    """

    def __init__(self, reports: int, maximize: bool):
        """Rungs of trials of ``reports`` reports; the larger of two values is the better one if ``maximize``."""
        self.rungs = positions(reports)
        self._sign = -1.0 if maximize else 1.0
        self._reached: dict[int, list[tuple[float, int]]] = {rung: [] for rung in self.rungs}  # best first
        self._paused: dict[int, list[tuple[float, int]]] = {rung: [] for rung in self.rungs}  # best first
        self._keys: dict[tuple[int, int], tuple[float, int]] = {}  # (number, rung) -> its entry

    def reached(self, number: int, rung: int, value: float) -> None:
        """Trial ``number`` has reached ``rung`` with ``value``, and pauses there."""
        assert (number, rung) not in self._keys, f"trial {number} reached rung {rung} twice"
        key = (self._sign * value, number)
        self._keys[number, rung] = key
        bisect.insort(self._reached[rung], key)
        bisect.insort(self._paused[rung], key)

    def passed(self, number: int, rung: int, value: float) -> None:
        """Trial ``number`` has reached ``rung`` with ``value`` and goes on; the first value of several counts."""
        if (number, rung) not in self._keys:
            self.reached(number, rung, value)
            self.mark_promoted(number, rung)

    def mark_promoted(self, number: int, rung: int) -> None:
        """Trial ``number`` does not pause at ``rung`` any more: it goes on, or has ended. Its value still counts."""
        paused = self._paused[rung]
        key = self._keys[number, rung]
        place = bisect.bisect_left(paused, key)
        if place < len(paused) and paused[place] == key:
            del paused[place]

    def paused(self) -> dict[int, int]:
        """Number -> rung of the trials that pause."""
        return {number: rung for rung, paused in self._paused.items() for _, number in paused}

    def next(self) -> int | None:
        """The trial that goes on now, or None: of the highest rung that has one, the best of those that pause there.

        It must be among the best third, rounded down, of all that have reached the rung, and better than the worst of
        them: where all but a few have collapsed to one value, those that came first are no better.
        """
        for rung in reversed(self.rungs):
            reached, paused = self._reached[rung], self._paused[rung]
            if not paused or bisect.bisect_left(reached, paused[0]) >= len(reached) // FACTOR:
                continue
            if paused[0][0] < reached[-1][0]:
                return paused[0][1]
        return None

    def last(self) -> int | None:
        """The best paused trial of the highest rung that has one, whether or not it is among the best third.

        It goes on at the end of a study: no new trial is left, and too few have become complete.
        """
        best = itertools.chain.from_iterable(self._paused[rung][:1] for rung in reversed(self.rungs))
        return next((number for _, number in best), None)
