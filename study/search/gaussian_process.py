"""StoppedGPSampler: a Gaussian process that learns from trials that were stopped early, and from those that failed.

Optuna's sees complete trials alone. Where most are stopped at a rung, it would know a third of what has been paid for,
and nothing of the bad regions. So a stopped trial counts with what it would have reached: its value, and what complete
trials have gained since that report, in the median. A trial without a curve counts as the worst.
"""

import copy
import logging
import warnings
from statistics import median
from typing import Any, Self

import greenlet  # noqa: F401  Optuna would do without, at half the speed
import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import GPSampler
from optuna.search_space import intersection_search_space
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from study.search.shown import ShownStudy

RUNNING = 16
"""So many of the trials that run it keeps its distance from, the newest. What that takes, time and memory, grows with
their number: half a second and a gigabyte with 128."""

OUTLIER = 3.0
"""A value counts as at most so many times as far below the median as the best is above it: one that is out of all
proportion, such as a loss that went astray, would make all others look alike."""


class StoppedGPSampler(GPSampler):
    """Optuna's Gaussian process with expected improvement (logEI), asked with :func:`estimated` trials.

    With two goals nothing is stopped early, and it is Optuna's.
    """

    @classmethod
    def quiet(cls, seed: int, first: int = 10) -> Self:
        """One that takes over from the ``first``-th trial on, without Optuna's warnings that it is new."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return cls(seed=seed, n_startup_trials=first, warn_independent_sampling=False)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The parameters that all trials with a value have, and that have more than one."""
        shown = _estimating(study)._get_trials(deepcopy=False, use_cache=True)
        # Optuna's own way remembers which trials it has seen. A failed one gets a value later than that.
        ranges = intersection_search_space([one for one in shown if one.state == TrialState.COMPLETE])
        return {name: distribution for name, distribution in ranges.items() if not distribution.single()}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """As Optuna asks it. Nothing where it cannot be computed: then each parameter is drawn on its own."""
        from trainables.threads import one_thread  # imports torch, as a proposal does; reading a study need not

        try:
            with one_thread():
                return super().sample_relative(_estimating(study), trial, search_space)
        except (RuntimeError, ValueError, ArithmeticError, LookupError) as error:  # such as a matrix without inverse
            what = type(error).__name__.lstrip("_")
            logging.getLogger(__name__).warning(
                f"trial {trial.number} is not the Gaussian process's, which failed: {what}: {error}"
            )
            return {}


def _estimating(study: optuna.Study) -> Any:
    if len(study.directions) > 1:
        return study
    maximize = study.direction == StudyDirection.MAXIMIZE
    return ShownStudy(study, lambda trials: estimated(trials, maximize))


def estimated(trials: list[FrozenTrial], maximize: bool) -> list[FrozenTrial]:
    """``trials`` of which those that were stopped are complete, with the value that each would have reached.

    As long as no trial has a value they stay as they are.
    """
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    gains: dict[int, float] = {}
    values: dict[int, float] = {}  # place in trials -> value
    for place, trial in enumerate(trials):
        if trial.state == TrialState.COMPLETE:
            values[place] = trial.values[0]
        elif trial.state == TrialState.PRUNED and trial.last_step is not None:
            last = trial.last_step
            if last not in gains:
                gains[last] = median(
                    [t.values[0] - t.intermediate_values[last] for t in complete if last in t.intermediate_values]
                    or [0.0]
                )
            values[place] = trial.intermediate_values[last] + gains[last]
    if not values:
        return trials
    best, worst = (max, min) if maximize else (min, max)
    middle, top = median(values.values()), best(values.values())
    if middle != top:
        bound = middle - OUTLIER * (top - middle)
        values = {place: best(value, bound) for place, value in values.items()}
    lowest = worst(values.values())
    failed = lowest - (top - lowest or (1.0 if maximize else -1.0))
    shown = [*trials]
    for place, trial in enumerate(trials):
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED):
            shown[place] = copy.copy(trial)
            shown[place].state = TrialState.COMPLETE
            shown[place].values = [values.get(place, failed)]
    newest = [trial.number for trial in trials if trial.state == TrialState.RUNNING][-RUNNING:]
    return [trial for trial in shown if trial.state != TrialState.RUNNING or trial.number in newest]
