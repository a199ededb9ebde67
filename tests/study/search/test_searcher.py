"""The searcher against a real Optuna storage; Tune's part is in test_study_on_ray.py."""

import dataclasses
from types import SimpleNamespace

import pytest
from optuna.trial import TrialState
from ray.tune.search import Searcher

from study.scoring.trial_table import trial_table
from study.search import retries
from study.search import searcher as searcher_module
from study.search.evidence import worker_lost
from study.search.lost_workers import Death
from study.search.searcher import MAX_WORKER_DEATHS
from tests.study.search.made_up import result, space


def states(searcher):
    return [trial.state for trial in searcher.study.get_trials()]


def test_outcomes_reach_the_storage_with_their_values(make_searcher):
    searcher = make_searcher(pruner="none")
    for name in "ab":
        searcher.suggest(name)
    assert searcher.record("a", result(1, 0.1)) is False
    searcher.on_trial_complete("a", result(10, 0.7, done=True))
    searcher.on_trial_complete("b", {"failure": "training loss is nan", "done": True})
    complete, diverged = searcher.study.get_trials()
    assert complete.state == TrialState.COMPLETE and complete.value == 0.7
    assert complete.intermediate_values == {1: 0.1, 10: 0.7}
    assert complete.user_attrs["progress"] == {
        "seconds": 3.0,
        "step": 100,
        "validation": {"mIoU_fg": 0.7},
        "hosts": ["here"],
        "judged": 10,
    }
    assert complete.user_attrs["summary"] == "step 100, 3 s, mIoU_fg 0.7"
    assert diverged.state == TrialState.FAIL and diverged.user_attrs["reason"] == "training loss is nan"
    assert searcher.busy_seconds == 3.0


def test_a_trial_on_several_hosts_and_its_largest_memory_are_on_record(make_searcher):
    searcher = make_searcher(pruner="none")
    searcher.suggest("a")
    for number, (host, memory) in enumerate([("one", 1.0), ("two", 3.0), ("two", 2.0)], start=1):
        searcher.record("a", result(number, 0.1, hostname=host, **{"memory/gpu_gib": memory}))
    (row,) = trial_table(searcher.study).to_pylist()
    assert (row["hosts"], row["gpu_gib"]) == (["one", "two"], 3.0)


def test_successive_halving_prunes_at_the_first_rung_and_keeps_the_intermediate_values(make_searcher):
    searcher = make_searcher(trials=3, pruner="halving", reports=6)
    for name, objective in (("a", 0.9), ("b", 0.1)):
        searcher.suggest(name)
        assert searcher.record(name, result(1, objective)) is False
        assert searcher.record(name, result(2, objective)) is (name == "b")
    pruned = searcher.study.get_trials()[1]
    assert pruned.state == TrialState.PRUNED and pruned.intermediate_values == {1: 0.1, 2: 0.1}
    assert searcher.record("b", result(3, 0.8)) is True  # its worker was lost before Tune had stopped it
    searcher.on_trial_complete("b", result(2, 0.1, done=True))  # Tune says so once more
    assert searcher.study.get_trials()[1].intermediate_values == pruned.intermediate_values
    assert searcher.study.get_trials()[1].state == TrialState.PRUNED


def test_a_trial_left_running_is_handed_out_first_with_its_number_and_parameters(make_searcher):
    first = make_searcher(trials=3, pruner="none")
    first.suggest("a")
    left = first.suggest("b")
    first.record("b", result(1, 0.2))
    first.on_trial_complete("a", result(10, 0.5, done=True))

    second = make_searcher(trials=3, pruner="none")
    assert second.pending()
    again = second.suggest("x")
    assert again == left
    second.record("x", result(1, 0.3))  # repeated after the checkpoint: the first value stays
    second.on_trial_complete("x", result(10, 0.6, done=True))
    assert second.suggest("y")["number"] == 2
    assert second.suggest("z") is None, "it may lose its worker, rest and come back: Tune never asks after FINISHED"
    assert states(second) == [TrialState.COMPLETE, TrialState.COMPLETE, TrialState.RUNNING]
    assert second.study.get_trials()[1].intermediate_values == {1: 0.2, 10: 0.6}


