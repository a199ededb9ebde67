"""Trials that pause and are promoted, against a real storage; with Tune in tests/study/test_promotion_on_ray.py."""

import itertools

import pytest
from optuna.trial import TrialState
from ray.tune.search import Searcher

from study.scoring.trial_table import trial_table
from tests.study.search.made_up import result

REPORTS, TRIALS = 9, 12
"""Rungs are at reports 1 and 3."""


def asha(make_searcher, trials=TRIALS, where=None, **more):
    place = {} if where is None else {"where": where}
    return make_searcher(trials, pruner="asha", sampler="random", reports=REPORTS, **place, **more)


def objective(number, report):
    """The best come late; some tie."""
    return round((number * 7 % 12) / 6) / 10 + (0.01 * number if number % 2 else 0) + 0.05 * report


def run(searcher, computed, places=3, steps=10**9):
    """Do what Tune does, for so many reports: trials go on from their last stored report."""
    running, ids = [], itertools.count()
    for _ in range(steps):
        while len(running) < places:
            name = str(next(ids))
            config = searcher.suggest(name)
            if config in (None, Searcher.FINISHED):
                break
            number = config["number"]
            assert number not in [other for _, other, _ in running]
            last = searcher.study.get_trials(deepcopy=False)[number].last_step or 0
            running.append((name, number, min(last + 1, REPORTS)))
        if not running:
            assert config == Searcher.FINISHED
            return
        name, number, report = running.pop(0)
        computed.append((number, report))
        if (number, report) == (4, 1):
            searcher.on_trial_complete(name, {"failure": "training loss is nan", "done": True})
            continue
        told = result(report, objective(number, report))
        if report == REPORTS:
            searcher.on_trial_complete(name, {**told, "done": True})
        elif searcher.record(name, told):
            searcher.on_trial_complete(name, {**told, "done": True})  # as Tune says it of a trial that it stops
        else:
            running.append((name, number, report + 1))


def states(searcher):
    return [trial.state.name for trial in searcher.study.get_trials()]


def test_the_best_third_goes_on_from_each_rung_and_the_rest_is_pruned_at_the_end(make_searcher):
    searcher = asha(make_searcher)
    computed = []
    run(searcher, computed)
    assert len(computed) == len(set(computed)), "a report was computed twice"
    found = states(searcher)
    assert len(found) == TRIALS and found.count("FAIL") == 1
    assert found.count("COMPLETE") >= 1 and "RUNNING" not in found
    reached = {report: sum(at == report for _, at in computed) for report in (1, 2, 4)}
    assert reached[1] == TRIALS and 4 <= reached[2] <= 6 and 2 <= reached[4] <= 3, "the base goes on in any case"
    for trial in searcher.study.get_trials(states=(TrialState.PRUNED,)):
        assert trial.last_step in (1, 3)


def test_at_least_as_many_as_wanted_become_complete(make_searcher):
    searcher = asha(make_searcher, wanted=4)
    run(searcher, [])
    assert states(searcher).count("COMPLETE") >= 4


def test_a_study_of_fewer_trials_than_wanted_ends_when_all_are_complete(make_searcher):
    searcher = asha(make_searcher, trials=2, wanted=4)
    run(searcher, [])
    assert states(searcher) == ["COMPLETE"] * 2


def test_a_trial_cannot_go_on_before_tune_has_saved_it(make_searcher):
    searcher = asha(make_searcher, trials=5)
    searcher.suggest("base")
    for name, value in (("a", 0.1), ("b", 0.2), ("c", 0.9)):
        searcher.suggest(name)
        assert searcher.record(name, result(1, value)) is True
        assert searcher.record(name, result(1, value)) is True  # its worker was lost before it was saved
    for name in "ab":
        searcher.on_trial_complete(name, result(1, 0.1, done=True))
    assert searcher.suggest("d")["number"] == 4, "a new one: c is being saved"
    assert searcher.suggest("e") is None and searcher.pending() is False
    searcher.on_trial_complete("c", result(1, 0.9, done=True))
    again = searcher.suggest("e")
    assert again["number"] == 3 and searcher.state_of(3) == "RUNNING" and searcher.state_of(1) == "PAUSED"
    assert searcher.counts() == {"RUNNING": 3, "PAUSED": 2}
    table = trial_table(searcher.study).to_pydict()
    assert dict(zip(table["number"], table["state"], strict=True)) == {
        0: "RUNNING",
        1: "PAUSED",
        2: "PAUSED",
        3: "RUNNING",
        4: "RUNNING",
    }


