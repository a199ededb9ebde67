"""Scores, pictures and restored models, on the toy (``tests.trainables.toy``)."""

import numpy as np
import pytest
import torch

from tests.trainables import scenes, toy
from trainables import metrics, pictures
from trainables.scoring import PANEL_IMAGES, evaluate, images_per_pass, panel, restore_model


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
    monkeypatch.setattr("trainables.scoring.images_per_pass", lambda size: 2)
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


def test_large_images_are_scored_a_few_at_a_time():
    assert [images_per_pass(size) for size in (16, 32, 128, 256, 1024)] == [128, 128, 8, 2, 1]
