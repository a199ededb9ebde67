"""Trials of two workers on a real Ray: they compete, are pruned, lose a worker or run out of memory, and free all."""

import os
import signal
import threading
import time
from pathlib import Path

import optuna
import pytest
import ray
from optuna.trial import TrialState

from study.search import strategies
from tests.study.test_study_on_ray import Watch, index, study

__all__ = ["index"]  # a fixture
pytestmark = pytest.mark.ray


def all_workers(parent: int) -> list[int]:
    """Processes of the workers beside rank 0 that the raylet ``parent`` has."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                if (folder / "cmdline").read_bytes().startswith(b"ray::Worker"):
                    found.append(int(folder.name))
        except OSError:
            continue  # it has just ended
    return found


def raylet_of(worker: int) -> int:
    return int(Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1])


class KillEachOnce(Watch):
    """Kills rank 1 of trial 0 and rank 0 of trial 1, each while it trains after its second report."""

    def __init__(self):
        super().__init__()
        self.killed = []
        self.raylet = 0

    def on_trial_result(self, iteration, trials, trial, result, **info):
        super().on_trial_result(iteration, trials, trial, result, **info)
        number = trial.config["number"]
        self.raylet = raylet_of(result["pid"])
        if number in self.killed or [n for n, _ in self.results].count(number) < 2:
            return
        self.killed.append(number)
        victims = [result["pid"]] if number == 1 else all_workers(self.raylet)
        assert len(victims) == 1
        threading.Timer(0.2, os.kill, (victims[0], signal.SIGKILL)).start()


def everything_is_free(raylet: int) -> bool:
    """Whether all CPUs and processes are free within ten seconds."""
    assert raylet, "no result was seen"
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if ray.available_resources().get("CPU") == ray.cluster_resources()["CPU"] and not all_workers(raylet):
            return True
        time.sleep(0.1)
    return False


def test_two_workers_train_as_one_does_and_trials_that_compete_wait_for_each_other(tmp_path, index, ray_cluster):
    watch = KillEachOnce()
    watch.killed = [0, 1, 2]  # nobody
    two = study(tmp_path / "two", index, watch, trials=3, workers_per_trial=2).get_trials()
    assert [trial.state for trial in two] == [TrialState.COMPLETE] * 3
    assert everything_is_free(watch.raylet)
    alone = Watch()
    one = study(tmp_path / "one", index, alone, trials=1).get_trials()
    assert two[0].params == one[0].params
    # without any exchange of gradients the losses are 2.5e-3 apart at the end, and the scores of so few steps alike
    by_two, by_one = (
        [result["train/loss"] for number, result in each.results if number == 0] for each in (watch, alone)
    )
    assert len(by_one) == 5 and by_two == pytest.approx(by_one, rel=1e-4)


def test_a_trial_goes_on_when_either_of_its_workers_is_killed(tmp_path, index, ray_cluster):
    watch = KillEachOnce()
    trials = study(tmp_path, index, watch, steps=100, workers_per_trial=2).get_trials()
    assert sorted(watch.killed) == [0, 1]
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 2
    for number in (0, 1):
        steps = [result["step"] for n, result in watch.results if n == number]
        assert steps[:2] == [20, 40] and steps[-1] == 100
        assert 20 not in steps[2:], "it began again from the start"
    assert everything_is_free(watch.raylet)


def test_pruned_trials_free_everything(tmp_path, index, ray_cluster, monkeypatch):
    monkeypatch.setattr(strategies, "pruner", lambda name, reports: optuna.pruners.ThresholdPruner(lower=2.0))
    watch = KillEachOnce()
    trials = study(tmp_path, index, watch, trials=3, workers_per_trial=2).get_trials()
    assert [trial.state for trial in trials] == [TrialState.PRUNED] * 3
    assert everything_is_free(watch.raylet)


@pytest.mark.parametrize("workers", [1, 2])
def test_running_out_of_memory_is_a_failure_that_names_the_remedy_and_no_retry(workers, tmp_path, index, ray_cluster):
    # 2 TB of slots: refused by any machine, at once
    huge = {"num_slots": 10**9}
    trials = study(tmp_path, index, Watch(), trials=1, set=huge, workers_per_trial=workers).get_trials()
    assert [trial.state for trial in trials] == [TrialState.FAIL]
    assert trials[0].user_attrs["reason"].startswith("out of memory: start over with a smaller --micro-batch")
    assert not list(tmp_path.rglob("error.txt")), "Tune tried again"
