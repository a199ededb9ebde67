"""Proposal: a trial's hyperparameters, from the preset, the search space and the values set by hand."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from optuna.distributions import BaseDistribution

from study.search import distributions
from study.search.distributions import Recorder

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
    notes: tuple[str, ...] = ()
    """What a person should know about ``--space``."""
    space_file: str | None = None
    """The hash of the Python file that ``space`` comes from, if it is not the model's."""

    def hyperparameters(self, trial: Any) -> dict[str, Any]:
        """The complete hyperparameters of ``trial``, an Optuna Trial, FixedTrial or FrozenTrial."""
        fixed: dict[str, Callable[[], Any]] = {key: partial(self.fixed.get, key) for key in self.fixed}
        values = {**self.base, **self.space(Answered(trial, fixed), self.base), **self.fixed}
        return {key: values[key] for key in self.known}

    def base_hyperparameters(self) -> dict[str, Any]:
        """The hyperparameters that ``base`` holds."""
        return {key: self.base[key] for key in self.known}

    def first_hyperparameters(self) -> dict[str, Any]:
        """Those of a study's first trial: ``base``, or what is nearest to it within the ranges."""
        return self.hyperparameters(Recorder(self.base))

    def base_parameters(self) -> dict[str, Any]:
        """The suggestions that give ``base`` itself, or what is nearest to it: the parameters of the first trial."""
        recorder = Recorder(self.base)
        self.hyperparameters(recorder)
        return recorder.params

    def searched(self) -> dict[str, BaseDistribution]:
        """All searched keys and their ranges around ``base``, also those that depend on others."""
        return distributions.found(self.hyperparameters, self.base)

    def question(self) -> dict[str, Any]:
        """What the study asks, as study.json has it; see :mod:`study.search.question`."""
        ranges = {key: distributions.recorded(found) for key, found in self.searched().items()}
        question = {"base": self.base, "ranges": ranges, "space_file": self.space_file}
        return json.loads(json.dumps(question))


class Answered:
    """A trial that suggests the keys of ``answers`` by calling these, whatever the search space asks for."""

    def __init__(self, trial: Any, answers: Mapping[str, Callable[[], Any]]):
        self._trial = trial
        self._answers = answers

    def __getattr__(self, attribute: str) -> Any:
        original = getattr(self._trial, attribute)
        if not attribute.startswith("suggest_"):
            return original

        def suggest(name: str, *args: Any, **keywords: Any) -> Any:
            return self._answers[name]() if name in self._answers else original(name, *args, **keywords)

        return suggest
