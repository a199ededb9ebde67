"""``--patience``: a search ends when it has paid enough without an improvement; and what more trials may bring.

Resources are counted in full trials: all reports of all trials, divided by the reports of a full one. An improvement is
a complete trial that beats the best one by more than the noise of a score.
"""

import math
from collections.abc import Sequence
from datetime import datetime

import numpy as np
import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

IMPROVED = "improved"
"""The study's attribute that holds the last improvement: its value, the full trials that were paid until then, and how
many complete trials have been judged by now."""

ENOUGH = 10
"""Of fewer complete trials nothing is said about more trials."""


class Patience:
    """Tells when a study has paid ``limit`` full trials since its last improvement, in this process and earlier ones.

    The storage keeps what it needs, whatever the limit is. So a study can be continued with another one.
    """

    def __init__(self, study: optuna.Study, reports: int, limit: float | None = None, noise: float | None = None):
        """Of trials of ``reports`` reports; without a ``limit`` the study goes on. ``noise`` is estimated if not given.

        The study has one objective.
        """
        self.limit = limit
        self._study = study
        self._reports = reports
        self._noise = noise
        self._sign = 1.0 if study.direction == StudyDirection.MAXIMIZE else -1.0
        known = study.get_trials(deepcopy=False)
        self._last = {trial.number: trial.last_step or 0 for trial in known}
        self._sum = sum(self._last.values())
        self._improved: dict[str, float] | None = study.user_attrs.get(IMPROVED)
        self._judged = int(self._improved["judged"]) if self._improved is not None else 0
        ended = sorted(known, key=lambda trial: trial.datetime_complete or datetime.max)
        for value in _values(ended)[self._judged :]:  # the process was killed before it judged them, or is of old times
            self.complete(value)

    def spent(self) -> float:
        """What the study has paid, in full trials."""
        return self._sum / self._reports

    def since(self) -> float:
        """What it has paid since the last improvement, in full trials; 0 before the first complete trial."""
        return self.spent() - self._improved["spent"] if self._improved is not None else 0.0

    def over(self) -> bool:
        """Whether the study has had its patience."""
        return self.limit is not None and self.since() >= self.limit

    def text(self) -> str:
        """Why the search has ended, for people."""
        since, noise = self.since(), self._known_noise()
        return f"--patience {self.limit:g} is over: {since:.1f} full trials without an improvement above {noise:.2g}"

    def reported(self, number: int, report: int) -> None:
        """Trial ``number`` has got to ``report``, perhaps for the second time."""
        before = self._last.get(number, 0)
        self._last[number] = max(report, before)
        self._sum += self._last[number] - before

    def complete(self, value: float) -> None:
        """A trial is complete with ``value``."""
        self._judged += 1
        gain = self._sign * (value - self._improved["value"]) if self._improved is not None else math.inf
        if gain > 0 and gain > self._known_noise():
            self._improved = {"value": value, "spent": self.spent()}
        assert self._improved is not None
        self._improved["judged"] = self._judged
        self._study.set_user_attr(IMPROVED, self._improved)

    def _known_noise(self) -> float:
        return noise_of(self._study.get_trials(deepcopy=False)) if self._noise is None else self._noise


def noise_of(trials: Sequence[FrozenTrial]) -> float:
    """The standard deviation of a score, estimated from the last three reports of the complete ``trials``.

    It is what a straight line through the three leaves over: x1 - 2 x2 + x3 has 6 times the variance of one of them.
    The median is not moved by a few curves that bend. Another seed changes a score by more than this. 0 without three
    reports.
    """
    bends = []
    for trial in trials:
        curve = [trial.intermediate_values[report] for report in sorted(trial.intermediate_values)]
        if trial.state == TrialState.COMPLETE and len(curve) >= 3:
            bends.append(abs(curve[-3] - 2 * curve[-2] + curve[-1]))
    return float(1.4826 * np.median(bends) / math.sqrt(6)) if bends else 0.0


def seeds_noise(runs: Sequence[Sequence[float]]) -> float | None:
    """The standard deviation of a score over seeds, pooled over configurations; None unless one has two seeds or more.

    ``runs`` holds the scores of each configuration.
    """
    squares = sum(float(np.var(scores) * len(scores)) for scores in runs if len(scores) > 1)
    freedom = sum(len(scores) - 1 for scores in runs if len(scores) > 1)
    return math.sqrt(squares / freedom) if freedom else None


def more_trials(study: optuna.Study) -> str:
    """One line on what as many trials again are expected to bring."""
    complete = len(_values(study.get_trials(deepcopy=False)))
    gain = expected_gain(study)
    if gain is None:
        return f"what more trials would bring cannot be known from {complete} complete ones"
    return f"as many trials again would improve the best score by about {gain:.4f}, if the luck of these holds"


def expected_gain(study: optuna.Study) -> float | None:
    """How much as many trials again would improve the best value, on average; None with too few complete trials.

    Estimated by what the complete trials lose when half of them is left out, on average over all halves: the best of n
    draws grows by about as much from n / 2 to n as from n to 2 n. The first trial, the base, is never left out. A
    search that goes on learning finds more, one that has come to its peak less.
    """
    sign = 1.0 if study.direction == StudyDirection.MAXIMIZE else -1.0
    trials = study.get_trials(deepcopy=False)
    values = [sign * value for value in _values(trials)]
    if len(values) < ENOUGH:
        return None
    base = max([sign * value for value in _values(trials[:1])], default=-math.inf)
    ordered = sorted((max(value, base) for value in values), reverse=True)
    return ordered[0] - _best_of_half(ordered)


def _best_of_half(ordered: Sequence[float]) -> float:
    """The mean, over all halves of the values, of the best one; ``ordered`` has the best first."""
    half, left = len(ordered) // 2, len(ordered)
    mean, chance = 0.0, 1.0  # the chance that none of the values so far is in the half
    for value in ordered:
        mean += chance * half / left * value
        chance *= 1 - half / left
        left -= 1
        if chance <= 0:
            break
    return mean


def _values(trials: Sequence[FrozenTrial]) -> list[float]:
    return [trial.value for trial in trials if trial.state == TrialState.COMPLETE and trial.value is not None]
