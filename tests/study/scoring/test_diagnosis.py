"""Masks made by hand, one kind per verdict, through the functions that the final stage uses."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from study.scoring import baselines, diagnosis
from study.scoring.diagnosis import FIGURES, diagnose, figures
from trainables import metrics

SIDE, CELL = 24, 8
IMAGES = 150
"""More than are counted at a time."""


def scenes() -> np.ndarray:
    """Three square objects in three of nine cells, labels 1 to 3 (N, H, W)."""
    rng = np.random.default_rng(0)
    cells = np.zeros((IMAGES, 9), int)
    for image in cells:
        image[rng.permutation(9)[:3]] = [1, 2, 3]
    return cells.reshape(IMAGES, 3, 3).repeat(CELL, 1).repeat(CELL, 2)


TRUE = scenes()
RNG = np.random.default_rng(1)
Y, X = np.mgrid[:SIDE, :SIDE]
ANGLE, SHIFT = RNG.uniform(0, 2 * np.pi, (IMAGES, 1, 1)), RNG.uniform(0, 24, (IMAGES, 1, 1))
COLOURS = ((np.cos(ANGLE) * X + np.sin(ANGLE) * Y + SHIFT) // 6 % 4).astype(int)
"""What k-means sees: stripes, others in each image."""


def renumbered(labels: np.ndarray) -> np.ndarray:
    """The same segments with other slots in each image."""
    slots = np.array([RNG.permutation(16) for _ in labels])
    return np.take_along_axis(slots, labels.reshape(len(labels), -1), 1).reshape(labels.shape)


def grid(rows: int, columns: int) -> np.ndarray:
    return np.tile(Y * rows // SIDE * columns + X * columns // SIDE, (IMAGES, 1, 1))


HALF = X % CELL >= CELL // 2
KINDS = {
    "finds objects": TRUE,
    "one slot takes all": np.where((Y < 4) & (X < 14), 1, np.zeros_like(TRUE)),  # 90.3 % of the pixels
    "tiles the image": grid(2, 3),
    "groups colours": COLOURS,
    "merges objects": (TRUE > 0).astype(int),
    "splits objects": np.where(TRUE > 0, 2 * TRUE + HALF, 0),
    "misses objects": np.where(HALF, 0, TRUE),
}


DO = ("finds", "merges", "splits", "misses")


def verdict(labels: np.ndarray, true: np.ndarray = TRUE, kmeans: np.ndarray = COLOURS) -> diagnosis.Diagnosis:
    """What the final stage makes of ``labels``: figures and ARI of each image, then the verdict on their means."""
    scores = metrics.score_labels(labels, true, 16) | figures(labels, true, kmeans)
    found = diagnose(metrics.summarise(scores))
    assert found is not None
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("change", [np.asarray, renumbered])
def test_each_kind_of_masks_has_its_verdict_whatever_its_slots_are_called(kind: str, change: Callable) -> None:
    assert verdict(change(KINDS[kind])).verdict == kind


def test_a_verdict_says_on_which_figures_it_rests() -> None:
    assert str(verdict(KINDS["tiles the image"])) == (
        "tiles the image (segmentations of successive images agree at 1.00 ARI)"
    )
    assert "holds 90% of the pixels" in verdict(KINDS["one slot takes all"]).because
    assert "1.00 ARI with k-means" in verdict(COLOURS).because
    assert verdict(KINDS["merges objects"]).because == "100% of the objects share a segment, 0% are found"
    assert verdict(KINDS["splits objects"]).because == "100% of the objects are in pieces, 0% are found"
    misses = "100% of the objects are neither found nor merged nor split"
    assert verdict(KINDS["misses objects"]).because == misses
    mixed = np.choose(np.arange(IMAGES)[:, None, None] % 4, [KINDS[f"{does} objects"] for does in DO])
    assert verdict(mixed).because == "25% of the objects are found, 25% merged, 25% split"
    assert verdict(TRUE).because == "100% of the objects have a segment with IoU above 0.5"


def test_objects_that_are_found_before_a_tiled_ground_are_found() -> None:
    tiled_ground = np.where(TRUE > 0, 12 + TRUE, grid(3, 4))
    assert figures(tiled_ground, TRUE, COLOURS)["seg_previous"][1:].mean() > diagnosis.TILES / 2
    assert verdict(tiled_ground).verdict == "finds objects"


def test_where_colours_are_the_objects_a_model_may_agree_with_kmeans_and_find_them() -> None:
    some = np.arange(IMAGES)[:, None, None] % 3 == 0
    kmeans = np.where(some & (TRUE == 3), 2, TRUE)
    assert verdict(TRUE, kmeans=kmeans).verdict == "finds objects"
    assert verdict(kmeans, kmeans=kmeans).verdict == "groups colours"


def test_figures_of_an_image_by_hand() -> None:
    """Eight by eight pixels. Object 1 is found, 2 and 3 share a segment, 4 is in pieces, 5 is taken for ground."""
    true = np.zeros((8, 8), int)
    true[0, :4], true[1, :2], true[1, 2:4], true[2, :4], true[3, :4] = 1, 2, 3, 4, 5
    labels = np.zeros((8, 8), int)
    labels[0, :3], labels[1, :4], labels[2, :2], labels[2, 2:3] = 1, 2, 3, 4
    found = {name: values[0] for name, values in figures(labels[None], true[None], labels[None]).items()}
    assert list(found) == list(FIGURES)
    assert found["seg_largest"] == pytest.approx(54 / 64) and found["seg_segments"] == 5
    assert found["seg_found"] == pytest.approx(1 / 5)
    assert found["seg_merged"] == pytest.approx(2 / 5)
    assert found["seg_split"] == pytest.approx(1 / 5)
    assert found["seg_kmeans"] == 1 and math.isnan(found["seg_previous"])


@pytest.mark.parametrize(
    ("pixels", "figure", "expected"),
    [
        ("1111 2222", "seg_found", 1),
        ("1100 2222", "seg_found", 1 / 2),  # IoU of exactly a half
        ("1110 2222", "seg_found", 1),
        ("1111 1100", "seg_merged", 0),  # half of the other object is not more than half
        ("1111 1110", "seg_merged", 1 / 2),  # the first has IoU 4/7: it is found
        ("3111 1110", "seg_merged", 1),
        ("1110 0000", "seg_merged", 0),  # together with the ground is not merged
        ("1233 4444", "seg_split", 1 / 2),
        ("1000 4444", "seg_split", 0),  # a piece and the ground
        ("1100 1100", "seg_split", 0),
        ("1111 1112", "seg_split", 0),  # merged already
    ],
)
def test_two_objects_by_hand(pixels: str, figure: str, expected: float) -> None:
    """Two objects of four pixels each in a row of ``pixels``, above much ground in slot 0."""
    true = np.zeros((1, 9, 8), int)
    true[0, 0] = [1] * 4 + [2] * 4
    labels = np.zeros_like(true)
    labels[0, 0] = [int(slot) for slot in pixels.replace(" ", "")]
    assert figures(labels, true, labels)[figure] == pytest.approx(expected)


def test_agreements_are_sklearns_and_of_successive_images() -> None:
    labels, kmeans = RNG.integers(0, 5, (2, IMAGES, 4, 4))
    labels[::2] = labels[0]
    found = figures(labels, TRUE[:, ::6, ::6], kmeans)
    for image in range(1, IMAGES):
        previous = adjusted_rand_score(labels[image - 1].ravel(), labels[image].ravel())
        assert found["seg_previous"][image] == pytest.approx(previous)
        with_kmeans = adjusted_rand_score(kmeans[image].ravel(), labels[image].ravel())
        assert found["seg_kmeans"][image] == pytest.approx(with_kmeans)


def test_images_without_objects_have_no_say_in_what_is_found() -> None:
    true = TRUE.copy()
    true[::2] = 0
    found = figures(true, true, COLOURS)
    for name in ("seg_found", "seg_merged", "seg_split"):
        assert np.isnan(found[name][::2]).all() and not np.isnan(found[name][1::2]).any()
    assert metrics.summarise(found)["seg_found"] == 1


CLEAR = dict(zip(FIGURES, (0.5, 4, 0.1, 0.1, 0.2, 0.2, 0.2), strict=True)) | {"ARI": 0.2}
"""Means that lead to no verdict."""


@pytest.mark.parametrize(
    ("means", "expected"),
    [
        ({}, "unclear"),
        ({"seg_found": diagnosis.FINDS - 0.01}, "unclear"),
        ({"seg_found": diagnosis.FINDS}, "finds objects"),
        ({"seg_largest": diagnosis.TAKES_ALL - 0.01}, "unclear"),
        ({"seg_largest": diagnosis.TAKES_ALL, "seg_previous": 1.0}, "one slot takes all"),
        ({"seg_largest": 0.99, "seg_found": diagnosis.FINDS}, "finds objects"),
        ({"seg_previous": diagnosis.TILES - 0.01}, "unclear"),
        ({"seg_previous": diagnosis.TILES, "seg_kmeans": 0.9, "seg_split": 0.9}, "tiles the image"),
        ({"seg_previous": 0.9, "seg_found": 0.8}, "tiles the image"),
        ({"seg_previous": 0.6, "seg_found": 0.6}, "finds objects"),
        ({"seg_kmeans": diagnosis.COLOURS - 0.01}, "unclear"),
        ({"seg_kmeans": diagnosis.COLOURS, "seg_merged": 0.9, "seg_found": 0.9}, "groups colours"),
        ({"seg_kmeans": 0.8, "ARI": 0.8, "seg_found": 0.9}, "finds objects"),
        ({"seg_merged": diagnosis.MANY - 0.01}, "unclear"),
        ({"seg_merged": diagnosis.MANY, "seg_split": 0.9}, "merges objects"),
        ({"seg_merged": 0.4, "seg_found": 0.55}, "finds objects"),
        ({"seg_split": diagnosis.MANY - 0.01}, "unclear"),
        ({"seg_split": diagnosis.MANY}, "splits objects"),
        ({"seg_split": 0.35, "seg_found": 0.6}, "finds objects"),
        ({"seg_split": 0.01}, "unclear"),
        ({"seg_split": 0.0}, "misses objects"),
        ({"seg_merged": 0.3, "seg_split": 0.0, "seg_found": 0.0}, "merges objects"),
    ],
)
def test_thresholds_and_precedence(means: dict, expected: str) -> None:
    found = diagnose(CLEAR | means)
    assert found is not None and found.verdict == expected


@pytest.mark.parametrize("name", [name for name in CLEAR if name not in ("seg_segments", "seg_previous")])
def test_without_a_figure_there_is_no_verdict(name: str) -> None:
    assert diagnose(CLEAR | {name: math.nan}) is None
    assert diagnose({}) is None


def test_the_baselines_have_verdicts_too() -> None:
    colours = np.array([[90, 90, 90], [250, 20, 20], [20, 250, 20], [20, 20, 250]], np.uint8)
    stained = colours[np.where(COLOURS > 1, 3, TRUE)]
    kmeans, _, _ = baselines.BASELINES["kmeans"](stained, 3, 0)
    expected = {"background": "one slot takes all", "grid_4x4": "tiles the image", "kmeans": "groups colours"}
    for name, predict in baselines.BASELINES.items():
        assert verdict(predict(stained, 3, 0)[0], kmeans=kmeans).verdict == expected[name], name
