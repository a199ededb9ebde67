"""Ray tasks that are started again when they lose their worker, a few times, with rests between.

Ray itself starts a task that its memory monitor has ended again without end.
"""

import time
from collections.abc import Callable, Hashable, Iterator
from typing import Any, NamedTuple

import ray
from ray.exceptions import NodeDiedError, ObjectLostError, OutOfMemoryError, RayError, RayTaskError, WorkerCrashedError
from rich.console import Console

from data import memory_monitor, store
from study.display.error_lines import first_line
from study.display.plain_lines import say

PAUSES = (5.0, 15.0, 30.0, 60.0)
"""Seconds before a task that has lost its worker is started again. After one more loss the call fails."""


LOSSES = (OutOfMemoryError, WorkerCrashedError, NodeDiedError, ObjectLostError)
"""What another attempt may spare: the task's worker is gone, or its input with another node."""


class _Attempt(NamedTuple):
    key: Hashable
    start: Callable[[], ray.ObjectRef]
    losses: int


class Attempts:
    """Tasks that run, or rest after a loss; iterate to get (key, result) as they end. More can be started meanwhile."""

    def __init__(self, console: Console | None = None):
        """``console`` gets a line about each loss."""
        self._console = console
        self._running: dict[ray.ObjectRef, _Attempt] = {}
        self._resting: list[tuple[float, _Attempt]] = []

    def start(self, key: Hashable, start: Callable[[], ray.ObjectRef]) -> None:
        """Run the task that ``start`` starts. It is one without Ray's own retries (``max_retries=0``)."""
        self._begin(_Attempt(key, start, 0))

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        """Raises what a task raises; its ValueError, and that its workers are lost again and again, as ValueError."""
        while self._running or self._resting:
            now = time.monotonic()
            rested = [attempt for until, attempt in self._resting if until <= now]
            self._resting = [(until, attempt) for until, attempt in self._resting if until > now]
            for attempt in rested:
                self._begin(attempt)
            patience = min((until - now for until, _ in self._resting), default=None)
            if not self._running:
                time.sleep(patience or 0)
                continue
            for ref in ray.wait(list(self._running), timeout=patience)[0]:
                attempt = self._running.pop(ref)
                try:
                    result = store.result_of(ref)
                except RayError as error:
                    self._rest(attempt, error)
                    continue
                yield attempt.key, result

    def _begin(self, attempt: _Attempt) -> None:
        self._running[attempt.start()] = attempt

    def _rest(self, attempt: _Attempt, error: RayError) -> None:
        """Let ``attempt`` rest after ``error``, which is raised unless it is one of :data:`LOSSES`."""
        lost = error.cause if isinstance(error, RayTaskError) else error
        if not isinstance(lost, LOSSES):
            raise error
        killed = isinstance(lost, OutOfMemoryError)
        words = memory_monitor.told(str(lost))[1] if killed else f"a worker was lost ({first_line(lost)})"
        if attempt.losses == len(PAUSES):
            remedy = "end other programs, and " if killed else ""
            raise ValueError(
                f"scoring failed {attempt.losses + 1} times: {words}; what is scored is kept: {remedy}type the same "
                "command again"
            ) from error
        pause = PAUSES[attempt.losses]
        if self._console is not None:
            say(self._console, f"note: scoring: {words}; it begins again in {pause:g} s")
        self._resting.append((time.monotonic() + pause, attempt._replace(losses=attempt.losses + 1)))
