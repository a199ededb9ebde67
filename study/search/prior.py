"""PriorSampler: a search that begins around a configuration known to be good, the base, and trusts what it finds.

At first most trials are drawn from a distribution around the base and the rest from the whole space. Later some trials
are mutations of the best so far. Then Optuna's TPE takes over; it has learnt from all of them. How many trials each way
gets depends on how well its trials have done, so a bad base costs little.

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

FIRST_MUTATION = 10
"""How many trials must have ended before the best are mutated."""

HAND_OVER = 20
"""How many trials must have ended before TPE proposes all others."""

WEIGHTS = {"base": 2.0, "uniform": 1.0, "mutation": 1.0}
"""How often each way of drawing is taken, in relation to the others, while nothing is known about them."""

WAY = "clevrtune:way"
"""The attribute of a trial that says in which way it was drawn."""

ENDED = (TrialState.COMPLETE, TrialState.PRUNED)
"""States of the trials from which samplers learn."""


@dataclass(frozen=True)
class Draw:
    """How the parameters of one trial are drawn: around the values of ``centre``, or uniformly where it has none."""

    way: str
    """base, uniform, mutation or tpe."""
    centre: dict[str, Any]
    width: float = 1.0
    """Standard deviation of a number, in units of its range, on a logarithmic scale where the range is logarithmic."""
    keeps: float = 0.0
    """Probability that a number is the centre's."""
    keeps_choice: float = 0.0
    """Probability that a choice is the centre's; if not, it is one of all."""


WIDTHS = (0.05, 0.35)
"""The standard deviations of draws around the base, in units of a range: each trial has its own between these two.
So some trials are close to the base, where the preset needs little, and others are not."""

AROUND_BASE = {"keeps_choice": 0.5}
"""A number near the base is always a new one."""

AROUND_BEST = {"width": 0.1, "keeps": 0.5, "keeps_choice": 0.8}
"""A mutation leaves half of the numbers as they are, and most choices."""


class PriorSampler(BaseSampler):
    """Draws around ``base``, a value for each parameter, then mutates the best trials, then hands over to TPE.

    A parameter whose base is missing or outside its range is drawn uniformly.
    """

    def __init__(self, base: dict[str, Any], seed: int):
        self._base = base
        self._rng = np.random.default_rng(seed)
        self._tpe = TPESampler(seed=seed)
        self._random = RandomSampler(seed=seed)
        self._draws: dict[int, Draw] = {}
        """Number of a trial that has not ended -> how it is drawn."""

    def reseed_rng(self) -> None:
        """Draw differently from now on."""
        self._rng = np.random.default_rng()
        self._random.reseed_rng()
        self._tpe.reseed_rng()

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Choose how ``trial`` is drawn; not if it was asked for, or goes on with what it has."""
        if trial.params or "fixed_params" in trial.system_attrs:
            self._draws[trial.number] = Draw("asked", {})
            return
        draw = self._draws[trial.number] = self._draw(study)
        study._storage.set_trial_system_attr(trial._trial_id, WAY, draw.way)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The parameters that TPE proposes together, if ``trial`` is TPE's."""
        return self._tpe.infer_relative_search_space(study, trial) if self._by_tpe(trial) else {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """TPE's proposal for the parameters in ``search_space``, if ``trial`` is TPE's."""
        return self._tpe.sample_relative(study, trial, search_space) if self._by_tpe(trial) else {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The value of one parameter."""
        if self._by_tpe(trial):
            return self._tpe.sample_independent(study, trial, param_name, param_distribution)
        draw = self._draws[trial.number]
        choice = isinstance(param_distribution, CategoricalDistribution)
        if param_name in draw.centre and _contains(param_distribution, draw.centre[param_name]):
            if self._rng.random() < (draw.keeps_choice if choice else draw.keeps):
                return draw.centre[param_name]
            if not choice:
                return near(draw.centre[param_name], draw.width, param_distribution, self._rng)
        return self._random.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Any) -> None:
        """Forget how ``trial`` was drawn."""
        self._draws.pop(trial.number, None)

    def _by_tpe(self, trial: FrozenTrial) -> bool:
        return self._draws[trial.number].way == "tpe"

    def _draw(self, study: optuna.Study) -> Draw:
        if len(_ended(study)) >= HAND_OVER:
            return Draw("tpe", {})
        ended = ranked(study)
        best = ended[: math.ceil(len(ended) / 3)]
        weights = {way: weight * _success(way, ended, best) for way, weight in WEIGHTS.items()}
        if len(ended) < FIRST_MUTATION:
            del weights["mutation"]
        shares = np.array(list(weights.values()))
        way = str(self._rng.choice(list(weights), p=shares / shares.sum()))
        if way == "base":
            narrow, wide = WIDTHS
            width = math.exp(self._rng.uniform(math.log(narrow), math.log(wide)))
            return Draw(way, self._base, width, **AROUND_BASE)
        if way == "mutation":
            return Draw(way, best[self._rng.integers(len(best))].params, **AROUND_BEST)
        return Draw(way, {})


def ranked(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that ended, best first: those that got further, then those with the better value there."""
    maximize = study.direction == optuna.study.StudyDirection.MAXIMIZE
    return sorted(_ended(study), key=lambda trial: merit(trial, maximize), reverse=True)


def _ended(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=ENDED)


def merit(trial: FrozenTrial, maximize: bool) -> tuple[float, float]:
    """How far a trial that ended got, infinitely if to its end, and its value there: of two trials the better has more.

    The value is negated unless the study is to ``maximize``.
    """
    sign = 1 if maximize else -1
    if trial.state == TrialState.COMPLETE and trial.value is not None:
        return math.inf, sign * trial.value
    last = trial.last_step
    return (-math.inf, 0.0) if last is None else (last, sign * trial.intermediate_values[last])


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
