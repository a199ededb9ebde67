"""Proposal: a trial's hyperparameters, from the preset, the search space and the values set by hand."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FixedTrial

Space = Callable[[Any, dict[str, Any]], dict[str, Any]]
"""A search space: ``space(trial, base) -> hyperparameters``."""


@dataclass(frozen=True)
class Proposal:
    """What a trial's hyperparameters are made of: ``base``, then what ``space`` suggests, then ``fixed``."""

    space: Space
    """The model's search space."""
    base: dict[str, Any]
    """The preset's hyperparameters, and what a space may depend on: image_size, steps, max_objects."""
    fixed: dict[str, Any]
    """Hyperparameters set by hand (``--set``); they are not searched."""
    known: Sequence[str]
    """The keys of the model's Config; a trial gets no others."""

    def hyperparameters(self, trial: Any) -> dict[str, Any]:
        """The complete hyperparameters of ``trial``, an Optuna Trial, FixedTrial or FrozenTrial."""
        values = {**self.base, **self.space(FixedKeys(trial, self.fixed), self.base), **self.fixed}
        return {key: values[key] for key in self.known}

    def base_hyperparameters(self) -> dict[str, Any]:
        """The hyperparameters that ``base`` holds: those of a study's first trial."""
        return {key: self.base[key] for key in self.known}

    def base_parameters(self) -> dict[str, Any]:
        """The suggestions that give ``base`` itself: the parameters of a study's first trial."""
        recorder = FixedTrial(self.base)
        self.hyperparameters(recorder)
        return dict(recorder.params)

    def searched(self) -> dict[str, optuna.distributions.BaseDistribution]:
        """The searched keys and their ranges around ``base``."""
        recorder = FixedTrial(self.base)
        self.hyperparameters(recorder)
        return dict(recorder.distributions)


class FixedKeys:
    """A trial that suggests the values of ``fixed`` for their keys, without asking Optuna."""

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
