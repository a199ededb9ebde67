"""Replay of recorded learning curves, on a table made up in seconds."""

import json
import math

import numpy as np
import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from tests.benchmarks.search import figures, record
from tests.benchmarks.search.replay import FROM_A_FIFTH, OURS, STRATEGIES, Replay, Strategy
from tests.benchmarks.search.table import TABLES, load

REPORTS = 9
TRIALS = 30
DIVERGED = 7


def space(trial):
    """Three parameters, of which one depends on another."""
    found = {
        "lr": trial.suggest_float("lr", 1e-4, 1e-2, log=True),
        "clip": trial.suggest_categorical("clip", [None, 1.0]),
    }
    if found["clip"] is not None:
        found["slots"] = trial.suggest_int("slots", 2, 9)
    return found


def curve(found):
    """Better near lr=0.001; the order is the same at all reports."""
    height = 1 - abs(math.log10(found["lr"]) + 3) + 0.01 * found.get("slots", 0)
    return [height * (1 - math.exp(-report / 3)) for report in range(1, REPORTS + 1)]


def write_study(folder, trials=TRIALS, seed=3, fixed=None):
    """The folder of a study, as the product leaves it."""
    folder.mkdir()
    storage = JournalStorage(JournalFileBackend(str(folder / "optuna.journal")))
    sampler = optuna.samplers.RandomSampler(seed=seed)
    study = optuna.create_study(storage=storage, study_name=folder.name, direction="maximize", sampler=sampler)
    study.enqueue_trial({"lr": 0.002, "clip": None})
    for number in range(trials):
        trial = study.ask()
        values = curve(fixed or space(trial))
        trial.set_user_attr("progress", {"seconds": 2.0})
        for report, value in enumerate(values[: 4 if number == DIVERGED else REPORTS], start=1):
            trial.report(value, report)
        if number == DIVERGED:
            trial.set_user_attr("reason", "loss is nan at step 4")
            study.tell(trial, state=TrialState.FAIL)
        else:
            study.tell(trial, values[-1])
    study.ask()  # still running
    config = {"model": "made_up", "data": "none", "size": 32, "preset": "tiny", "steps": 90, "reports": REPORTS}
    config |= {"validation_images": 10, "metric": "mIoU_fg", "seed": seed, "precision": "fp32", "set": fixed or {}}
    command = "python study/run.py --model made_up --results /somewhere/else --cache /there --trials 30"
    session = {"versions": {}, "git": "abc", "command": command}
    more = {"base": {"lr": 0.002}, "data": {"counts": {"train": 10}}, "sessions": [session]}
    (folder / "study.json").write_text(json.dumps({"config": config, **more}))
    return folder


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recorded")
    first = write_study(folder / "first")
    other = write_study(folder / "other", trials=1, seed=4, fixed={"lr": 0.002, "clip": None})
    assert record.write([first, other], folder / "made_up.parquet") == TRIALS + 1
    return folder / "made_up.parquet"


@pytest.fixture(scope="module")
def table(path):
    return load(path)


def test_a_study_becomes_a_table(table):
    assert len(table.configurations) == TRIALS
    assert table.configurations[0].parameters == {"lr": 0.002, "clip": None}
    failed = table.configurations[DIVERGED]
    assert failed.failure == "loss is nan at step 4" and len(failed.curve) == 4
    assert table.finals[DIVERGED] == -math.inf and np.isfinite(np.delete(table.finals, DIVERGED)).all()
    assert table.spec["conditions"] == {"slots": ["clip", [1.0]]}
    assert table.spec["command"] == "python study/run.py --model made_up --trials 30"
    assert table.reseeded == [(0, curve({"lr": 0.002})[-1])]
    assert table.noise() == (1, 0.0)


def test_the_nearest_configuration_answers_for_a_proposal(table):
    everything = list(range(TRIALS))
    for place, configuration in enumerate(table.configurations):
        assert table.nearest(configuration.parameters, everything) == place
    near = {**table.configurations[5].parameters}
    near["lr"] *= 1.001
    assert table.nearest(near, everything) == 5
    rest = [place for place in everything if place != 5]
    assert table.nearest(near, rest) != 5
    other = table.nearest({"lr": 0.002, "clip": 1.0, "slots": 5}, everything)  # another choice is as far as a range
    assert table.configurations[other].parameters["clip"] == 1.0


