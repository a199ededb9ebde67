"""Two goals: what is stored of both, which samplers look for a front, and what the front is."""

import math

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState, create_trial

from study.config import StudyConfig
from study.scoring import importance
from study.scoring.trial_table import trial_table
from study.search import finalists, goals, storage, strategies
from study.search.proposal import Proposal
from tests.study.search.made_up import BASE, SEARCHED, result, space


def study_of(values, directions=("maximize", "minimize")):
    study = optuna.create_study(directions=directions)
    for pair in values:
        state = TrialState.COMPLETE if pair else TrialState.FAIL
        study.add_trial(create_trial(state=state, values=pair))
    return study


@pytest.mark.parametrize("directions", [("maximize", "minimize"), ("minimize", "minimize"), ("minimize", "maximize")])
def test_the_front_is_optunas_in_the_order_of_the_first_goal(directions):
    study = study_of(np.random.default_rng(3).random((200, 2)).tolist(), directions)
    front = goals.front(study)
    assert sorted(front) == sorted(trial.number for trial in study.best_trials) and len(front) > 2
    assert front[0] == storage.best_trials(study, 1)[0]
    firsts = [study.get_trials()[number].values[0] for number in front]
    assert firsts == sorted(firsts, reverse=directions[0] == "maximize")


def test_equal_trials_and_failed_ones_are_not_on_the_front():
    study = study_of([(0.5, 2.0), None, (0.5, 1.0), (0.5, 1.0), (0.4, 1.0), (0.3, 0.5)])
    assert goals.front(study) == [2, 5]
    assert [goals.first(t) for t in study.get_trials()[:3]] == [0.5, None, 0.5]
    assert [goals.second(t) for t in study.get_trials()[:3]] == [2.0, None, 1.0]
    alone = optuna.create_study(direction="maximize")
    alone.add_trial(create_trial(value=0.5))
    assert goals.front(alone) == goals.front(study_of([])) == [] and goals.second(alone.get_trials()[0]) is None


def run_on(searcher, name, pairs):
    """One trial of (objective, seconds) reports; returns whether any stopped it early."""
    searcher.suggest(name)
    stops = [searcher.record(name, result(i, v, **{"time/train_s": s})) for i, (v, s) in enumerate(pairs[:-1], 1)]
    value, seconds = pairs[-1]
    searcher.on_trial_complete(name, result(len(pairs), value, done=True, **{"time/train_s": seconds}))
    return any(stops)


def test_seconds_are_the_time_of_training_and_no_trial_stops_early(make_searcher):
    searcher = make_searcher(metric="mIoU_fg,seconds")
    assert not any(run_on(searcher, str(i), [(0.9 - i / 4, 2.0)] * 10) for i in range(3))
    for trial in searcher.study.get_trials():
        assert trial.state == TrialState.COMPLETE and trial.values == [0.9 - trial.number / 4, 20.0]
        assert trial.intermediate_values == dict.fromkeys(range(1, 11), trial.values[0])
        assert trial.user_attrs["progress"]["seconds"] == 25.0, "with validation"
    assert searcher.study.directions == [optuna.study.StudyDirection.MAXIMIZE, optuna.study.StudyDirection.MINIMIZE]


def test_a_trial_that_is_continued_adds_up_its_seconds_and_a_repeated_report_counts_once(make_searcher):
    first = make_searcher(metric="mIoU_fg,seconds")
    first.suggest("a")
    for report in (1, 2):
        first.record("a", result(report, 0.1 * report, **{"time/train_s": 3.0}))
    second = make_searcher(metric="mIoU_fg,seconds")
    assert second.suggest("b")["number"] == 0
    second.record("b", result(2, 0.7, **{"time/train_s": 50.0}))  # its last checkpoint was not saved
    second.record("b", result(3, 0.3, **{"time/train_s": 4.0}))
    second.on_trial_complete("b", result(4, 0.4, done=True, **{"time/train_s": 5.0}))
    (trial,) = second.study.get_trials()
    assert trial.values == [0.4, 15.0] and trial.intermediate_values == {1: 0.1, 2: 0.2, 3: 0.3, 4: 0.4}


def test_a_trial_killed_between_its_report_and_the_pruners_verdict_goes_on(make_searcher):
    first = make_searcher(metric="mIoU_fg,seconds")
    first.suggest("a")
    trial = first.live["a"]
    first._store_value(trial, result(1, 0.2))  # and no progress
    again = make_searcher(metric="mIoU_fg,seconds")
    assert again.suggest("b")["number"] == 0
    again.record("b", result(1, 0.2, **{"time/train_s": 6.0}))
    assert again.study.get_trials()[0].user_attrs["progress"]["second_goal"] == 6.0


