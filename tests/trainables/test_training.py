"""The training loop, on a model whose training is worked out by hand (``tests.trainables.toy``)."""

import dataclasses
import math

import numpy as np
import pytest
import torch

import trainables
from data.loader import Split, image_tensor
from tests.trainables import scenes, toy
from tests.trainables.toy import TASK, by_hand, state, training
from trainables import checkpoint
from trainables.model import SegmentationModel
from trainables.scoring import evaluate, panel
from trainables.training import CHECK_EVERY, INITIAL_IMAGES, Diverged, Training


@pytest.fixture(autouse=True)
def _findable():
    with toy.findable():
        yield


class Watched(Split):
    """A split that remembers which rows were asked for."""

    def __init__(self, tables):
        super().__init__(tables)
        self.rows = []

    def gather(self, rows):
        self.rows.append(rows.tolist())
        return super().gather(rows)

    def images(self, rows):
        self.rows.append(rows.tolist())
        return super().images(rows)


def watched(count, size=toy.SIZE):
    return Watched(scenes.split(count, size)._tables)


def loss_of(split, rows, now):
    """The toy's loss in evaluation mode."""
    x = split.gather(np.array(rows))[0].mean((1, 2, 3)) / 255
    return float(((now["a"] * x + now["b"] - 0.5) ** 2 + (now["c"] * x - now["d"] - 0.25) ** 2).mean())


@pytest.mark.parametrize("micro_batch", [None, 1, 4])
@pytest.mark.parametrize("config", [{}, {"grad_clip": 0.05}, {"batch_size": 5, "lr": 0.03}], ids=str)
def test_the_steps_are_those_worked_out_by_hand(config, micro_batch):
    run = training(dataclasses.replace(TASK, micro_batch=micro_batch), **config)
    expected, means = by_hand(state(run), steps=5, **config)
    assert run.advance(5) == pytest.approx(means, rel=1e-5)
    assert state(run) == pytest.approx(expected, rel=1e-5)
    assert run.step == 5


def test_clipping_is_by_the_joint_norm_and_only_above_the_limit():
    large, none = training(grad_clip=1e6), training()
    small = training(grad_clip=0.05)
    for run in (large, none, small):
        run.advance(1)
    assert state(large) == state(none)
    gradients = [float(parameter.grad) for parameter in small.model.parameters()]
    assert math.hypot(*gradients) == pytest.approx(0.05, rel=1e-4)


def test_a_trial_continued_from_a_checkpoint_is_the_one_worked_out_by_hand(tmp_path):
    first = training()
    expected, _ = by_hand(state(first), steps=5)
    first.advance(2)
    checkpoint.save(tmp_path, first.state())
    second = training(number=1)  # other weights, noise and order of images
    second.load_state(checkpoint.newest(tmp_path))
    assert second.step == 2
    second.advance(3)
    assert state(second) == pytest.approx(expected, rel=1e-5)
    first.advance(3)
    assert state(second) == state(first)


def test_reports_are_evenly_spaced_and_hold_training_and_validation():
    run, split = training(), watched(12)
    reports = [run.report(split) for _ in range(4)]
    assert [(r["report"], r["step"], r["done"]) for r in reports] == [
        *[(1, 2, False), (2, 5, False), (3, 8, False)],
        (4, 10, True),
    ]
    assert [r["lr"] for r in reports] == pytest.approx([0.1 * 0.5 ** (r["step"] - 1) for r in reports])
    assert [r["lr/2"] for r in reports] == pytest.approx([0.3 * (1 + (r["step"] - 1) / 4) for r in reports])
    last = reports[-1]
    assert last["objective"] == last["val/MSE"]
    assert last["parameters"] == sum(p.numel() for p in run.model.parameters()) > 0
    assert last["time/train_s"] > 0 and last["time/validation_s"] > 0
    again = training()
    assert reports[0]["train/loss"] == again.advance(2)["loss"]
    assert reports[0]["val/loss"] == again.validate(split)["loss"]


def test_a_validation_scores_evenly_spread_images_in_evaluation_mode():
    run, split = training(), watched(13)
    run.advance(3)
    means = run.validate(split)
    (rows,) = split.rows
    assert rows == [0, 2, 4, 6, 8, 10, 12]
    now = state(run)
    assert means["loss"] == now["validations"] == pytest.approx(loss_of(split, rows, now), rel=1e-5)
    squares = (split.gather(np.array(rows))[0] / 255.0) ** 2
    assert means["MSE"] == pytest.approx((now["a"] - 1) ** 2 * squares.sum((1, 2, 3)).mean(), rel=1e-5)


def test_a_trial_killed_after_its_last_step_only_validates_again():
    run, split = training(), watched(8)
    run.advance(10)
    before = state(run)
    report = run.report(split)
    assert (report["report"], report["step"], report["done"]) == (4, 10, True)
    assert "train/loss" not in report and report["objective"] > 0
    assert {**state(run), "validations": 0.0} == before


def test_looking_at_a_model_does_not_shift_the_noise_of_training():
    once, often, split = training(), training(), watched(4)
    once.advance(4)
    for _ in range(4):
        often.advance(1)
        often.validate(split)
        panel(often.model, split, step=often.step)
    assert {**state(often), "validations": 0.0} == state(once)


def test_seed_and_number_fix_a_trial_and_nothing_else_does():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    runs = [training(), training(), training(number=1), training(dataclasses.replace(TASK, seed=6))]
    assert torch.equal(torch.get_rng_state(), before)
    for names in ("abcd", ["initial", "drawn", "losses"]):
        first, second, other_number, other_seed = map(state, runs)
        assert first == second
        for other in (other_number, other_seed):
            assert all(other[name] != first[name] for name in names)
        for run in runs:
            run.advance(1)