def test_rank_correlations_are_one_where_curves_do_not_cross(table):
    assert all(every == pytest.approx(1) and best == pytest.approx(1) for _, every, best in table.rank_correlations())


def test_a_bad_base_is_from_the_worst_third(table):
    below = sum(math.isfinite(v) and v < table.finals[table.bad_base()] for v in table.finals)
    assert 0 < below < TRIALS / 3


def test_fewer_reports_end_with_the_same_value(table):
    coarse = table.coarser(3)
    assert coarse.configurations[1].curve == table.configurations[1].curve[2::3]
    uneven = table.coarser(4)
    recorded = table.configurations[1].curve
    assert uneven.configurations[1].curve == [recorded[i] for i in (2, 4, 6, 8)]


@pytest.mark.parametrize("places", [1, 4])
def test_without_stopping_a_search_costs_what_its_trials_cost(table, places):
    replay = Replay(table, Strategy("random", "none"), seed=1, places=places)
    course = replay.run()
    assert course.states == {"COMPLETE": TRIALS - 1, "FAIL": 1}
    assert course.spent[-1] == pytest.approx((TRIALS - 1) + 5 / REPORTS)  # the diverged one: four reports and its end
    assert course.best[-1] == course.leader[-1] == table.finals.max()
    assert course.hours[-1] == pytest.approx(course.spent[-1] / places, rel=0.1)
    told = [trial.params for trial in replay.searcher.study.get_trials(deepcopy=False)]
    assert told[0] == table.configurations[0].parameters
    key = sorted(map(str, told))
    assert key == sorted(str(configuration.parameters) for configuration in table.configurations)  # each used once


@pytest.mark.parametrize("name", [name for name in STRATEGIES if name != "GP"])
def test_every_strategy_runs(table, name):
    first, again = (Replay(table, STRATEGIES[name], seed=2, places=2).run() for _ in range(2))
    assert (first.spent, first.best) == (again.spent, again.best)
    assert first.best[-1] >= table.finals[0]
    if STRATEGIES[name].pruner != "none":  # curves do not cross, so the best is found for less
        assert first.best[-1] == table.finals.max()
        assert first.spent[-1] < 0.7 * TRIALS


def test_halving_from_a_fifth_stops_no_trial_before(table):
    replay = Replay(table, Strategy("random", FROM_A_FIFTH), seed=2, places=2)
    replay.run()
    pruned = replay.searcher.study.get_trials(deepcopy=False, states=(TrialState.PRUNED,))
    assert pruned and min(trial.last_step for trial in pruned) == 2


def test_the_leader_is_the_trial_that_got_furthest(table):
    course = Replay(table, Strategy("random", "none"), seed=1, places=2).run(budget=1.0)
    assert math.isinf(course.best[0]) and math.isfinite(course.leader[0])
    assert course.at(0.0, course.leader) == -math.inf


def test_figures_count_resources_until_a_level(table):
    comparison = figures.compare(table, 2, 3, [OURS])
    assert list(comparison.courses) == ["random", OURS]
    found = figures.report(comparison)
    assert f"| {OURS} |" in found and "inf" not in found
    assert comparison.until("random") <= TRIALS
    assert figures.quantile([1.0, math.inf, 3.0], 0.5) == 3.0
    assert "| 9/9 | 1.00 | 1.00 |" in figures.ranks(table)


@pytest.mark.parametrize("path", sorted(TABLES.glob("*.parquet")), ids=lambda path: path.stem)
def test_the_tables_of_the_project_are_whole(path):
    table = load(path)
    assert len(table.configurations) >= 100
    assert all(len(c.curve) == 27 for c in table.configurations if c.failure is None)
    assert all(set(c.parameters) <= set(table.ranges) for c in table.configurations)
    assert "/" not in table.spec["command"].replace("study/run.py", "")
    assert path.stat().st_size < 400_000
