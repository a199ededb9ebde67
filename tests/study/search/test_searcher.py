"""Searcher and proposal against a real Optuna storage; Tune's part is in test_study_on_ray.py."""

import pytest
from optuna.trial import TrialState, create_trial
from ray.tune.search import Searcher

from study.config import StudyConfig
from study.report import trial_table
from study.results_folder import StudyFolder
from study.search import storage
from study.search.proposal import Proposal
from study.search.searcher import StudySearcher


def space(trial, base):
    """Around the base; momentum only with one optimizer."""
    values = {"lr": trial.suggest_float("lr", base["lr"] / 10, base["lr"] * 10, log=True)}
    values["optimizer"] = trial.suggest_categorical("optimizer", ["adam", "rmsprop"])
    if values["optimizer"] == "rmsprop":
        values["momentum"] = trial.suggest_float("momentum", 0.0, 1.0)
    return values


BASE = {"lr": 0.01, "optimizer": "adam", "momentum": 0.0, "image_size": 32}


@pytest.fixture
def make_searcher(tmp_path):
    """A searcher over the same journal each time, as a new process would open it."""

    def make(trials=4, fixed=None, **config):
        folder = StudyFolder(tmp_path)
        asked = StudyConfig(model="slot_attention", reports=10, **config)
        proposal = Proposal(space, {**BASE, **(fixed or {})}, fixed or {}, ("lr", "optimizer", "momentum"))
        return StudySearcher(storage.open_study(asked, folder, {}), folder, trials, proposal)

    return make


def result(report, objective, **more):
    return {
        "report": report,
        "objective": objective,
        "step": report * 10,
        "hostname": "here",
        "time/train_s": 1.0,
        "time/validation_s": 0.5,
        "val/mIoU_fg": objective,
        **more,
    }


def states(searcher):
    return [trial.state for trial in searcher.study.get_trials()]


def test_the_first_trial_is_the_base_and_constants_do_not_reach_the_model(make_searcher):
    searcher = make_searcher()
    config = searcher.suggest("a")
    assert config["hyperparameters"] == {"lr": 0.01, "optimizer": "adam", "momentum": 0.0}
    assert config["number"] == 0 and config["folder"].endswith("trials/trial_0000")


def test_fixed_hyperparameters_are_not_searched(make_searcher):
    searcher = make_searcher(fixed={"optimizer": "rmsprop", "lr": 0.5})
    for name in "abcd":
        config = searcher.suggest(name)
        assert config["hyperparameters"]["lr"] == 0.5
        assert config["hyperparameters"]["optimizer"] == "rmsprop"
    assert all(set(trial.params) == {"momentum"} for trial in searcher.study.get_trials())


def test_outcomes_reach_the_storage_with_their_values(make_searcher):
    searcher = make_searcher(pruner="none")
    for name in "abc":
        searcher.suggest(name)
    assert searcher.record("a", result(1, 0.1)) is False
    searcher.on_trial_complete("a", result(10, 0.7, done=True))
    searcher.on_trial_complete("b", {"failure": "training loss is nan", "done": True})
    searcher.on_trial_complete("c", error=True)
    complete, diverged, died = searcher.study.get_trials()
    assert complete.state == TrialState.COMPLETE and complete.value == 0.7
    assert complete.intermediate_values == {1: 0.1, 10: 0.7}
    assert complete.user_attrs["progress"] == {
        "seconds": 3.0,
        "step": 100,
        "validation": {"mIoU_fg": 0.7},
        "hosts": ["here"],
    }
    assert diverged.state == TrialState.FAIL and diverged.user_attrs["reason"] == "training loss is nan"
    assert died.state == TrialState.FAIL and "worker died" in died.user_attrs["reason"]
    assert searcher.busy_seconds == 3.0


def test_a_trial_on_several_hosts_and_its_largest_memory_are_on_record(make_searcher):
    searcher = make_searcher(pruner="none")
    searcher.suggest("a")
    for number, (host, memory) in enumerate([("one", 1.0), ("two", 3.0), ("two", 2.0)], start=1):
        searcher.record("a", result(number, 0.1, hostname=host, **{"memory/gpu_gib": memory}))
    (row,) = trial_table(searcher.study).to_pylist()
    assert (row["hosts"], row["gpu_gib"]) == (["one", "two"], 3.0)