def test_bad_losses_end_a_trial_with_the_reason():
    for value in ("bad_loss_at", "bad_gradient_at"):
        training(**{value: 5}).advance(5)  # it is about to happen
    with pytest.raises(Diverged, match=r"^training loss is nan$"):
        training(bad_loss_at=5).advance(6)


@pytest.mark.parametrize("bad_at", [0, 3, 5])
def test_a_bad_gradient_ends_a_trial_and_leaves_no_bad_weights(bad_at):
    run = training(bad_gradient_at=bad_at)
    with pytest.raises(Diverged, match=r"^gradient norm is nan$"):
        run.advance(6)
    assert all(math.isfinite(value) for value in state(run).values())


def test_bad_numbers_are_found_at_the_next_check():
    run = training(bad_gradient_at=CHECK_EVERY)
    with pytest.raises(Diverged, match="gradient norm is nan"):
        run.advance(10 * CHECK_EVERY)
    assert run.step == 2 * CHECK_EVERY
    last = training(bad_loss_at=CHECK_EVERY - 1)
    with pytest.raises(Diverged, match="training loss is nan"):
        last.advance(10 * CHECK_EVERY)
    assert last.step == CHECK_EVERY


def test_a_bad_gradient_moves_weights_by_momentum_alone():
    run = training(bad_gradient_at=0)
    before = state(run)
    with pytest.raises(Diverged):
        run.advance(1)
    assert {name: before[name] for name in "abcd"} == {name: state(run)[name] for name in "abcd"}


def test_an_objective_that_is_not_finite_ends_a_trial():
    run = training(dataclasses.replace(TASK, metric="loss"))
    run.advance(1)
    with torch.no_grad():
        run.model.b.fill_(float("inf"))
    with pytest.raises(Diverged, match=r"^validation loss is inf$"):
        run.validate(watched(4))


def test_a_model_whose_masks_are_no_numbers_has_diverged():
    run = training()
    run.advance(1)
    with torch.no_grad():
        run.model.a.fill_(float("inf"))
    with pytest.raises(Diverged, match=r"^validation MSE is nan$"):
        run.validate(watched(4))


def test_a_model_sees_evenly_spread_images_once_before_its_first_step():
    many = watched(INITIAL_IMAGES + 44, 16)
    run = Training(dataclasses.replace(TASK, image_size=16), {}, 0, many, torch.device("cpu"))
    run.advance(2)
    run.advance(1)
    first, *batches = many.rows
    assert len(first) == len(set(first)) == INITIAL_IMAGES and first[0] == 0 and first[-1] == len(many) - 1
    assert first == sorted(first) and [len(rows) for rows in batches] == [6, 6, 6]
    expected = float(image_tensor(many.gather(np.array(first))[0], "cpu").mean())
    assert expected <= state(run)["initial"] < expected + 1


def test_no_images_are_gathered_for_a_model_that_ignores_them(monkeypatch):
    monkeypatch.delattr(trainables.load("toy").Model, "initialise")
    split = watched(8)
    run = Training(TASK, {}, 0, split, torch.device("cpu"))
    assert type(run.model).initialise is SegmentationModel.initialise
    run.advance(3)
    assert [len(rows) for rows in split.rows] == [6, 6, 6]


def test_training_reads_no_label_map(monkeypatch):
    """Of mapped shards a quarter stays on the disk."""
    run = training()
    monkeypatch.setattr(run.train, "_labels", None)
    run.advance(3)
    with pytest.raises(TypeError):
        run.validate(run.train)


def test_bf16_reaches_the_models_forward(monkeypatch):
    seen = []
    original = trainables.load("toy").Model.forward

    def forward(self, image, step):
        seen.append(torch.is_autocast_enabled("cpu"))
        return original(self, image, step)

    monkeypatch.setattr(trainables.load("toy").Model, "forward", forward)
    for precision, enabled in (("fp32", False), ("bf16", True)):
        run = training(dataclasses.replace(TASK, precision=precision))
        run.report(watched(4))
        evaluate(run.model, watched(4), np.arange(4), step=0, precision=precision)
        assert set(seen) == {enabled}
        seen.clear()


def test_a_checkpoint_of_another_model_size_or_hyperparameters_is_refused():
    saved = training(lr=0.5).state()
    for change, says in (({"model": "space"}, "model is 'space'"), ({"image_size": 64}, "image_size is 64")):
        with pytest.raises(ValueError, match=says):
            training(lr=0.5).load_state({**saved, **change})
    with pytest.raises(ValueError, match=r"other hyperparameters \(lr\)"):
        training(lr=0.25).load_state(saved)


def test_a_gpu_checkpoint_goes_on_without_one(tmp_path):
    first = training()
    first.advance(2)
    checkpoint.save(tmp_path, first.state() | {"device": "cuda", "noise": torch.zeros(16, dtype=torch.uint8)})
    runs = []
    for _ in range(2):
        runs.append(training())
        runs[-1].load_state(checkpoint.newest(tmp_path))
        runs[-1].advance(2)
    assert runs[0].step == 4
    assert state(runs[0]) == state(runs[1]), "fresh random numbers, but repeatable ones"
    undisturbed = training()
    undisturbed.advance(4)
    assert state(runs[0])["drawn"] != state(undisturbed)["drawn"]
