"""Replay of a table: the product's searcher hands out trials, and recorded curves answer instead of training."""

import copy
import heapq
import itertools
import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.pruners import BasePruner, SuccessiveHalvingPruner
from optuna.trial import TrialState

from study.results_folder import StudyFolder
from study.search import strategies
from study.search.proposal import Proposal
from study.search.searcher import StudySearcher
from tests.benchmarks.search.table import Table


@dataclass(frozen=True)
class Strategy:
    """A sampler and a stopping rule, by their names on the command line."""

    sampler: str
    pruner: str

    def stopping_rule(self, reports: int) -> BasePruner:
        """Optuna's pruner for trials of ``reports`` reports; it stops none where trials pause."""
        if self.pruner == FROM_A_FIFTH:
            return SuccessiveHalvingPruner(math.ceil(0.2 * reports), reduction_factor=3, bootstrap_count=0)
        return strategies.pruner(self.pruner, reports)


FROM_A_FIFTH = "halving from a fifth"
"""The stopping rule until version 0.1: successive halving with its first rung at a fifth of a trial."""

OURS = "prior + promotion"
STRATEGIES = {
    "random": Strategy("random", "none"),
    "TPE": Strategy("tpe", "none"),
    "GP": Strategy("gp", "none"),
    "CMA-ES": Strategy("cmaes", "none"),
    "TPE + halving from 1/5": Strategy("tpe", FROM_A_FIFTH),
    "prior + halving": Strategy("prior", "halving"),
    "random + promotion": Strategy("random", "asha"),
    "TPE + promotion": Strategy("tpe", "asha"),
    "GP + promotion": Strategy("gp", "asha"),
    OURS: Strategy("prior", "asha"),
}
"""What is compared."""


@dataclass
class Course:
    """What a search had found, and when."""

    spent: list[float] = field(default_factory=list)
    """Resources at each report, in full trials."""
    best: list[float] = field(default_factory=list)
    """The final value of the best complete trial by then, times the table's sign; -inf without one."""
    leader: list[float] = field(default_factory=list)
    """The final value that the trial in front by then would reach; a complete trial is before any other."""
    hours: list[float] = field(default_factory=list)
    """Time at each report, in the length of a full trial."""
    states: dict[str, int] = field(default_factory=dict)
    """How many trials ended in each of Optuna's states."""

    def at(self, budget: float, series: list[float]) -> float:
        """The value of ``series`` after ``budget`` full trials."""
        before = [value for spent, value in zip(self.spent, series, strict=True) if spent <= budget + 1e-9]
        return before[-1] if before else -math.inf

    def until(self, level: float) -> float:
        """Resources until a complete trial reached ``level``; inf if none did."""
        return next((s for s, value in zip(self.spent, self.best, strict=True) if value >= level), math.inf)


