"""Trials that hang: no report for much longer than reports take. Their workers are ended."""

import bisect
import time
from collections.abc import Callable
from typing import Any

import ray
from ray import tune

TIMES = 10
"""By default a trial hangs after so many times the median report of the study."""

AT_LEAST = 30 * 60.0
"""Seconds: a shorter default would end trials whose first report loads code, or whose disk is slow for a while."""

LOOKED_AWAY = 10.0
"""Seconds: of a longer time between two looks only so much counts. The driver itself was stopped, and so the reports
that have arrived since then are not read yet."""


class Reports:
    """How long reports of a study take, and after how many seconds without one a trial hangs."""

    def __init__(self) -> None:
        self._seconds: list[float] = []

    def took(self, seconds: float, times: int = 1) -> None:
        """A report, or several, of this study took ``seconds`` each."""
        at = bisect.bisect(self._seconds, seconds)
        self._seconds[at:at] = [seconds] * times

    @property
    def limit(self) -> float | None:
        """Seconds without a report after which a trial hangs; None while there is nothing to compare with."""
        if not self._seconds:
            return None
        return max(AT_LEAST, TIMES * self._seconds[len(self._seconds) // 2])


class HangWatch(tune.Callback):
    """Ends the workers of trials that hang; to Tune they have died.

    Counted is the time in which the driver looked, so a computer that sleeps, or a driver that is stopped, ends no
    trial. A trial that waits for its first worker has no time limit.
    """

    def __init__(
        self,
        limit: Callable[[], float | None],
        hangs: Callable[[str, float], None],
        clock: Callable[[], float] = time.monotonic,
    ):
        """``hangs`` is told Tune's id of a trial and the seconds since its last report, before its worker ends."""
        self._limit = limit
        self._hangs = hangs
        self._clock = clock
        self._looked = clock()
        self._silent: dict[str, float] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_step_begin(self, iteration: int, trials: list, **info: Any) -> None:
        """Count, and end the workers that have been silent for too long."""
        now = self._clock()
        passed, self._looked = min(now - self._looked, LOOKED_AWAY), now
        limit = self._limit()
        for trial in trials:
            actor = trial.temporary_state.ray_actor
            if trial.is_finished() or actor is None:
                self._silent.pop(trial.trial_id, None)
                continue
            silent = self._silent[trial.trial_id] = self._silent.get(trial.trial_id, 0.0) + passed
            if limit is not None and silent > limit:
                self._silent[trial.trial_id] = 0.0
                self._hangs(trial.trial_id, silent)
                ray.kill(actor)

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """Its worker has begun."""
        self._silent[trial.trial_id] = 0.0

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:
        """It has reported."""
        self._silent[trial.trial_id] = 0.0
