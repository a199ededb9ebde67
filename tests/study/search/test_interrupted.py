"""A process that is killed: the journal, cut off after any of its lines, is what a new process finds."""

import pytest
from optuna.trial import TrialState

from tests.study.search.made_up import result

REPORTS = 6  # of successive halving's rungs, at reports 2 and 6, one is at the end
TRIALS = 12


def folder(tmp_path, name):
    """A new folder of a study, always of the same name: that is the study's in the journal."""
    made = tmp_path / name / "study"
    made.mkdir(parents=True)
    return made


def run_a_study(searcher):
    """Trials of all outcomes, three at a time: the best come late, so that ranks change; some tie."""
    running = []
    started = 0
    while running or started < TRIALS:
        while started < TRIALS and len(running) < 3:
            searcher.suggest(str(started))
            running.append((started, 1))
            started += 1
        number, report = running.pop(0)
        objective = round((number * 7 % 12) / 6) / 10 + (0.01 * number if number % 2 else 0) + 0.05 * report
        if number == 4 and report == 1:
            searcher.on_trial_complete(str(number), {"failure": "training loss is nan", "done": True})
        elif report == REPORTS:
            searcher.on_trial_complete(str(number), result(report, objective, done=True))
        elif not searcher.record(str(number), result(report, objective)):
            running.append((number, report + 1))


@pytest.mark.parametrize("name", ["halving", "hyperband", "median"])
def test_a_study_that_is_killed_after_any_write_knows_what_was_decided(make_searcher, tmp_path, name):
    whole = make_searcher(TRIALS, pruner=name, reports=REPORTS, where=folder(tmp_path, "whole"))
    run_a_study(whole)
    ended = whole.study.get_trials()
    assert {trial.state for trial in ended} == {TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL}
    journal = (tmp_path / "whole" / "study" / "optuna.journal").read_text().splitlines(keepends=True)
    checked = set()
    for lines in range(10, len(journal)):
        where = folder(tmp_path, str(lines))
        (where / "optuna.journal").write_text("".join(journal[:lines]))
        again = make_searcher(TRIALS, pruner=name, reports=REPORTS, where=where)
        for now, then in zip(again.study.get_trials(), ended, strict=False):
            decided = now.last_step == then.last_step and then.state == TrialState.PRUNED
            assert (now.state == TrialState.PRUNED) == decided, f"trial {now.number} after line {lines}"
            assert (now.state == TrialState.FAIL) == ("reason" in now.user_attrs)
            checked.add(now.state)
        running = {trial.number for trial in again.study.get_trials(states=(TrialState.RUNNING,))}
        assert {again.suggest(f"again {i}")["number"] for i in range(len(running))} == running
    assert checked >= {trial.state for trial in ended} | {TrialState.RUNNING}


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_a_trial_that_had_been_pruned_loses_its_checkpoints_and_is_not_run(make_searcher, tmp_path, lost):
    """Killed before its end, the verdict or its rung was written; second of five, it would be promoted among six."""
    searcher = make_searcher(trials=5, pruner="halving")
    for name, objective in enumerate((0.1, 0.2, 0.3, 0.9, 0.5)):
        path = searcher.suggest(str(name))["folder"]
        for report in (1, 2):
            pruned = searcher.record(str(name), result(report, objective))
    assert pruned
    journal = tmp_path / "optuna.journal"
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:-lost]))
    checkpoint = tmp_path / "trials" / "trial_0004" / "checkpoint_000001"
    assert str(checkpoint.parent) == path
    checkpoint.mkdir(parents=True)
    (checkpoint / "step_000000020.pt").write_text("")
    again = make_searcher(trials=5, pruner="halving")
    while again.pending():
        assert again.suggest("x")["number"] != 4
    assert again.state_of(4) == "PRUNED"
    assert not checkpoint.exists() and checkpoint.parent.exists()


def test_a_trial_that_passed_its_rung_is_not_judged_by_those_that_came_later(make_searcher):
    searcher = make_searcher(trials=4, pruner="halving")
    for name, objective in (("a", 0.1), ("b", 0.5), ("c", 0.9), ("d", 0.7)):
        searcher.suggest(name)
        for report in (1, 2):
            searcher.record(name, result(report, objective))
    before = [trial.state for trial in searcher.study.get_trials()]
    assert before == [TrialState.RUNNING] * 3 + [TrialState.PRUNED]
    again = make_searcher(trials=4, pruner="halving")
    assert [trial.state for trial in again.study.get_trials()] == before
