"""Proposal: how a trial's hyperparameters come about from a preset, a search space and what was fixed by hand."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FixedTrial

Space = Callable[[Any, dict[str, Any]], dict[str, Any]]
"""A search space: ``space(trial, base) -> hyperparameters``."""


@dataclass(frozen=True)
class Proposal:
    """How a trial's hyperparameters come about: ``base``, what ``space`` suggests around it, and ``fixed``."""

    space: Space
    """The model's search space."""
    base: dict[str, Any]
    """The preset's hyperparameters and what spaces may look at besides: image_size, steps, max_objects."""
    fixed: dict[str, Any]
    """Hyperparameters set by hand; they are not searched."""
    known: Sequence[str]
    """The keys of the model's Config: what a trial gets."""

    def hyperparameters(self, trial: Any) -> dict[str, Any]:
        """All hyperparameters of ``trial``, an Optuna trial of any kind."""
        values = {**self.base, **self.space(FixedKeys(trial, self.fixed), self.base), **self.fixed}
        return {key: values[key] for key in self.known}

    def base_parameters(self) -> dict[str, Any]:
        """What the space would suggest to arrive at ``base`` itself: the parameters of the first trial."""
        recorder = FixedTrial(self.base)
        self.hyperparameters(recorder)
        return dict(recorder.params)

    def searched(self) -> dict[str, optuna.distributions.BaseDistribution]:
        """The searched keys and their ranges, as they are around ``base``."""
        recorder = FixedTrial(self.base)
        self.hyperparameters(recorder)
        return dict(recorder.distributions)


class FixedKeys:
    """A trial whose suggestions for the keys in ``fixed`` are settled: they never reach Optuna."""

    def __init__(self, trial: Any, fixed: dict[str, Any]):
        self._trial = trial
        self._fixed = fixed

    def __getattr__(self, attribute: str) -> Any:
        original = getattr(self._trial, attribute)
        if not attribute.startswith("suggest_"):
            return original

        def suggest(name: str, *args: Any, **keywords: Any) -> Any:
            return self._fixed[name] if name in self._fixed else original(name, *args, **keywords)

        return suggest
