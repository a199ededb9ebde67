"""Scores, pictures and restored models, on the toy (``tests.trainables.toy``)."""

import numpy as np
import pytest
import torch

import trainables
from tests.trainables import scenes, toy
from trainables import metrics, pictures
from trainables.scoring import PANEL_IMAGES, evaluate, images_per_block, images_per_pass, panel, restore_model


@pytest.fixture(autouse=True)
def _findable():
    with toy.findable():
        yield


@pytest.fixture
def model():
    return toy.training().model


def slots(images):
    """The toy's slot of each pixel of ``images`` (B, H, W, 3): dark, grey or bright, (B, H, W)."""
    grey = images.mean(3) / 255
    return (grey > 0.4).astype(int) + (grey > 0.6)


def test_scores_are_the_images_own_whatever_pass_they_come_in(model, monkeypatch):
    split, rows = scenes.split(7, toy.SIZE), np.array([5, 0, 3])
    kept = []
    scores = evaluate(model, split, rows, step=0, keep=kept.append)
    images, labels = split.gather(rows)
    masks = slots(images)[:, None] == np.arange(3)[:, None, None]  # (B, K, H, W)
    true = images.transpose(0, 3, 1, 2).astype(np.float32) / 255
    expected = metrics.score(masks.astype(float), labels, model.a.item() * true, true)
    for name, values in expected.items():
        assert scores[name] == pytest.approx(values, rel=1e-4, nan_ok=True), name
    np.testing.assert_array_equal(np.concatenate(kept), slots(images))
    monkeypatch.setattr("trainables.scoring.images_per_block", lambda size: 2)
    again = []
    for name, values in evaluate(model, split, rows, step=0, keep=again.append).items():
        assert values.shape == (3,)
        assert name == "loss" or values == pytest.approx(scores[name], rel=1e-5, nan_ok=True)
    assert [len(labels) for labels in again] == [2, 1]
    np.testing.assert_array_equal(np.concatenate(again), np.concatenate(kept))


@pytest.mark.parametrize("training", [True, False])
def test_a_model_is_judged_in_evaluation_mode_without_gradients_and_left_as_it_was(model, training, monkeypatch):
    seen = []
    forward = type(model).forward

    def watched(self, image, step):
        seen.append((self.training, torch.is_grad_enabled(), torch.is_inference_mode_enabled(), step))
        return forward(self, image, step)

    monkeypatch.setattr(type(model), "forward", watched)
    model.train(training)
    split = scenes.split(5, toy.SIZE)
    evaluate(model, split, np.arange(5), step=3)
    panel(model, split, step=3)
    assert set(seen) == {(False, False, False, 3)}
    assert model.training is training


def test_noisy_models_get_the_same_scores_again(model, monkeypatch):
    monkeypatch.setattr(type(model), "eval", lambda self: self.train())
    split = scenes.split(5, toy.SIZE)
    scores = [evaluate(model.train(), split, np.arange(5), step=0) for _ in range(2)]
    assert scores[0]["MSE"].tolist() == scores[1]["MSE"].tolist()
    assert np.array_equal(panel(model, split, step=0), panel(model, split, step=0))


def test_a_picture_shows_the_first_images_and_what_the_model_makes_of_them(model):
    split = scenes.split(PANEL_IMAGES + 2, toy.SIZE)
    images, labels = split.gather(np.arange(PANEL_IMAGES))
    true = images.transpose(0, 3, 1, 2).astype(np.float32) / 255
    expected = pictures.panel(true, model.a.item() * true, labels, slots(images))
    drawn = panel(model, split, step=0).astype(int)
    assert drawn.shape == expected.shape and abs(drawn - expected).max() <= 1


def test_a_restored_model_has_the_weights_and_is_in_evaluation_mode():
    run = toy.training(lr=0.5)
    run.advance(1)
    restored = restore_model(run.state())
    assert restored.config == run.model.config and restored.image_size == toy.SIZE and not restored.training
    for name, value in run.model.state_dict().items():
        assert torch.equal(restored.state_dict()[name], value)


