"""How many trials fit on which nodes."""

import time

import pytest

from study.cluster import places, ray_runtime
from study.cluster.places import Places, fitting
from study.config import StudyConfig


def config(**more):
    return StudyConfig(**{"model": "slot_attention", "trials": 50, **more})


@pytest.mark.parametrize(
    ("asked", "gpus", "nodes", "trials"),
    [
        ({"cpus": 0.5}, 0, [{"CPU": 2}], 4),
        ({"cpus": 0.5}, 0.25, [{"CPU": 64, "GPU": 2}], 8),
        ({"cpus": 2}, 0, [{"CPU": 3}, {"CPU": 3}, {"CPU": 3}], 3),  # 9 CPUs, and one left over on each node
        ({}, 1, [{"CPU": 4}, {"CPU": 8, "GPU": 4}, {"CPU": 2, "GPU": 4}], 6),
        ({}, 0.4, [{"CPU": 8, "GPU": 2}], 4),  # a share is of one GPU
        ({"workers_per_trial": 4}, 1, [{"CPU": 64, "GPU": 10}], 2),
        ({"workers_per_trial": 4}, 1, [{"CPU": 8, "GPU": 2}] * 3, 1),  # over several nodes
        ({"cpus": 0.1}, 0, [{"CPU": 1}], 10),
        ({}, 0, [{}, {"CPU": 2}], 2),
    ],
)
def test_what_fits(asked, gpus, nodes, trials):
    assert fitting(config(**asked), gpus, nodes) == trials


@pytest.mark.parametrize(
    ("asked", "gpus", "nodes", "message"),
    [
        ({}, 1, [{"CPU": 2}], r"--gpus 1 per trial, but no node that is up has GPUs \(`ray status`\); ask for less"),
        ({}, 0.5, [{"CPU": 2, "GPU": 0.25}], "--gpus 0.5 per trial, but the cluster has 0.25 GPUs; ask for less"),
        (
            {"cpus": 4},
            0,
            [{"CPU": 2}, {"CPU": 3}],
            "--cpus 4 per trial, but no node of the cluster has more than 3 CPUs",
        ),
        ({"workers_per_trial": 4}, 0, [{"CPU": 3}], "--cpus 1 and --gpus 0 for each of a trial's 4 workers, .* for 3;"),
        ({}, 1, [{"CPU": 4}, {"GPU": 4}], "--cpus 1 and --gpus 1 per trial, but the cluster has places for 0; ask"),
        ({}, 0, [], r"--cpus 1 per trial, but no node that is up has CPUs \(`ray status`\); wait for one"),
    ],
)
def test_what_does_not_fit_is_named(asked, gpus, nodes, message):
    with pytest.raises(ValueError, match=message):
        fitting(config(**asked), gpus, nodes)


def test_places_follow_the_cluster(monkeypatch):
    """On numbers; test_many_nodes.py has real nodes that join and leave."""
    nodes = [{"Resources": {"CPU": 2.0}}]
    monkeypatch.setattr(ray_runtime, "alive", lambda: nodes)
    monkeypatch.setattr(places, "LOOK_EVERY", -1.0)
    own, shared = Places(config(), 0, shared=False), Places(config(), 0, shared=True)
    asked, few = Places(config(concurrent=5), 0, shared=True), Places(config(trials=2), 0, shared=True)
    capped = Places(config(concurrent=5), 0, shared=False)
    assert [each.wanted() for each in (own, shared, asked, few, capped)] == [2, 3, 5, 2, 2]
    nodes.append({"Resources": {"CPU": 4.0}})
    assert [each.wanted() for each in (own, shared, asked, few, capped)] == [6, 7, 5, 2, 5]
    assert [each.count() for each in (own, shared, asked, few, capped)] == [6, 6, 5, 2, 5]
    nodes.clear()
    assert [each.wanted() for each in (own, shared, asked, few, capped)] == [1, 1, 5, 1, 1]
    assert shared.count() == 0 and 0 < shared.mean() < 6


def test_the_mean_follows_the_cluster_where_a_number_was_asked_for(monkeypatch):
    nodes = [{"Resources": {"CPU": 1.0}}]
    monkeypatch.setattr(ray_runtime, "alive", lambda: nodes)
    monkeypatch.setattr(places, "LOOK_EVERY", -1.0)
    asked = Places(config(concurrent=5), 0, shared=True)
    nodes.append({"Resources": {"CPU": 4.0}})
    assert asked.wanted() == 5  # one look, and nothing but calls as Tune makes them
    time.sleep(0.01)
    assert asked.mean() > 1