@pytest.mark.parametrize(("metric", "worth"), [("mIoU_fg,parameters", 1234.0), ("mIoU_fg,MSE", 7.5)])
def test_other_second_goals_are_those_of_the_last_report(make_searcher, metric, worth):
    searcher = make_searcher(metric=metric)
    for name, mse in (("a", 7.5), ("b", math.nan)):
        searcher.suggest(name)
        searcher.record(name, result(1, 0.1, **{"parameters": 99, "val/MSE": 9.0}))
        last = {"parameters": 1234, "val/MSE": mse}
        searcher.on_trial_complete(name, result(2, 0.5, done=True, **last))
    known, other = searcher.study.get_trials()
    assert known.values == [0.5, worth]
    if metric == "mIoU_fg,MSE":
        assert other.state == TrialState.FAIL and other.user_attrs["reason"] == "validation MSE is nan"
    else:
        assert other.values == [0.5, worth]


def trial_state(number):
    return TrialState.FAIL if number % 5 == 4 else TrialState.RUNNING if number == 11 else TrialState.COMPLETE


@pytest.mark.parametrize("name", strategies.SAMPLERS)
def test_every_sampler_works_with_two_goals_beside_failed_and_running_trials_or_is_refused(make_searcher, name):
    try:
        StudyConfig(model="slot_attention", metric="mIoU_fg,seconds", sampler=name)
    except ValueError as error:
        assert name in ("prior", "cmaes") and name in str(error)
        return
    for stop in (12, 18):  # and another process
        searcher = make_searcher(trials=20, metric="mIoU_fg,seconds", sampler=name)
        while len(searcher.study.get_trials()) < stop:
            number = searcher.suggest("a")["number"]
            lr = searcher.study.get_trials()[number].params["lr"]
            searcher.record("a", result(1, lr))
            if number % 5 == 4:
                searcher.on_trial_complete("a", {"failure": "training loss is nan", "done": True})
            elif number != 11:
                searcher.on_trial_complete("a", result(10, lr, done=True, **{"time/train_s": (lr - 0.05) ** 2}))
    trials = searcher.study.get_trials()
    states = [trial.state for trial in trials]
    assert states == [trial_state(number) for number in range(18)]
    assert len({trial.params["lr"] for trial in trials}) > 12, "proposals of two processes differ"


def test_nsga2_has_children_within_a_small_study(make_searcher):
    searcher = make_searcher(trials=30, metric="mIoU_fg,seconds", sampler="nsga2")
    for i in range(30):
        run_on(searcher, str(i), [(0.1, 1.0)])
    rates = [trial.params["lr"] for trial in searcher.study.get_trials()]
    first, rest = rates[: strategies.POPULATION], rates[strategies.POPULATION :]
    assert len(set(first)) == len(first) and len(set(rest) & set(first)) > 2, "a child has its parents' values"


def test_the_finalists_are_the_front_by_the_first_goal_then_the_others():
    proposal = Proposal(space, BASE, {}, SEARCHED)
    study = optuna.create_study(directions=["maximize", "minimize"])
    for lr, *values in ((0.01, 0.2, 5.0), (0.02, 0.9, 9.0), (0.03, 0.8, 9.5), (0.04, 0.5, 4.0), (0.05, 0.1, 1.0)):
        study.enqueue_trial({"lr": lr, "optimizer": "adam"})
        trial = study.ask()
        proposal.hyperparameters(trial)
        study.tell(trial, values)
    chosen = finalists.choose(study, proposal, 4)
    assert [one.trial for one in chosen] == [1, 3, 4, 2, 0] and chosen[-1].entry == "base"


def test_tables_and_importance_are_about_the_first_goal(make_searcher):
    searcher = make_searcher(trials=24, metric="mIoU_fg,seconds", sampler="random")
    for i in range(24):
        number = searcher.suggest(str(i))["number"]
        lr = searcher.study.get_trials()[number].params["lr"]
        searcher.on_trial_complete(str(i), result(10, lr, done=True, **{"time/train_s": 1 / lr}))
    rows = trial_table(searcher.study).to_pylist()
    rates = [row["params_lr"] for row in rows]
    assert [row["value"] for row in rows] == rates == sorted(rates, reverse=True)
    assert [row["second_value"] for row in rows] == pytest.approx([1 / rate for rate in rates])
    *_, last = importance.levels(searcher.study, 10)
    assert last.trials == 24 and next(iter(last.importances)) == "lr"
