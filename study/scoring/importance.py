"""What a study learnt about its hyperparameters: their importance, and whether early values say which trial wins.

Both are computed per report, among trials with the same budget: all that reached it count, however they ended.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import optuna
import scipy
from optuna.study import StudyDirection

from study.search import rungs

ENOUGH = 20
"""With fewer values, no importance is computed: the best tenth, which it looks at, would be one trial."""

FEWEST_PAIRS = 3
"""With fewer trials, no rank correlation is computed."""


@dataclass(frozen=True)
class Level:
    """What the trials that reached one report say."""

    report: int
    """the report, counted from 1"""
    reports: int
    """how many reports a full trial has"""
    trials: int
    """how many trials have a finite value there"""
    importances: dict[str, float] | None
    """hyperparameter -> share of 1, the most important first; None with fewer than :data:`ENOUGH` trials"""
    pairs: int
    """how many trials have a value both here and at the last report"""
    correlation: float | None
    """Spearman's rank correlation between the two; None at the last report, with few trials, or if all are equal"""


def levels(study: optuna.Study, reports: int | None = None) -> list[Level]:
    """One level per rung of trials with ``reports`` reports (default: the most that one has), and the last report.

    Of a study with two goals they are about the first. Takes seconds for thousands of trials: call it once.
    """
    trials = study.get_trials(deepcopy=False)
    reports = reports or max((trial.last_step or 0 for trial in trials), default=0)
    if not reports:
        return []
    values = {
        report: {
            trial.number: trial.intermediate_values[report]
            for trial in trials
            if math.isfinite(trial.intermediate_values.get(report, math.nan))
        }
        for report in [*rungs.positions(reports), reports]
    }
    last = values[reports]
    found: list[Level] = []
    copy: optuna.Study | None = None
    for report, here in values.items():
        both = [number for number in here if number in last]
        correlation = None if report == reports else _correlation([here[n] for n in both], [last[n] for n in both])
        importances = None
        if len(here) >= ENOUGH:
            copy = copy or _as_complete(study)
            importances = _importances(copy, report, study.directions[0])
        found.append(Level(report, reports, len(here), importances, len(both), correlation))
    return found


def most_important(found: Sequence[Level]) -> list[str] | None:
    """The hyperparameters, the most important first, by the last report that knows; None if no report does."""
    known = [level.importances for level in found if level.importances]
    return list(known[-1]) if known else None


def unknown(found: Sequence[Level]) -> list[str]:
    """A line for each report of which the importances cannot be known."""
    return [
        f"report {level.report} of {level.reports}: importance cannot be known from {level.trials} "
        + ("trial; " if level.trials == 1 else "trials; ")
        + (f"it takes {ENOUGH}" if level.trials < ENOUGH else "their values are all equal")
        for level in found
        if level.importances is None
    ]


def carried(found: Sequence[Level]) -> list[str]:
    """A line for each rung that trials have gone beyond to the end: how well their order there is that of the end."""
    lines = []
    for level in found[:-1]:
        what = f"rank correlation of report {level.report} with the last, {level.reports}"
        if level.correlation is not None:
            lines.append(f"{what}: {level.correlation:+.2f} (trials that have both: {level.pairs})")
        elif level.pairs:
            lines.append(f"{what}: not known (trials that have both: {level.pairs})")
    return lines


def _as_complete(study: optuna.Study) -> optuna.Study:
    """A copy of ``study`` in memory in which all trials are complete: Optuna's importances look at no others."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # a line for each new study
    copy = optuna.create_study(storage=optuna.storages.InMemoryStorage())
    optuna.logging.set_verbosity(verbosity)
    copy.add_trials(
        optuna.trial.create_trial(
            value=0.0,
            params=trial.params,
            distributions=trial.distributions,
            intermediate_values=trial.intermediate_values,
        )
        for trial in study.get_trials(deepcopy=False)
    )
    return copy


def _importances(copy: optuna.Study, report: int, direction: StudyDirection) -> dict[str, float] | None:
    """Importances of reaching the best values at ``report``, of all trials in ``copy`` that have one."""
    sign = -1.0 if direction == StudyDirection.MAXIMIZE else 1.0

    def value(trial: optuna.trial.FrozenTrial) -> float:
        """The less the better; NaN where there is none, which Optuna leaves out."""
        return sign * trial.intermediate_values.get(report, math.nan)

    there = [trial for trial in copy.get_trials(deepcopy=False) if math.isfinite(value(trial))]
    keys = list(dict.fromkeys(key for trial in there for key in trial.params))
    if not keys or len({value(trial) for trial in there}) == 1:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns that the least is taken for the best
        return optuna.importance.get_param_importances(copy, params=keys, target=value)


def _correlation(here: Sequence[float], last: Sequence[float]) -> float | None:
    if len(here) < FEWEST_PAIRS or len(set(here)) == 1 or len(set(last)) == 1:
        return None
    return float(scipy.stats.spearmanr(here, last).statistic)