class Replay:
    """One search on a table, in one order; ``proposals`` come after the base, as those of ``--from``."""

    def __init__(
        self,
        table: Table,
        strategy: Strategy,
        seed: int,
        places: int,
        base: int = 0,
        proposals: Sequence[dict[str, Any]] = (),
    ):
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.table = table
        self.places = places
        parameters = table.spec["base"] | table.configurations[base].parameters
        study = optuna.create_study(
            direction=table.spec["direction"],
            sampler=strategies.sampler(strategy.sampler, seed, parameters),
            pruner=strategy.stopping_rule(table.reports),
        )
        promotion = strategies.promotion(strategy.pruner, table.reports, maximize=table.sign > 0)
        proposal = Proposal(table.space, parameters, {}, list(parameters))
        # The searcher gets a folder in which no trial has files.
        folder = StudyFolder(Path(tempfile.gettempdir()) / "no-such-study")
        self.searcher = StudySearcher(study, folder, len(table.configurations), proposal, promotion)
        for proposed in proposals:
            study.enqueue_trial(proposed)
        self.course = Course()
        self._unused = list(range(len(table.configurations)))
        self._answers: dict[int, int] = {}
        """Number of a trial -> the configuration that stands for it."""
        self._reached: dict[int, int] = {}
        """Number of a trial -> its last report."""
        self._best = -math.inf

    def run(self, budget: float = math.inf, watch: Callable[[], None] | None = None) -> Course:
        """Run until the searcher has no more trials, or until ``budget`` full trials are spent.

        ``watch`` is called after each report.
        """
        reports = self.table.reports
        events: list[tuple[float, int, str, int]] = []  # (time, order, Tune's id, trial's number)
        ids = itertools.count()
        spent, now = 0, 0.0
        while spent < budget * reports:
            while len(events) < self.places:
                identity = next(ids)
                config = self.searcher.suggest(str(identity))
                if not isinstance(config, dict):
                    break
                self._answer(config["number"])
                heapq.heappush(events, (now + 1, identity, str(identity), config["number"]))
            if not events:
                break
            now, order, trial_id, number = heapq.heappop(events)
            spent += 1
            if self._report(trial_id, number):
                heapq.heappush(events, (now + 1, order, trial_id, number))
            self.course.spent.append(spent / reports)
            self.course.hours.append(now / reports)
            self.course.best.append(self._best)
            self.course.leader.append(self._leader())
            if watch is not None:
                watch()
        states = [trial.state.name for trial in self.searcher.study.get_trials(deepcopy=False)]
        self.course.states = {state: states.count(state) for state in sorted(set(states))}
        return self.course

    def _answer(self, number: int) -> None:
        """Choose the configuration that stands for a new trial, and tell the storage."""
        if number in self._answers:
            return  # a trial that goes on
        study = self.searcher.study
        trial = study.get_trials(deepcopy=False)[number]
        place = self.table.nearest(trial.params, self._unused)
        self._unused.remove(place)
        self._answers[number] = place
        self._reached[number] = 0
        replace_parameters(study, trial, self.table, self.table.configurations[place].parameters)

    def _report(self, trial_id: str, number: int) -> bool:
        """Train a trial to its next report and tell the searcher; whether it goes on."""
        configuration = self.table.configurations[self._answers[number]]
        self._reached[number] += 1
        report = self._reached[number]
        result = {"report": report, "step": report, "time/train_s": 1.0, "time/validation_s": 0.0, "hostname": "here"}
        if report > len(configuration.curve):
            assert configuration.failure is not None
            result |= {"failure": configuration.failure, "done": True, "objective": math.nan}
            self.searcher.on_trial_complete(trial_id, result)
            return False
        result["objective"] = configuration.curve[report - 1]
        result["done"] = report == self.table.reports
        if not result["done"]:
            if not self.searcher.record(trial_id, result):
                self.searcher.on_trial_result(trial_id, result)
                return True
        else:
            self._best = max(self._best, self.table.sign * configuration.curve[-1])
        self.searcher.on_trial_complete(trial_id, result)
        return False

    def _leader(self) -> float:
        """The final value of the trial in front: of those that got furthest, the one with the best value there."""
        furthest = max(self._reached.values())
        if self._best > -math.inf or furthest == 0:
            return self._best
        there = [self._answers[number] for number, reached in self._reached.items() if reached == furthest]
        curves = {place: self.table.configurations[place].curve[:furthest] for place in there}
        front = max(there, key=lambda place: self.table.sign * curves[place][-1] if curves[place] else -math.inf)
        return float(self.table.finals[front])


def replace_parameters(study: optuna.Study, trial: Any, table: Table, parameters: dict[str, Any]) -> None:
    """Give a trial other parameters, as if they had been proposed. Optuna allows that only in its memory."""
    assert trial.state == TrialState.RUNNING
    changed = copy.copy(trial)
    changed.params = dict(parameters)
    changed.distributions = {name: table.ranges[name] for name in parameters}
    study._storage._set_trial(trial._trial_id, changed)  # type: ignore[attr-defined]
