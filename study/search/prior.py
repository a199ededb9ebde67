"""PriorSampler: a search that begins around a configuration known to be good, the base, and trusts what it finds.

At first most trials are drawn from a distribution around the base and the rest from the whole space; how many each way
gets depends on how well its trials have done, so a bad base costs little. Then a Gaussian process takes over, which has
learnt from all of them, and Optuna's TPE where there are too many for that. docs/search.md compares them.

The ideas are those of PriorBand (Mallik et al. 2023, arXiv:2306.12370) and piBO (Hvarfner et al. 2022,
arXiv:2204.11051).
"""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from study.search.gaussian_process import StoppedGPSampler

HAND_OVER = 10
"""How many trials must have ended before a Gaussian process proposes the others."""

TELLING_VALUES = 4
"""How many different values they must have had. Where all but a few collapse to the same one, a model would search the
corners of the space, and draws near the base are the better bet."""

LARGEST_PROCESS = 200
"""How many trials may have ended before it is TPE. A proposal from so many takes a quarter of a second."""

WEIGHTS = {"base": 2.0, "uniform": 1.0}
"""How often each way of drawing is taken, in relation to the others, while nothing is known about them."""

WAY = "clevrtune:way"
"""The attribute of a trial that says in which way it was drawn."""

ENDED = (TrialState.COMPLETE, TrialState.PRUNED)
"""States of the trials from which samplers learn."""


@dataclass(frozen=True)
class Draw:
    """How the parameters of one trial are drawn: around the values of ``centre``, or uniformly where it has none."""

    way: str
    """base, uniform, gp or tpe."""
    centre: dict[str, Any]
    width: float = 1.0
    """Standard deviation of a number, in units of its range, on a logarithmic scale where the range is logarithmic."""


WIDTHS = (0.05, 0.35)
"""The standard deviations of draws around the base, in units of a range: each trial has its own between these two.
So some trials are close to the base, where the preset needs little, and others are not."""

KEEPS_CHOICE = 0.5
"""Probability that a choice near the base is the base's; if not, it is one of all. A number is always a new one."""


class PriorSampler(BaseSampler):
    """Draws around ``base``, a value for each parameter, then hands over to a Gaussian process, at last to TPE.

    A parameter whose base is missing or outside its range is drawn uniformly.
    """

    def __init__(self, base: dict[str, Any], seed: int):
        self._base = base
        self._rng = np.random.default_rng(seed)
        self._models: dict[str, BaseSampler] = {"gp": StoppedGPSampler.quiet(seed, 1), "tpe": TPESampler(seed=seed)}
        self._random = RandomSampler(seed=seed)
        self._draws: dict[int, Draw] = {}
        """Number of a trial that has not ended -> how it is drawn."""

    def reseed_rng(self) -> None:
        """Draw differently from now on."""
        self._rng = np.random.default_rng()
        self._random.reseed_rng()
        for model in self._models.values():
            model.reseed_rng()

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Choose how ``trial`` is drawn; not if it was asked for, or goes on with what it has."""
        if trial.params or "fixed_params" in trial.system_attrs:
            self._draws[trial.number] = Draw("asked", {})
            return
        draw = self._draws[trial.number] = self._draw(study)
        study._storage.set_trial_system_attr(trial._trial_id, WAY, draw.way)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The parameters that a model proposes together, if ``trial`` is a model's."""
        model = self._model(trial)
        return model.infer_relative_search_space(study, trial) if model else {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The model's proposal for the parameters in ``search_space``, if ``trial`` is a model's."""
        model = self._model(trial)
        return model.sample_relative(study, trial, search_space) if model else {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The value of one parameter. Those that only some trials have are TPE's, where a model proposes."""
        if self._model(trial):
            return self._models["tpe"].sample_independent(study, trial, param_name, param_distribution)
        draw = self._draws[trial.number]
        choice = isinstance(param_distribution, CategoricalDistribution)
        if param_name in draw.centre and _contains(param_distribution, draw.centre[param_name]):
            if not choice:
                return near(draw.centre[param_name], draw.width, param_distribution, self._rng)
            if self._rng.random() < KEEPS_CHOICE:
                return draw.centre[param_name]
        return self._random.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Any) -> None:
        """Forget how ``trial`` was drawn."""
        self._draws.pop(trial.number, None)

    def _model(self, trial: FrozenTrial) -> BaseSampler | None:
        """Which model proposes ``trial``; None if it is drawn."""
        return self._models.get(self._draws[trial.number].way)

    def _draw(self, study: optuna.Study) -> Draw:
        ended = ranked(study)
        if len(ended) >= HAND_OVER and len({_last_value(trial) for trial in ended}) >= TELLING_VALUES:
            return Draw("gp" if len(ended) < LARGEST_PROCESS else "tpe", {})
        best = ended[: math.ceil(len(ended) / 3)]
        weights = {way: weight * _success(way, ended, best) for way, weight in WEIGHTS.items()}
        shares = np.array(list(weights.values()))
        way = str(self._rng.choice(list(weights), p=shares / shares.sum()))
        if way == "base":
            narrow, wide = WIDTHS
            return Draw(way, self._base, math.exp(self._rng.uniform(math.log(narrow), math.log(wide))))
        return Draw(way, {})


def ranked(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that ended, best first: those that got further, then those with the better value there."""
    maximize = study.direction == optuna.study.StudyDirection.MAXIMIZE
    ended = study._get_trials(deepcopy=False, states=ENDED, use_cache=True)  # as they were when one was asked for
    return sorted(ended, key=lambda trial: merit(trial, maximize), reverse=True)


def merit(trial: FrozenTrial, maximize: bool) -> tuple[float, float]:
    """How far a trial that ended got, infinitely if to its end, and its value there: of two trials the better has more.

    The value is negated unless the study is to ``maximize``.
    """
    sign = 1 if maximize else -1
    if trial.state == TrialState.COMPLETE and trial.value is not None:
        return math.inf, sign * trial.value
    last = trial.last_step
    return (-math.inf, 0.0) if last is None else (last, sign * trial.intermediate_values[last])


def _last_value(trial: FrozenTrial) -> float | None:
    return None if trial.last_step is None else trial.intermediate_values[trial.last_step]


def near(centre: float, width: float, distribution: Any, rng: np.random.Generator) -> float | int:
    """A draw from the normal distribution around ``centre``, truncated to the range of ``distribution``.

    Its standard deviation is ``width`` times the range, both on a logarithmic scale if the range is on one. Where the
    range has steps, the draw is rounded to one; the two at its ends count as a whole.
    """
    low, high, step = distribution.low, distribution.high, distribution.step
    scale, back = (math.log, math.exp) if distribution.log else (float, float)
    half = step / 2 if step else 0.0
    bottom, top = scale(low - half), scale(high + half)
    normal = NormalDist(scale(centre), width * (top - bottom))
    value = back(normal.inv_cdf(np.clip(rng.uniform(normal.cdf(bottom), normal.cdf(top)), 1e-15, 1 - 1e-15)))
    if step:
        value = low + step * round((value - low) / step)
    value = min(max(value, low), high)
    return int(value) if isinstance(low, int) else float(value)


def _contains(distribution: Any, value: Any) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    return isinstance(value, int | float) and distribution.low <= value <= distribution.high


def _success(way: str, ended: list[FrozenTrial], best: list[FrozenTrial]) -> float:
    """The share of the trials drawn in this ``way`` that are among the best third, squared; it begins at a third."""
    drawn, good = (sum(trial.system_attrs.get(WAY) == way for trial in trials) for trials in (ended, best))
    return ((good + 1) / (drawn + 3)) ** 2
