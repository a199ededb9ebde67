"""Planning: early stopping simulated, figures that follow from one step, and the one line of a mistake."""

import dataclasses

import pytest
import torch
from rich.console import Console

import trainables
from study import dry_run, plan, presets
from study.config import StudyConfig
from study.plan import Machines, Step, estimate
from study.search import forecast
from study.search.forecast import stopping
from tests.trainables.test_contract import tiny

STEP = Step(seconds=0.5, batch=32, origin="given")


def planned(machines, trials=200, step=STEP, **changes):
    study = StudyConfig(model="space", trials=trials, **{"pruner": "none", "gpus": float(machines.gpus > 0), **changes})
    return estimate(step, machines, study, steps=72_000, images=45_000, image_bytes=65_536, validation_images=960)


def test_without_stopping_trials_run_in_rounds():
    assert stopping(7, 3, 10, "none") == (1.0, 3.0)


def test_successive_halving_keeps_as_many_steps_as_in_the_readmes_studies():
    share, length = stopping(50, 2, 10, "asha")
    assert 0.45 < share < 0.57
    assert length == pytest.approx(50 * share / 2, rel=0.05)


def test_of_trials_proposed_alike_about_a_third_goes_on_at_each_rung(monkeypatch):
    monkeypatch.setattr(forecast, "LEARNT", 0.0)
    share, length = stopping(3000, 1, 10, "asha")
    # a fifth of the steps for all, two fifths more for a third, the rest for a ninth; more while ranks are unknown
    assert 0.2 + 0.4 / 3 + 0.4 / 9 <= share < 0.4
    assert length == pytest.approx(3000 * share)


def test_a_place_that_falls_free_is_taken_at_once():
    share, length = stopping(640, 64, 10, "asha")
    assert length < 1.3 * share * 10


def test_hours_follow_from_the_step():
    found = planned(Machines(gpus=64))
    validation = 10 * 960 / 32 * 0.5 / 3
    assert found.trial_hours == pytest.approx((72_000 * 0.5 + validation) / 3600)
    assert found.at_a_time == 64 and found.hours == pytest.approx(4 * found.trial_hours)
    assert found.device_hours == pytest.approx(200 * found.trial_hours)
    assert found.store_bytes == 45_000 * 65_536
    few = planned(Machines(gpus=64), trials=20)
    assert few.cluster_hours == pytest.approx(64 * few.trial_hours), "idle GPUs are paid for"


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
    assert max(loads, key=lambda key: loads[key]) == name and loads[name] > plan.HIGH
    assert set(loads) == set(plan.REMEDIES)


def test_the_command_prints_a_plan(capsys):
    line = (
        "--model slot_attention --trials 200 --gpus 64 --price 2 --seconds-per-step 0.25 --data clevrtex:full --seed 3"
    )
    assert plan.main(line.split()) == 0
    printed = capsys.readouterr().out
    assert "200 trials of slot_attention on clevrtex:full-(128,128), paper preset, 500,000 steps" in printed
    assert "64 GPUs on 8 nodes; 64 trials at a time, 1 GPU each" in printed
    assert "bottleneck: " in printed and "at 2 an hour" in printed
    assert "with early stopping: " in printed and "assumed: " in printed and "not counted: " in printed


def test_the_command_says_what_it_takes_for_granted(capsys):
    line = "--model slot_attention --gpus 64 --seconds-per-step 0.25 --data clevrtex:full --pruner median"
    assert plan.main([*line.split(), "--workers-per-trial", "4"]) == 0
    printed = capsys.readouterr().out
    assert "16 trials at a time, 4 GPUs each" in printed and "if 4 workers are 4 times as fast" in printed
    assert "early stopping" not in printed and "nor what --pruner median saves" in printed
    assert plan.main([*line.split(), "--gpus-per-trial", "0.5"]) == 0
    assert "if 0.5 of a GPU is 0.5 times as fast as all of it" in capsys.readouterr().out


def test_a_core_here_is_measured(capsys):
    assert plan.main("--model slot_attention --trials 4 --cpus 2 --set batch_size=2".split()) == 0
    assert "measured on one" in capsys.readouterr().out


@pytest.mark.skipif(torch.backends.cuda.is_built() and not torch.cuda.is_available(), reason="torch asks for a driver")
def test_a_gpu_here_is_not_taken_for_a_core_of_the_cluster(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert plan.main("--model slot_attention --trials 4 --cpus 2 --preset tiny --set batch_size=2".split()) == 0
    assert "measured on one CPU core" in capsys.readouterr().out
    study = StudyConfig(model="slot_attention", preset="tiny", set={"batch_size": 2})
    dry_run.show(presets.resolve(study, has_gpu=True), Console())
    assert "on one CPU core" in capsys.readouterr().out


@pytest.mark.parametrize(("preset", "images"), [("tiny", 3), ("paper", 1)])
def test_a_step_in_the_middle_of_a_trial_is_timed_on_the_images_of_a_pass(preset, images):
    study = StudyConfig(model="slot_attention", preset=preset, micro_batch=3, data="synthetic-(32,32)")
    model = trainables.build("slot_attention", tiny("slot_attention", batch_size=8, steps=1000), 32)
    seen = []
    model.register_forward_pre_hook(lambda _, arguments: seen.append((len(arguments[0]), arguments[1])))
    _, timed = dry_run.seconds_per_step(presets.resolve(study, has_gpu=False), model, torch.device("cpu"))
    assert timed == images and seen == [(images, 500)] * 2


def test_the_operations_of_an_image_are_counted():
    model = trainables.build("slot_attention", {"num_iters": 1}, 32)
    more = trainables.build("slot_attention", {"num_iters": 3}, 32)
    assert 0 < plan.count_operations(model, 32) < plan.count_operations(more, 32)


@pytest.mark.parametrize("name", trainables.names())
def test_the_operations_of_every_model_can_be_counted(name):
    model = trainables.build(name, tiny(name), 32)
    assert plan.count_operations(model, 32) > 0
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--model space --gpus -1", "--gpus is -1; it must be above zero"),
        ("--model space --gpus-per-trial 0", "--gpus-per-trial is 0.0"),
        ("--model spcae --gpus 4", "did you mean space"),
        ("--model space --gpus 1 --gpus-per-trial 2", "--gpus-per-trial 2 per trial, but the cluster has 1 GPUs"),
        ("--model space --gpus 2 --workers-per-trial 4", "the cluster has places for 2"),
        ("--model space --gpus 8 --gpus-per-trial 0.5 --workers-per-trial 2", "--gpus-per-trial is 0.5 with --workers"),
        ("--model space --gpus 8 --data clevrtex:clevr", "plan with clevrtex:full"),
    ],
)
def test_a_mistake_ends_with_one_line(line, says, capsys):
    assert plan.main(line.split()) == 2
    printed = capsys.readouterr().err
    assert says in printed and printed.count("\n") == 1


def test_every_figure_of_the_machines_is_a_flag(capsys):
    with pytest.raises(SystemExit):
        plan.main(["--help"])
    text = capsys.readouterr().out
    assert all("--" + field.name.replace("_", "-") in text for field in dataclasses.fields(Machines))