@pytest.mark.parametrize("at_once", [2, 3, 16])
def test_scores_do_not_depend_on_how_many_images_go_through_at_a_time(model, monkeypatch, at_once):
    """Noise, the order of labels and the loss are those of the block."""
    monkeypatch.setattr(type(model), "eval", lambda self: self.train())  # it draws noise
    monkeypatch.setattr("trainables.scoring.images_per_block", lambda size: 5)
    split, rows, kept = scenes.split(12, toy.SIZE), np.arange(12), []
    expected = evaluate(model, split, rows, step=0, keep=kept.append)
    assert [len(labels) for labels in kept] == [5, 5, 2]
    monkeypatch.setattr("trainables.scoring.images_per_pass", lambda model: at_once)
    seen, forward = [], type(model).forward

    def watched(self, image, step):
        seen.append(len(image))
        return forward(self, image, step)

    monkeypatch.setattr(type(model), "forward", watched)
    again = []
    for name, values in evaluate(model, split, rows, step=0, keep=again.append).items():
        assert values == pytest.approx(expected[name], rel=1e-5, nan_ok=True), name
    assert seen == {2: [2, 2, 1, 2, 2, 1, 2], 3: [3, 2, 3, 2, 2], 16: [5, 5, 2]}[at_once]
    np.testing.assert_array_equal(np.concatenate(again), np.concatenate(kept))


def test_a_pass_that_does_not_fit_is_halved_and_changes_no_score(model, monkeypatch):
    monkeypatch.setattr(type(model), "eval", lambda self: self.train())
    monkeypatch.setattr("trainables.scoring.images_per_block", lambda size: 5)
    split, rows = scenes.split(12, toy.SIZE), np.arange(12)
    expected = evaluate(model, split, rows, step=0)
    seen, fits, forward = [], 1, type(model).forward

    def small(self, image, step):
        output = forward(self, image, step)
        seen.append(len(image))
        if len(image) > fits:
            raise torch.OutOfMemoryError("as a GPU says it")
        return output

    monkeypatch.setattr(type(model), "forward", small)
    for name, values in evaluate(model, split, rows, step=0).items():
        assert values == pytest.approx(expected[name], rel=1e-5, nan_ok=True), name
    assert seen == [5, 2, *[1] * 12]
    fits = 0
    with pytest.raises(torch.OutOfMemoryError):
        evaluate(model, split, rows, step=0)


def test_models_that_keep_graphs_take_fewer_images_at_a_time():
    def at_a_time(name, size, **config):
        with torch.device("meta"):
            return images_per_pass(trainables.build(name, config, size))

    assert [at_a_time("iodine", size) for size in (32, 64, 128)] == [32, 8, 2]
    assert at_a_time("efficient_morl", 128) == 2 and at_a_time("space", 128) == 8
    assert at_a_time("iodine", 128, replicate=True) == 8, "it divides gradients by the number of images"


def test_large_images_are_scored_a_few_at_a_time():
    assert [images_per_block(size) for size in (16, 32, 128, 256, 1024)] == [128, 128, 8, 2, 1]


def test_masks_with_nan_are_refused_in_training_and_count_as_one_segment_in_the_final_stage(model):
    """The other images have the scores that they have without them."""
    split, rows = scenes.split(7, toy.SIZE), np.arange(7)
    before = evaluate(model, split, rows, step=0)
    whole = model.forward

    def broken(images, step):
        output = whole(images, step)
        output._masks = output.masks.clone()
        output.masks[2] = float("nan")
        return output

    model.forward = broken
    with pytest.raises(metrics.NotFinite):
        evaluate(model, split, rows, step=0)
    told, kept = [], []
    scores = evaluate(model, split, rows, step=0, keep=kept.append, forgive=told.append)
    assert sum(told) == 1 and (np.concatenate(kept)[2] == 0).all()
    others = np.delete(rows, 2)
    for name in ("mIoU_fg", "ARI_FG", "MSE"):
        np.testing.assert_allclose(scores[name][others], before[name][others], rtol=1e-5)
    assert panel(model, split, step=0).dtype == np.uint8