def test_a_trial_stopped_from_outside_stays_running(make_searcher):
    searcher = make_searcher()
    searcher.suggest("a")
    searcher.on_trial_complete("a", result(3, 0.4))
    assert states(searcher) == [TrialState.RUNNING]


def test_a_trial_that_tune_gives_up_is_handed_out_again(make_searcher):
    searcher = make_searcher(pruner="none", trials=1)
    given = searcher.suggest("a")
    searcher.on_trial_complete("a", error=True)
    assert searcher.suggest("b") == given and set(searcher.live) == {"b"}
    searcher.on_trial_complete("b", result(10, 0.7, done=True))
    assert searcher.suggest("c") == Searcher.FINISHED and states(searcher) == [TrialState.COMPLETE]


def test_workers_that_die_on_living_nodes_fail_a_trial_after_some_and_lost_nodes_never_do(make_searcher, monkeypatch):
    monkeypatch.setattr(retries, "PAUSES", (0,))
    searcher = make_searcher(pruner="none")
    searcher.suggest("a")
    for i in range(3 * MAX_WORKER_DEATHS):  # each node is found to be gone when the next one is
        searcher.worker_died("a", Death(f"spot {i}", "its node has died"), {f"spot {j}" for j in range(i)})
    (trial,) = searcher.study.get_trials()
    assert trial.state == TrialState.RUNNING and trial.user_attrs["deaths"] == [f"spot {i}"]
    gone = {f"spot {j}" for j in range(i + 1)}
    for _ in range(MAX_WORKER_DEATHS):
        searcher.worker_died("a", Death("solid", "segmentation fault"), gone)
    searcher.worker_died("a", Death("new", "it does not answer", certain=False), gone)
    assert states(searcher) == [TrialState.RUNNING], "its node may be gone as well"

    again = make_searcher(pruner="none")  # another process, which may run on another cluster
    again.suggest("b")
    assert "a" in searcher.live and "b" in again.live
    again.worker_died("b", Death("other", "segmentation fault"), {"new"})
    (trial,) = again.study.get_trials()
    assert trial.state == TrialState.FAIL and "b" not in again.live
    assert trial.user_attrs["reason"] == "its worker died or could not save 4 times; last: segmentation fault"
    again.worker_died("b", Death("other", "more"), set())  # Tune has a new worker for it, which nobody needs


def fail(searcher, *names, reason="nan"):
    for name in names:
        searcher.on_trial_complete(name, {"failure": reason, "done": True})


def test_five_trials_of_which_none_has_reported_stop_the_study(make_searcher):
    searcher = make_searcher(trials=20)
    for name in "abcde":
        assert searcher.stop_reason is None
        searcher.suggest(name)
        fail(searcher, name, reason="oom" if name == "b" else "nan")
    assert searcher.stop_reason == "all 5 trials that have ended failed before their first report: nan"
    assert searcher.suggest("more") == Searcher.FINISHED


def test_who_has_seen_one_report_goes_on_whatever_fails(make_searcher):
    first = make_searcher(trials=40)
    first.suggest("healthy")
    first.record("healthy", result(1, 0.1))
    for searcher in (first, make_searcher(trials=40)):  # and another process
        for name in "abcdefg":
            searcher.suggest(name)
            fail(searcher, name)
        assert searcher.stop_reason is None


def test_a_few_failures_beside_many_running_trials_stop_nothing(make_searcher):
    searcher = make_searcher(trials=200)
    for i in range(64):
        searcher.suggest(str(i))
    fail(searcher, *(str(i) for i in range(31)))
    assert searcher.stop_reason is None, "33 trials may yet report"
    fail(searcher, "31")
    assert searcher.stop_reason is not None


