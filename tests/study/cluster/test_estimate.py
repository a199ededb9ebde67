"""The figures of a plan, which follow from one step."""

import pytest

from study.cluster import estimate
from study.cluster.estimate import Machines, Step
from study.config import StudyConfig

STEP = Step(seconds=0.5, batch=32, origin="given")


def planned(machines, trials=200, step=STEP, reruns=0, **changes):
    study = StudyConfig(model="space", trials=trials, **{"pruner": "none", "gpus": float(machines.gpus > 0), **changes})
    return estimate.estimate(
        step,
        machines,
        study,
        steps=72_000,
        reports=10,
        images=45_000,
        image_bytes=65_536,
        validation_images=960,
        reruns=reruns,
    )


def test_hours_follow_from_the_step():
    found = planned(Machines(gpus=64))
    validation = 10 * 960 / 32 * 0.5 / 3
    assert found.trial_hours == pytest.approx((72_000 * 0.5 + validation) / 3600)
    assert found.at_a_time == 64 and found.hours == pytest.approx(4 * found.trial_hours)
    assert found.device_hours == pytest.approx(200 * found.trial_hours)
    assert found.store_bytes == 45_000 * 65_536
    few = planned(Machines(gpus=64), trials=20)
    assert few.cluster_hours == pytest.approx(64 * few.trial_hours), "idle GPUs are paid for"


def test_the_finalists_are_trained_in_full_after_the_search():
    alone, both = planned(Machines(gpus=8)), planned(Machines(gpus=8), reruns=12)
    assert alone.rerun_hours == 0 and both.rerun_hours == pytest.approx(2 * both.trial_hours), "8 of the 12, then 4"
    assert both.hours == pytest.approx(alone.hours + both.rerun_hours)
    assert both.hours_without_pruning == pytest.approx(both.hours), "nothing is pruned here"
    assert both.device_hours == pytest.approx(212 * both.trial_hours)
    one_trial = planned(Machines(gpus=8), trials=1, reruns=12, concurrent=4)
    assert one_trial.rerun_hours == pytest.approx(3 * one_trial.trial_hours), "--trials does not limit reruns"


def test_a_share_of_a_gpu_is_that_share_of_its_speed():
    whole, half = planned(Machines(gpus=64)), planned(Machines(gpus=64), gpus=0.5)
    assert half.at_a_time == 128 and half.trial_hours == pytest.approx(2 * whole.trial_hours)
    assert half.device_hours == pytest.approx(whole.device_hours)
    assert planned(Machines(gpus=64), gpus=0.6).at_a_time == 64, "two of them do not fit on one GPU"


def test_workers_share_the_training_of_a_trial_and_one_of_them_validates():
    alone, four = planned(Machines(gpus=64)), planned(Machines(gpus=64), workers_per_trial=4)
    validation = 10 * 960 / 32 * 0.5 / 3
    assert four.at_a_time == 16 and four.trial_hours == pytest.approx((72_000 * 0.5 / 4 + validation) / 3600)
    assert four.device_hours == pytest.approx(200 * four.trial_hours * 4)
    assert four.loads["gathering batches"] == alone.loads["gathering batches"]


def test_nodes_have_whole_workers():
    assert [node["GPU"] for node in Machines(gpus=12, per_node=5).nodes()] == [5, 5, 2]
    assert [node["CPU"] for node in Machines(cpus=2, per_node=8).nodes()] == [2]
    assert planned(Machines(gpus=12, per_node=5), gpus=3.0).at_a_time == 2


@pytest.mark.parametrize(
    ("name", "machines", "changes"),
    [
        ("the length of a trial", Machines(gpus=64), {"trials": 20}),
        ("the driver", Machines(gpus=10_000), {"trials": 50_000, "step": Step(1e-4, 32, "given")}),
        ("memory for the data", Machines(gpus=4, node_memory=8.0), {}),
        ("reading the data", Machines(gpus=4, network=1e-6), {}),
        ("gathering batches", Machines(gpus=4), {"step": Step(1e-3, 32, "given")}),
    ],
)
def test_the_bottleneck_is_named(name, machines, changes):
    loads = planned(machines, **changes).loads
    assert max(loads, key=lambda key: loads[key]) == name and loads[name] > estimate.HIGH
    assert set(loads) == set(estimate.REMEDIES)
