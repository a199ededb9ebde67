"""A study as a sampler is to see it: with other trials than the stored ones."""

import copy
from collections.abc import Callable, Container
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState


class ShownStudy:
    """A study whose trials are those ``shown`` of the stored ones; everything else is the study's own."""

    def __init__(self, study: optuna.Study, shown: Callable[[list[FrozenTrial]], list[FrozenTrial]]):
        self._study = study
        self._shown = shown

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._study, attribute)

    @property
    def trials(self) -> list[FrozenTrial]:
        """As :attr:`optuna.Study.trials`."""
        return self.get_trials()

    def get_trials(self, deepcopy: bool = True, states: Container[TrialState] | None = None) -> list[FrozenTrial]:
        """As :meth:`optuna.Study.get_trials`."""
        return self._get_trials(deepcopy, states)

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        """What Optuna's samplers call; ``use_cache`` gives the trials as they were when the current one was asked."""
        shown = self._shown(self._study._get_trials(deepcopy=False, use_cache=use_cache))
        trials = [trial for trial in shown if states is None or trial.state in states]
        return copy.deepcopy(trials) if deepcopy else trials