def test_checkpoints_that_could_not_be_read_are_recorded_with_the_trial(make_searcher):
    searcher = make_searcher(pruner="none")
    searcher.suggest("a")
    for report, lines in ((1, ["step_000000004.pt cannot be read: began again"]), (2, []), (3, ["another"])):
        searcher.record("a", result(report, 0.5) | {"passed_over": lines})
    searcher.on_trial_complete("a", result(10, 0.5, done=True))
    (trial,) = searcher.study.get_trials()
    assert trial.user_attrs["progress"]["passed_over"] == ["step_000000004.pt cannot be read: began again", "another"]


FULL = Death("node", "the node 10.0.0.1 ran out of memory (22GB of 23GB were in use)", memory=True)


@pytest.fixture
def clock(monkeypatch):
    """Seconds, to be set; all searchers made after it count by them."""
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(searcher_module, "Retries", lambda: retries.Retries(lambda: now.seconds))
    return now


def test_a_trial_that_is_short_of_memory_rests_and_nothing_else_begins(make_searcher, clock):
    searcher = make_searcher(trials=3, pruner="none")
    first = searcher.suggest("a")
    searcher.worker_died("a", FULL, set())
    assert "a" not in searcher.live and searcher.suggest("b") is None
    assert searcher.retries.take_notes() == [f"0: {FULL.words}; it goes on in 10 s"]
    assert searcher.retries.take_notes() == []
    clock.seconds = 9.0
    assert searcher.suggest("b") is None
    clock.seconds = 10.0
    assert searcher.suggest("b") == first, "the same trial, which finds its checkpoint in its folder"
    assert searcher.suggest("c")["number"] == 1
    searcher.on_trial_complete("b", result(10, 0.5, done=True))
    assert states(searcher) == [TrialState.COMPLETE, TrialState.RUNNING]


def test_pauses_grow_until_a_report_and_then_the_next_session_goes_on(make_searcher, clock):
    searcher = make_searcher(trials=2, pruner="none")
    searcher.suggest("0")
    searcher.worker_died("0", FULL, set())
    rounds = len(retries.MEMORY_PAUSES) + 1
    for i in range(rounds):
        clock.seconds += 1000
        searcher.suggest(f"again {i}")
        if i == 0:
            searcher.record("again 0", result(1, 0.2))
            searcher.retries.take_notes()
        searcher.worker_died(f"again {i}", FULL, set())
    *pauses, last = searcher.retries.take_notes()
    assert [float(line.split()[-2]) for line in pauses] == list(retries.MEMORY_PAUSES), "they begin anew at a report"
    assert last == f"0 waits: {FULL.words}, {rounds} times; the same command goes on with it"
    assert searcher.suggest("next")["number"] == 1, "it is over for this session"
    searcher.on_trial_complete("next", result(10, 0.1, done=True))
    assert searcher.suggest("none") == Searcher.FINISHED
    (row, _) = sorted(trial_table(searcher.study).to_pylist(), key=lambda row: row["number"])
    assert (row["state"], row["reason"]) == ("RUNNING", FULL.words), "a bad result for nobody"

    again = make_searcher(trials=2, pruner="none")  # the same command
    assert again.suggest("x")["number"] == 0
    again.on_trial_complete("x", result(10, 0.5, done=True))
    assert again.suggest("y") == Searcher.FINISHED and states(again) == [TrialState.COMPLETE] * 2
    assert {row["reason"] for row in trial_table(again.study).to_pylist()} == {None}


def test_a_node_without_memory_stops_a_study_in_which_nothing_has_reported(make_searcher, clock):
    searcher = make_searcher(trials=20, pruner="none")
    for i in range(5 * (len(retries.MEMORY_PAUSES) + 1)):
        clock.seconds += 1000
        assert searcher.stop_reason is None
        searcher.suggest(str(i))
        searcher.worker_died(str(i), FULL, set())
    assert searcher.stop_reason == (
        "all 5 trials that have ended failed before their first report: the node ran out of memory"
    )
    assert make_searcher(trials=20, pruner="none").suggest("x")["number"] == 0


