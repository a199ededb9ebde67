"""Evidence: the trials of a study as samplers see them.

Samplers learn from trials that are complete or pruned. Two more kinds tell as much, and are shown as pruned:

- A trial that runs or pauses beyond its first rung, with its curve so far. Otherwise the good trials, which run for
  long, would count as unknown for most of the study.
- A trial that failed by its own hyperparameters (it diverged, ran out of memory or could not be built), without a
  curve: to Optuna's TPE that is worse than all others. Samplers do not see failed trials, and would propose their
  neighbours again and again. In the storage it stays failed, with its reason.

Of very many trials, models are shown some: what it does with each takes time whenever it is asked.
"""

import copy
import heapq
import operator
from collections.abc import Sequence
from itertools import compress, count
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from study.search.gaussian_process import StoppedGPSampler
from study.search.prior import ENDED, PriorSampler, merit
from study.search.shown import ShownStudy

WORKER_LOST = ("its worker died", "it hung")
"""How the reasons begin of trials that failed by no fault of their hyperparameters."""

BEST = 100
"""So many of the best trials a model is shown always. TPE's group of good trials holds 25 at most."""

OTHERS = 400
"""So many of the others it is shown at most, evenly chosen from all of the study: they tell where the rest lies."""


class Informed(BaseSampler):
    """Asks ``sampler`` with the evidence of the study instead of its stored trials."""

    def __init__(self, sampler: BaseSampler, rungs: Sequence[int]):
        """Of trials that pause at ``rungs``; none for a study whose trials do not pause."""
        self.sampler = sampler
        self._first = min(rungs, default=None)
        self._stored: list[FrozenTrial] = []
        self._shown: list[FrozenTrial] = []  # the same trials, as they are shown
        self._running: dict[int, FrozenTrial] = {}  # those of them that run, by their places
        self._telling: list[FrozenTrial] | None = None  # of these, what a model is shown; None: to be chosen again
        self._answer: tuple[list[FrozenTrial], list[FrozenTrial]] = ([], [])  # the last stored trials, as shown

    def _ask(self, study: optuna.Study) -> Any:
        many = len(study.directions) > 1 or not isinstance(self.sampler, TPESampler | PriorSampler | StoppedGPSampler)
        maximize = None if many else study.direction == StudyDirection.MAXIMIZE
        return ShownStudy(study, lambda stored: self._evidence(stored, maximize))

    def _evidence(self, stored: list[FrozenTrial], maximize: bool | None) -> list[FrozenTrial]:
        """The ``stored`` trials as they are shown, all of them if ``maximize`` is None.

        Storages put another object in the place of a trial that has changed; the others are not translated again.
        While a sampler is at one trial, Optuna's cache gives it the same list each time.
        """
        if stored is not self._answer[0]:
            self._update(stored)
            self._answer = stored, self._chosen(maximize)
        return self._answer[1]

    def _update(self, stored: list[FrozenTrial]) -> None:
        if len(stored) < len(self._stored):  # another study
            self._stored, self._shown, self._running, self._telling = [], [], {}, None
        changed = compress(count(), map(operator.is_not, stored, self._stored))
        for i in [*changed, *range(len(self._stored), len(stored))]:
            shown = self._translated(stored[i])
            if any(trial.state in ENDED for trial in [shown, *self._shown[i : i + 1]]):
                self._telling = None
            self._shown[i : i + 1] = [shown]
            self._running.pop(i, None)
            if shown.state == TrialState.RUNNING:
                self._running[i] = shown
        self._stored = [*stored]

    def _chosen(self, maximize: bool | None) -> list[FrozenTrial]:
        if maximize is None or len(self._shown) <= BEST + OTHERS:
            return [*self._shown]
        if self._telling is None:
            self._telling = telling(self._shown, maximize)
        # With those that run: models keep their distance from them.
        return sorted([*self._telling, *self._running.values()], key=lambda trial: trial.number)

    def _translated(self, trial: FrozenTrial) -> FrozenTrial:
        """``trial`` as it is shown."""
        if trial.state == TrialState.RUNNING:
            return pruned(trial) if self._first in trial.intermediate_values else trial
        if trial.state == TrialState.FAIL:
            return trial if worker_lost(trial) else pruned(trial, {})
        return trial

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """As Optuna asks it."""
        return self.sampler.infer_relative_search_space(self._ask(study), trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """As Optuna asks it."""
        return self.sampler.sample_relative(self._ask(study), trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """As Optuna asks it."""
        return self.sampler.sample_independent(self._ask(study), trial, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """As Optuna asks it."""
        self.sampler.before_trial(self._ask(study), trial)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """As Optuna asks it."""
        self.sampler.after_trial(self._ask(study), trial, state, values)

    def reseed_rng(self) -> None:
        """As Optuna asks it."""
        self.sampler.reseed_rng()


def telling(trials: list[FrozenTrial], maximize: bool) -> list[FrozenTrial]:
    """Those of ``trials`` that a density estimator is shown, in their order: some of those that have ended.

    They are the :data:`BEST`, and at most :data:`OTHERS` from all of the study.
    """
    ended = [trial for trial in trials if trial.state in ENDED]
    best = heapq.nlargest(BEST, range(len(ended)), key=[merit(trial, maximize) for trial in ended].__getitem__)
    others = sorted(set(range(len(ended))).difference(best))
    chosen = sorted([*best, *others[:: -(-len(others) // OTHERS) or 1]])
    return [ended[i] for i in chosen]


def worker_lost(trial: FrozenTrial) -> bool:
    """Whether ``trial`` failed by no fault of its hyperparameters."""
    return trial.state == TrialState.FAIL and trial.user_attrs.get("reason", WORKER_LOST[0]).startswith(WORKER_LOST)


def pruned(trial: FrozenTrial, curve: dict[int, float] | None = None) -> FrozenTrial:
    """A copy of ``trial`` that is pruned, with ``curve`` in place of its own if given."""
    shown = copy.copy(trial)
    shown.state = TrialState.PRUNED
    if curve is not None:
        shown.intermediate_values = curve
    return shown
