"""Workers and nodes that die on a real cluster: whose failure it is."""

import os
import signal

import pytest
import ray
from optuna.trial import TrialState
from ray.cluster_utils import Cluster

from study.cluster import ray_runtime
from study.results_folder import ROOT
from study.search import searcher
from tests.study.test_many_workers import raylet_of
from tests.study.test_study_on_ray import Watch, index, study

__all__ = ["index"]  # a fixture
pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def cluster():
    """A cluster whose head has no CPU, and one node with one."""
    ray.shutdown()
    with pytest.MonkeyPatch.context() as patch:
        for key, value in {**ray_runtime.QUIET, "RAY_AUTH_MODE": "disabled"}.items():
            patch.setenv(key, value)
        soon = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 3}
        head = {"num_cpus": 0, "object_store_memory": 2**28, "_system_config": soon}
        made = Cluster(initialize_head=True, head_node_args=head)
        made.add_node(num_cpus=1, object_store_memory=2**28)
        environment = {"env_vars": {"PYTHONPATH": str(ROOT)}}
        ray.init(address=made.address, log_to_driver=False, logging_level="ERROR", runtime_env=environment)
        yield made
        ray.shutdown()
        made.shutdown()


class Killer(Watch):
    """Kills a worker, or one node after another, each when the trial has saved itself; another node takes its place."""

    def __init__(self, cluster, *kills):
        super().__init__()
        self.cluster, self.left = cluster, list(kills)

    def on_trial_save(self, iteration, trials, trial, **info):
        pid = trial.last_result["pid"]
        if not self.left:
            return
        match self.left.pop(0):
            case "worker":
                os.kill(pid, signal.SIGKILL)
            case which, graceful:
                own, here = raylet_of(pid), which == "its node"  # else the node of its other worker
                (victim,) = [node for node in self.cluster.worker_nodes if (pid_of(node) == own) == here]
                self.cluster.remove_node(victim, allow_graceful=graceful)
                self.cluster.add_node(num_cpus=1, object_store_memory=2**28)


def pid_of(node):
    (raylet,) = node.all_processes["raylet"]
    return raylet.process.pid


def test_a_node_that_is_gone_costs_no_retry_and_a_worker_that_dies_alone_does(tmp_path, index, cluster, monkeypatch):
    monkeypatch.setattr(searcher, "MAX_WORKER_DEATHS", 0)
    one = {"trials": 1, "steps": 30, "reports": 5}
    spot = Killer(cluster, ("its node", False), ("its node", True))
    (trial,) = study(tmp_path / "node", index, spot, **one).get_trials()
    assert not spot.left and trial.state == TrialState.COMPLETE
    steps = [result["step"] for _, result in spot.results]
    assert steps[0] == 6 and 6 not in steps[1:] and steps[-1] == 30, "it began again from the start"

    alone = Killer(cluster, "worker")
    (trial,) = study(tmp_path / "worker", index, alone, **one).get_trials()
    assert trial.state == TrialState.FAIL and len(alone.results) == 1
    reason = trial.user_attrs["reason"]
    assert reason.startswith("its worker died or could not save 1 times; last: The actor is dead because its worker")
    assert not list((tmp_path / "worker").rglob("step_*.pt")), "its checkpoints were kept"

    cluster.add_node(num_cpus=1, object_store_memory=2**28)
    other = Killer(cluster, ("the other's node", False))
    (trial,) = study(tmp_path / "other", index, other, **one, workers_per_trial=2).get_trials()
    assert not other.left and trial.state == TrialState.COMPLETE