def test_the_second_and_third_death_of_a_worker_are_followed_by_pauses(make_searcher, clock):
    searcher = make_searcher(pruner="none")
    searcher.suggest("0")
    for i, pause in enumerate((0, 15, 60)):
        searcher.worker_died(str(i), Death("solid", "segmentation fault"), set())
        if pause:
            clock.seconds += pause - 1
            assert searcher.suggest("early") is None
            clock.seconds += 1
            assert searcher.suggest(str(i + 1))["number"] == 0
        else:
            searcher.live[str(i + 1)] = searcher.live.pop(str(i))  # Tune itself gives it a worker
    searcher.worker_died("3", Death("solid", "segmentation fault"), set())
    assert states(searcher) == [TrialState.FAIL]


def test_a_trial_that_hangs_goes_on_once_and_is_then_failed_for_that_reason(make_searcher):
    searcher = make_searcher(pruner="none")
    searcher.suggest("a")
    killed = Death("node", "it was killed by `ray.kill`")
    searcher.hangs("a", 1800.0)
    searcher.worker_died("a", killed, set())
    assert "a" in searcher.live and "deaths" not in searcher.study.get_trials()[0].user_attrs
    assert searcher.retries.take_notes() == [
        "0: no report for 30 minutes (--trial-timeout); it goes on with a new worker"
    ]
    again = make_searcher(pruner="none")
    again.suggest("b")
    again.hangs("b", 2400.0)
    again.worker_died("b", killed, set())
    (trial,) = again.study.get_trials()
    assert trial.state == TrialState.FAIL and worker_lost(trial), "no fault of its hyperparameters"
    assert trial.user_attrs["reason"] == "it hung 2 times: no report for 40 minutes (--trial-timeout)"


def test_the_time_that_reports_take_is_known_to_the_next_session(make_searcher):
    searcher = make_searcher(pruner="none")
    searcher.suggest("a")
    assert searcher.reports.limit is None
    searcher.record("a", result(1, 0.2, **{"time/train_s": 300.0}))
    limit = searcher.reports.limit
    assert limit == 10 * 300.5 and make_searcher(pruner="none").reports.limit == limit


def refusing(searcher, *numbers):
    """``searcher`` with a space that has nothing for the trials ``numbers``, as one of the user's own may."""

    def some(trial, base):
        if trial.number in numbers:
            raise ValueError(f"nothing for {trial.number}\nbut this line")
        return space(trial, base)

    searcher.proposal = dataclasses.replace(searcher.proposal, space=some)
    return searcher


def test_a_draw_that_the_space_refuses_fails_that_trial_and_the_study_goes_on(make_searcher):
    searcher = refusing(make_searcher(trials=5), 1, 2)
    assert [searcher.suggest(name)["number"] for name in "abc"] == [0, 3, 4]
    stored = searcher.study.get_trials()
    assert [trial.state.name for trial in stored] == ["RUNNING", "FAIL", "FAIL", "RUNNING", "RUNNING"]
    assert stored[1].user_attrs["reason"] == "nothing for 1"
    assert make_searcher(trials=5).suggest("again")["number"] == 0, "another session does not meet it again"


def test_a_space_that_refuses_every_draw_stops_the_study(make_searcher):
    searcher = refusing(make_searcher(trials=50), *range(1, 50))
    searcher.suggest("healthy")
    searcher.record("healthy", result(1, 0.1))
    assert searcher.suggest("next") == Searcher.FINISHED
    assert searcher.stop_reason == "5 proposals in a row could not be made: nothing for 5"
    assert len(searcher.study.get_trials()) == 6