def test_successive_halving_prunes_at_a_fifth_and_keeps_the_intermediate_values(make_searcher):
    searcher = make_searcher(trials=3)
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
    assert second.suggest("z") == Searcher.FINISHED
    assert states(second) == [TrialState.COMPLETE, TrialState.COMPLETE, TrialState.RUNNING]
    assert second.study.get_trials()[1].intermediate_values == {1: 0.2, 10: 0.6}


def test_a_trial_stopped_from_outside_stays_running(make_searcher):
    searcher = make_searcher()
    searcher.suggest("a")
    searcher.on_trial_complete("a", result(3, 0.4))
    assert states(searcher) == [TrialState.RUNNING]


def test_a_restart_does_not_propose_the_same_random_trials_again(make_searcher):
    first = make_searcher(trials=3, sampler="random")
    before = {first.suggest(name)["hyperparameters"]["lr"] for name in "abc"}
    for name in "abc":
        first.on_trial_complete(name, result(10, 0.5, done=True))
    second = make_searcher(trials=6, sampler="random")
    after = {second.suggest(name)["hyperparameters"]["lr"] for name in "xyz"}
    assert len(before | after) == 6


def test_five_failures_in_a_row_for_one_reason_stop_the_study(make_searcher):
    searcher = make_searcher(trials=20)
    reasons = ["nan", "nan", "oom", *["nan"] * 4]
    for i, reason in enumerate(reasons):
        searcher.suggest(str(i))
        searcher.on_trial_complete(str(i), {"failure": reason, "done": True})
    assert searcher.stop_reason is None
    searcher.suggest("last")
    searcher.on_trial_complete("last", {"failure": "nan", "done": True})
    assert searcher.stop_reason == "5 trials in a row failed: nan"
    assert searcher.suggest("more") == Searcher.FINISHED


@pytest.mark.parametrize("name", ["tpe", "random", "cmaes", "gp"])
def test_every_sampler_proposes(make_searcher, name):
    searcher = make_searcher(trials=13, sampler=name)
    for i in range(12):
        searcher.suggest(str(i))
        searcher.on_trial_complete(str(i), result(10, i / 12, done=True))
    lr = searcher.suggest("last")["hyperparameters"]["lr"]
    assert 0.001 <= lr <= 0.1


@pytest.mark.parametrize("name", ["asha", "hyperband", "median"])
def test_no_pruner_stops_before_a_fifth_and_each_can_stop(make_searcher, name):
    searcher = make_searcher(trials=12, pruner=name)
    stopped = []
    for i in range(12):
        searcher.suggest(str(i))
        for report in range(1, 10):
            if searcher.record(str(i), result(report, 1.0 - i / 12)):
                stopped.append(report)
                break
        else:
            searcher.on_trial_complete(str(i), result(10, 1.0 - i / 12, done=True))
    assert stopped and min(stopped) >= 2


def test_minimised_objectives_are_ranked_from_below(make_searcher):
    searcher = make_searcher(trials=3, metric="MSE", pruner="none")
    for name, objective in (("a", 5.0), ("b", 3.0), ("c", 4.0)):
        searcher.suggest(name)
        searcher.on_trial_complete(name, result(10, objective, done=True))
    assert storage.best_trials(searcher.study, 2) == [1, 2]


def test_a_large_study_and_a_large_seed_can_be_continued(make_searcher):
    searcher = make_searcher(trials=1, seed=2**40)
    searcher.study.add_trials([create_trial(value=0.5)] * 5000)
    again = make_searcher(trials=9000, seed=2**40, sampler="tpe")
    assert again.study.sampler is not None and again.pending()


def test_a_shared_storage_keeps_studies_of_one_name_apart(tmp_path):
    url = f"sqlite:///{tmp_path / 'studies.db'}"
    asked = StudyConfig(model="slot_attention", storage=url)
    here, there = StudyFolder(tmp_path / "a" / "study"), StudyFolder(tmp_path / "b" / "study")
    storage.open_study(asked, here, {"seed": 0}).ask()
    assert len(storage.open_study(asked, here, {"seed": 0}).get_trials()) == 1
    for folder, identity in ((there, {"seed": 0}), (here, {"seed": 1})):
        with pytest.raises(ValueError, match="has a study study already"):
            storage.open_study(asked, folder, identity)
    fresh = StudyConfig(model="slot_attention", storage=url, fresh=True)
    assert storage.open_study(fresh, there, {"seed": 0}).get_trials() == []


def test_an_unreachable_storage_is_one_clear_line(tmp_path):
    with pytest.raises(ValueError, match="cannot be opened"):
        storage.storage(StudyFolder(tmp_path), "nosuch://database")
