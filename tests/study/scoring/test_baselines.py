import numpy as np
import pytest

from data.sources.synthetic import drawing
from study.scoring.baselines import BASELINES, GRIDS, best_grid, grid_note
from tests.data.sources.drawn import generate
from trainables import metrics

GREY, RED, BLUE = (120, 120, 120), (230, 20, 30), (10, 40, 250)


def flat_scene(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Grey ground, a red square and a blue bar: images (1, size, size, 3), labels (1, size, size)."""
    labels = np.zeros((1, size, size), int)
    unit = size // 16
    labels[0, 2 * unit : 7 * unit, 3 * unit : 8 * unit] = 1
    labels[0, 10 * unit : 13 * unit, unit : 14 * unit] = 2
    return np.array([GREY, RED, BLUE], np.uint8)[labels], labels


def test_background_is_one_slot_in_the_mean_colour() -> None:
    images = np.zeros((2, 2, 2, 3), np.uint8)
    images[1, 0, 0] = (255, 0, 51)
    labels, num_slots, reconstruction = BASELINES["background"](images, 5, 0)
    assert num_slots == 1 and labels.shape == (2, 2, 2) and not labels.any()
    assert reconstruction.dtype == np.float32 and not reconstruction[0].any()
    np.testing.assert_allclose(reconstruction[1, :, 1, 0], [0.25, 0, 0.05])


def test_grid_by_hand() -> None:
    """On 8x8 pixels each patch is 2x2, numbered row by row."""
    images = np.zeros((1, 8, 8, 3), np.uint8)
    images[0, 2, 6] = 255
    labels, num_slots, reconstruction = BASELINES["grid_4x4"](images, 5, 0)
    assert num_slots == 16
    np.testing.assert_array_equal(labels[0], np.kron(np.arange(16).reshape(4, 4), np.ones((2, 2), int)))
    expected = np.zeros((8, 8))
    expected[2:4, 6:8] = 0.25
    np.testing.assert_allclose(reconstruction[0], np.tile(expected, (3, 1, 1)))


def test_grid_covers_sizes_that_four_does_not_divide() -> None:
    labels, _, _ = BASELINES["grid_4x4"](np.zeros((1, 7, 10, 3), np.uint8), 5, 0)
    assert np.unique(labels).tolist() == list(range(16))


def test_the_grids_have_as_many_rows_and_columns_as_their_names_say() -> None:
    assert list(GRIDS) == [f"grid_{form}" for form in ("1x2", "2x1", "2x2", "2x3", "3x2", "3x3", "3x4", "4x3", "4x4")]
    for name, predict in GRIDS.items():
        rows, columns = map(int, name.removeprefix("grid_").split("x"))
        labels, num_slots, _ = predict(np.zeros((2, 12, 24, 3), np.uint8), 5, 0)
        assert num_slots == rows * columns
        patches = np.arange(num_slots).reshape(rows, columns)
        expected = np.kron(patches, np.ones((12 // rows, 24 // columns), int))
        np.testing.assert_array_equal(labels, [expected] * 2)


@pytest.mark.parametrize("form", GRIDS)
def test_the_best_grid_is_the_one_whose_patches_are_the_objects(form: str) -> None:
    """Three images whose objects are the patches of a grid, which the others do not have, and two without objects."""
    truth, _, _ = GRIDS[form](np.zeros((3, 24, 24, 3), np.uint8), 5, 0)
    batches = [truth, np.zeros((2, 24, 24), int)]
    assert best_grid(iter(batches)) == form
    assert best_grid([truth[:0], truth]) == form


def test_of_equal_grids_the_coarsest_is_the_best() -> None:
    assert best_grid([np.zeros((2, 24, 24), int)]) == "grid_1x2"


def test_a_report_names_the_grid_that_was_chosen() -> None:
    assert grid_note({}) == []
    assert grid_note({"best_grid": "2x3"}) == ["the best fixed grid on validation is 2x3 (rows x columns)"]


@pytest.mark.parametrize("size", [32, 96])
def test_kmeans_finds_flat_colours_exactly(size: int) -> None:
    images, true = flat_scene(size)
    labels, num_slots, reconstruction = BASELINES["kmeans"](images, 2, 0)
    assert num_slots == 3
    scores = metrics.score_labels(labels, true, num_slots, reconstruction, (images / 255).transpose(0, 3, 1, 2))
    assert scores["mIoU_fg"][0] == scores["ARI"][0] == 1
    assert scores["MSE"][0] == pytest.approx(0, abs=1e-6)


def test_kmeans_splits_one_colour_by_position() -> None:
    labels, num_slots, _ = BASELINES["kmeans"](np.full((1, 16, 32, 3), 99, np.uint8), 1, 0)
    assert num_slots == 2
    assert np.bincount(labels.ravel(), minlength=2).tolist() == [256, 256]


def test_kmeans_is_seeded_and_ignores_the_batch() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3)).astype(np.uint8)
    together, _, _ = BASELINES["kmeans"](images, 4, 7)
    alone, _, _ = BASELINES["kmeans"](images[2:], 4, 7)
    np.testing.assert_array_equal(together[2:], alone)
    assert (BASELINES["kmeans"](images, 4, 8)[0] != together).any()


def test_marks_to_beat_on_plain_scenes() -> None:
    """Measured on 200 scenes: background 0, grid 0.08, k-means 0.51 (mIoU_fg)."""
    scenes = generate(40, (32, 32), seed=0, split="val", strength=0.0)
    true_images = scenes.images.transpose(0, 3, 1, 2).astype(np.float32) / 255
    found = {}
    for name, predict in BASELINES.items():
        labels, num_slots, reconstruction = predict(scenes.images, drawing.MAX_OBJECTS, 0)
        assert reconstruction.shape == true_images.shape and labels.max() < num_slots
        found[name] = metrics.summarise(
            metrics.score_labels(labels, scenes.labels, num_slots, reconstruction, true_images)
        )
    assert found["background"]["mIoU_fg"] == 0
    assert 0.05 < found["grid_4x4"]["mIoU_fg"] < 0.15
    assert found["kmeans"]["mIoU_fg"] > 0.4 and found["kmeans"]["ARI_FG"] > 0.6
    assert found["background"]["MSE"] > found["grid_4x4"]["MSE"] > found["kmeans"]["MSE"]