def test_a_finished_study_goes_on_with_more_trials_among_which_the_old_ones_count(make_searcher):
    run(asha(make_searcher), [])
    assert not asha(make_searcher).pending()
    searcher, computed = asha(make_searcher, trials=16), []
    run(searcher, computed)
    assert len(states(searcher)) == 16 and "RUNNING" not in states(searcher)
    assert {number for number, _ in computed} == {12, 13, 14, 15}, "a pruned trial stays pruned"
    better_than_the_old = [number for number, report in computed if report == 2]
    assert len(better_than_the_old) < 4, "each of four alone would be promoted in a study of its own"


def test_a_study_that_is_killed_after_any_write_loses_nothing_and_repeats_nothing(make_searcher, tmp_path):
    def folder(name):
        made = tmp_path / name / "study"
        made.mkdir(parents=True)
        return made

    whole, computed = asha(make_searcher, where=folder("whole")), []
    run(whole, computed)
    journal = (tmp_path / "whole" / "study" / "optuna.journal").read_text().splitlines(keepends=True)
    seen = set()
    for lines in range(12, len(journal), 3):
        where = folder(str(lines))
        (where / "optuna.journal").write_text("".join(journal[:lines]))
        again, more = asha(make_searcher, where=where), []
        stored = {(t.number, r) for t in again.study.get_trials() for r in t.intermediate_values}
        pausing = {trial.number for trial in again.study.get_trials() if again.state_of(trial.number) == "PAUSED"}
        seen.add(len(pausing) > 0)
        run(again, more)
        found = states(again)
        assert len(found) == TRIALS and found.count("COMPLETE") >= 1 and "RUNNING" not in found, lines
        assert len(more) == len(set(more)), f"repeated after line {lines}"
        assert {report for _, report in stored & set(more)} <= {REPORTS}, f"computed again after line {lines}"
    assert seen == {True, False}


def test_without_checkpoints_left_behind_when_killed_while_the_rest_is_told_pruned(make_searcher):
    searcher = asha(make_searcher)
    run(searcher, [])
    for state in ("PRUNED", "COMPLETE"):
        number = states(searcher).index(state)
        path = searcher.folder.trial(number) / "checkpoint_000000"
        path.mkdir(parents=True)
    asha(make_searcher)
    kept = [path.parent.name for path in searcher.folder.trials.glob("*/checkpoint_*")]
    assert kept == [searcher.folder.trial(states(searcher).index("COMPLETE")).name]


@pytest.mark.parametrize("metric", ["mIoU_fg", "MSE"])
def test_the_better_trial_is_promoted_in_both_directions(make_searcher, metric):
    searcher = asha(make_searcher, trials=9, metric=metric)
    searcher.suggest("base")
    for name, value in (("a", 0.1), ("b", 0.5), ("c", 0.9)):
        searcher.suggest(name)
        searcher.record(name, result(1, value))
        searcher.on_trial_complete(name, result(1, value, done=True))
    assert searcher.suggest("d")["number"] == {"mIoU_fg": 3, "MSE": 1}[metric]


def test_the_base_never_pauses_and_its_values_count(make_searcher):
    searcher = asha(make_searcher, trials=9)
    searcher.suggest("base")
    for report in (1, 2, 3, 4):
        assert searcher.record("base", result(report, 0.5)) is False, "however bad it is"
    for name, value in (("a", 0.3), ("b", 0.4)):
        searcher.suggest(name)
        assert searcher.record(name, result(1, value)) is True
        searcher.on_trial_complete(name, result(1, value, done=True))
    assert searcher.suggest("c")["number"] == 3, "of three the base is the best, so that none is promoted"
    again = asha(make_searcher, trials=9)  # after a kill
    assert [again.suggest(name)["number"] for name in "xyz"] == [0, 3, 4]
    assert again.record("x", result(3, 0.9)) is False, "repeated after a checkpoint that was older"
