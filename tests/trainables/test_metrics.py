import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score

from trainables import metrics

GOLDEN = json.loads((Path(__file__).parents[1] / "data" / "golden" / "metrics.json").read_text())
TOLERANCE = GOLDEN["tolerance"]["abs"]
CASES = {case["name"]: case for case in GOLDEN["cases"]}
NEEDS_FOREGROUND = ("mIoU_fg", "mIoU_fg_strict", "DICE_FG", "ARI_FG", "mSC", "mSC_fg", "mBO_fg")


def one_hot(labels: Any, num_slots: int) -> np.ndarray:
    """(B, H, W) -> (B, K, H, W) float32."""
    return np.moveaxis(np.eye(num_slots, dtype=np.float32)[np.asarray(labels)], -1, 1)


def masks_of(case: dict) -> np.ndarray:
    """(1, K, H, W) float32."""
    if "pred_masks" in case:
        return np.array([case["pred_masks"]], np.float32)
    return one_hot([case["pred"]], case["K"])


def flat_images(value: float, labels: np.ndarray) -> np.ndarray:
    """(B, 3, H, W) of one colour."""
    return np.broadcast_to(np.float32(value), (len(labels), 3, *labels.shape[1:]))


def score_case(case: dict, repeats: int) -> dict[str, np.ndarray]:
    true = np.repeat([case["true"]], repeats, 0)
    return metrics.score(
        np.repeat(masks_of(case), repeats, 0),
        true,
        flat_images(case["pred_image"], true),
        flat_images(case["true_image"], true),
        has_background=case["masks_have_background"],
    )


def assert_golden(case: dict, scores: dict[str, np.ndarray], image: int) -> None:
    for name, expected in case["expected"].items():
        if expected is not None:
            assert scores[name][image] == pytest.approx(expected, abs=TOLERANCE), name


@pytest.mark.parametrize("repeats", [1, 2])
@pytest.mark.parametrize("name", CASES)
def test_published_values(name: str, repeats: int) -> None:
    scores = score_case(CASES[name], repeats)
    assert set(scores) == {*GOLDEN["metrics"], "mIoU_fg_strict", "mSC_full", "mSC_fg", "mBO", "mBO_fg"}
    for values in scores.values():
        assert values.shape == (repeats,) and values.dtype == np.float64
    for image in range(repeats):
        assert_golden(CASES[name], scores, image)


@pytest.mark.parametrize("name", CASES)
def test_hardening(name: str) -> None:
    case = CASES[name]
    labels, num_slots = metrics.harden(masks_of(case), has_background=case["masks_have_background"])
    assert labels.tolist() == [case["pred_labels_after_argmax"]]
    assert num_slots == masks_of(case).shape[1] + (not case["masks_have_background"])


def test_an_image_scores_the_same_in_any_batch() -> None:
    """Cases of 3 slots, alone and beside an image of many more true labels."""
    cases = [case for case in CASES.values() if masks_of(case).shape == (1, 3, 8, 8)]
    assert "zero_iou_no_free_slot" in [case["name"] for case in cases]
    rng = np.random.default_rng(0)
    crowd = rng.integers(0, 12, (1, 8, 8))
    masks = np.concatenate([*map(masks_of, cases), rng.random((1, 3, 8, 8), np.float32)])
    together = metrics.score(masks, np.concatenate([*([case["true"]] for case in cases), crowd]))
    for image, case in enumerate(cases):
        alone = metrics.score(masks_of(case), np.array([case["true"]]))
        for name, values in alone.items():
            np.testing.assert_array_equal(together[name][image], values[0], err_msg=name)


def mask_by_mask(true: np.ndarray, pred: np.ndarray, num_slots: int) -> dict[str, float]:
    """The definitions read literally: full-size boolean masks, float32 IoU; one image, its labels < num_slots."""
    t_masks, p_masks = (np.array([labels == k for k in range(num_slots)]) for labels in (true, pred))
    both = (t_masks[:, None] & p_masks).sum((2, 3)).astype(np.float32)
    either = (t_masks[:, None] | p_masks).sum((2, 3)).astype(np.float32)
    iou = np.where(either > 0, both / np.maximum(either, 1), 0)
    match = linear_sum_assignment(iou, maximize=True)[1]
    t_area, p_area = t_masks.sum((1, 2)), p_masks.sum((1, 2))[match]
    iou, both = iou[:, match], both[:, match]
    pairs = [t for t in range(num_slots) if t_area[t] or p_area[t]]
    t_used, p_used = np.flatnonzero(t_area), np.flatnonzero(p_area)
    best = {t: max((iou[t, u] for u in p_used[:-1]), default=0) for t in t_used[:-1]}
    return {
        "mIoU": sum(iou[t, t] for t in pairs) / len(pairs),
        "mIoU_fg": sum(iou[t, t] for t in pairs if t > 0) / (len(pairs) - 1),
        "DICE_FG": sum(2 * both[t, t] / (t_area[t] + p_area[t]) for t in pairs if t > 0) / (len(pairs) - 1),
        "mSC": sum(t_area[t] * best[t] for t in best) / sum(t_area[t] for t in best),
    }


def test_random_maps_mask_by_mask() -> None:
    """Small maps, so that many matchings tie and only float32 values in the published order break them alike."""
    rng = np.random.default_rng(5)
    true, pred = rng.integers(0, 4, (400, 4, 4)), rng.integers(0, 6, (400, 4, 4))
    true[:, 0, 0], true[:, 0, 1] = 0, 1
    scores = metrics.score_labels(pred, true, 6)
    for image in range(400):
        for name, expected in mask_by_mask(true[image], pred[image], 6).items():
            assert scores[name][image] == pytest.approx(expected, abs=TOLERANCE), (name, image)


def test_ari_is_sklearns() -> None:
    rng = np.random.default_rng(1)
    true, pred = rng.integers(0, 5, (40, 9, 7)), rng.integers(0, 7, (40, 9, 7))
    pred[:20] = np.where(rng.random((20, 9, 7)) < 0.8, true[:20], pred[:20])
    scores = metrics.score_labels(pred, true, 7)
    for image, (t, p) in enumerate(zip(true, pred, strict=True)):
        assert scores["ARI"][image] == pytest.approx(adjusted_rand_score(t.ravel(), p.ravel()), abs=1e-12)
        assert scores["ARI_FG"][image] == pytest.approx(adjusted_rand_score(t[t > 0], p[t > 0]), abs=1e-12)


def test_strict_miou_ignores_slot_numbers() -> None:
    a, b = (score_case(CASES[f"tie_slot_order_{order}"], 1) for order in "ab")
    assert abs(a["mIoU_fg"][0] - b["mIoU_fg"][0]) > 0.04
    # by hand: object 2 and its slot share 1 of 4 pixels; object 1 and the slot of one pixel overlap nothing
    assert a["mIoU_fg_strict"][0] == b["mIoU_fg_strict"][0] == pytest.approx(0.25 / 3)


def test_strict_miou_ignores_slot_numbers_of_random_maps() -> None:
    rng = np.random.default_rng(2)
    true, pred = rng.integers(0, 4, (50, 16, 16)), rng.integers(0, 6, (50, 16, 16))
    expected = metrics.score_labels(pred, true, 6)["mIoU_fg_strict"]
    renumbered = metrics.score_labels(rng.permutation(6)[pred], true, 6)["mIoU_fg_strict"]
    np.testing.assert_allclose(renumbered, expected, atol=1e-12)
    assert expected.max() <= 1


def test_strict_miou_cannot_exceed_1() -> None:
    scores = score_case(CASES["no_background_pixels"], 1)
    assert scores["mIoU_fg"][0] == 2 and scores["mIoU_fg_strict"][0] == 1


def test_corrected_coverings_by_hand() -> None:
    """One object of 4 of 16 pixels, a slot on 2 of its pixels: IoU 1/2 with it, 12/14 for the background."""
    true = np.zeros((1, 4, 4), int)
    true[0, 1:3, 1:3] = 1
    pred = np.zeros_like(true)
    pred[0, 1, 1:3] = 1
    scores = metrics.score_labels(pred, true, 2)
    assert scores["mSC"][0] == pytest.approx(12 / 14)  # the published one sees the background alone
    assert scores["mSC_full"][0] == pytest.approx((12 * 12 / 14 + 4 / 2) / 16)
    assert scores["mSC_fg"][0] == pytest.approx(1 / 2)


def best_overlaps(true: np.ndarray, pred: np.ndarray, labels: list[int]) -> list[float]:
    """For each of ``labels`` in ``true`` (H, W), the best IoU of any predicted segment, by sets of pixels."""

    def pixels(of: np.ndarray, label: int) -> set[int]:
        return set(np.flatnonzero(of == label).tolist())

    segments = [pixels(pred, p) for p in np.unique(pred)]
    objects = [pixels(true, t) for t in labels]
    return [max(len(one & other) / len(one | other) for other in segments) for one in objects]


def test_mean_best_overlap_of_random_maps_set_by_set() -> None:
    rng = np.random.default_rng(6)
    true, pred = rng.integers(0, 5, (60, 5, 4)), rng.integers(0, 8, (60, 5, 4))
    pred[:30] = np.where(rng.random((30, 5, 4)) < 0.7, true[:30], pred[:30])
    true[10] = true[10].clip(1)  # no background, then gaps in the labels, no object, one segment
    true[11] = np.where(true[11] == 2, 0, true[11])
    true[12], pred[13] = 0, 7
    scores = metrics.score_labels(pred, true, 8)
    for image in range(60):
        there = np.unique(true[image]).tolist()
        every = best_overlaps(true[image], pred[image], there)
        assert scores["mBO"][image] == pytest.approx(np.mean(every)), image
        objects = [overlap for label, overlap in zip(there, every, strict=True) if label > 0]
        expected = np.mean(objects) if objects else np.nan
        assert scores["mBO_fg"][image] == pytest.approx(expected, nan_ok=True), image


def test_mean_best_overlap_by_hand() -> None:
    """Two objects of 4 and 2 pixels, of 16; one slot covers both, another a background pixel."""
    true = np.array([[[1, 1, 2, 0], [1, 1, 2, 0], [0] * 4, [0] * 4]])
    pred = (true > 0).astype(int)
    pred[0, 3, 3] = 2
    scores = metrics.score_labels(pred, true, 3)
    assert scores["mBO_fg"][0] == pytest.approx((4 / 6 + 2 / 6) / 2), "the slot counts for both objects"
    assert scores["mBO"][0] == pytest.approx((4 / 6 + 2 / 6 + 9 / 10) / 3)
    assert scores["mIoU_fg"][0] == pytest.approx(4 / 6 / 2), "here only for the larger one"


def test_images_without_foreground_are_undefined_and_counted() -> None:
    true = np.zeros((3, 4, 4), int)
    true[0, :2] = 1
    pred = np.zeros_like(true)
    pred[1, 0, 0] = 1  # even where the prediction has a foreground
    scores = metrics.score_labels(pred, true, 2)
    for name, values in scores.items():
        assert np.isnan(values).tolist() == [False, *[name in NEEDS_FOREGROUND] * 2], name
    summary = metrics.summarise(scores)
    assert summary["n_undefined"] == 2
    assert summary["mIoU_fg"] == scores["mIoU_fg"][0]
    assert summary["mIoU"] == pytest.approx(scores["mIoU"].mean())


def test_summary_of_nothing_defined_is_nan() -> None:
    summary = metrics.summarise({"ARI_FG": np.full(2, np.nan), "ARI": np.zeros(2)})
    assert np.isnan(summary["ARI_FG"]) and summary["ARI"] == 0 and summary["n_undefined"] == 2


def test_no_images_have_no_scores() -> None:
    scores = metrics.score(MASKS[:0], TRUE[:0], IMAGE[:0], IMAGE[:0])
    assert {values.shape for values in scores.values()} == {(0,)}
    assert np.isnan(metrics.summarise(scores)["mIoU"])


def test_one_object_filling_the_image_is_undefined_not_infinite() -> None:
    scores = metrics.score_labels(np.zeros((1, 4, 4), int), np.ones((1, 4, 4), int), 2)
    assert np.isnan(scores["mIoU_fg"][0]) and scores["mIoU_fg_strict"][0] == 1


def test_numpy_torch_and_layouts_agree() -> None:
    rng = np.random.default_rng(3)
    masks, true = rng.random((2, 4, 6, 6), np.float32), rng.integers(0, 3, (2, 6, 6)).astype(np.uint8)
    pred_image, true_image = rng.random((2, 2, 3, 6, 6), np.float32)
    expected = metrics.score(masks, true, pred_image, true_image)
    for array in (masks, true, pred_image, true_image):
        array.setflags(write=False)  # as views of a shared store are
    for actual in (
        metrics.score(masks[:, :, None], true[:, None], pred_image, true_image),
        metrics.score(
            torch.tensor(masks).requires_grad_(),
            torch.tensor(true),
            torch.tensor(pred_image).requires_grad_(),
            torch.tensor(true_image),
        ),
        metrics.score(masks.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2), true, pred_image, true_image),
    ):
        for name, values in expected.items():
            np.testing.assert_array_equal(actual[name], values, err_msg=name)


@pytest.mark.parametrize("num_slots", [255, 256, 300])
def test_any_number_of_slots_is_hardened_like_numpy(num_slots: int) -> None:
    masks = np.random.default_rng(4).integers(0, 40, (1, num_slots, 8, 8)).astype(np.float32)  # many ties
    labels, _ = metrics.harden(masks)
    np.testing.assert_array_equal(labels, masks.argmax(1))


def test_half_precision_masks() -> None:
    masks = torch.tensor(masks_of(CASES["soft_masks"])).bfloat16()
    assert metrics.harden(masks)[0].tolist() == [CASES["soft_masks"]["pred_labels_after_argmax"]]


def tagged_rows(with_images: bool = True) -> list[dict[str, Any]]:
    case = GOLDEN["tagged_case"]
    true = np.array(case["true"])
    levels = np.float32(case["true_image"])[:, None, None, None]
    images = (flat_images(case["pred_image"], true), np.broadcast_to(levels, (2, 3, 4, 4)))
    masks = one_hot(case["pred"], case["K"])
    return metrics.score_objects(masks, true, case["metadata"], *(images if with_images else ()))


def test_published_values_by_tag() -> None:
    rows = tagged_rows()
    for name, tags in GOLDEN["tagged_case"]["expected_tags"].items():
        for tag, expected in tags.items():
            pairs = metrics.mean_by_tag(rows, tag, name.split("_")[1])
            assert dict(pairs) == pytest.approx(expected, abs=TOLERANCE), (name, tag)
            assert pairs == sorted(pairs, key=lambda pair: pair[1])


def test_published_means_over_objects_and_grounds() -> None:
    rows = tagged_rows()
    for name, expected in GOLDEN["tagged_case"]["expected_means"].items():
        kind, value = name.split("_")
        values = [row[value] for row in rows if (row["object"] == 0) == (kind == "ground")]
        assert np.mean(values) == pytest.approx(expected, abs=TOLERANCE), name


def test_object_rows_make_a_table() -> None:
    table = pa.Table.from_pylist(tagged_rows(with_images=False))
    assert table["image"].to_pylist() == [0, 0, 0, 1, 1, 1]
    assert table["object"].to_pylist() == [
        0,
        1,
        2,
        0,
        1,
        2,
    ]  # the second scene's third object is out of sight
    assert table["material"].to_pylist() == [None, "a", "b", None, "b", "b"]
    assert np.isnan(table["mse"]).all()


IMAGE = np.zeros((1, 3, 4, 4), np.float32)
MASKS = np.ones((1, 2, 4, 4), np.float32)
TRUE = np.zeros((1, 4, 4), int)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((MASKS[0], TRUE), "pred_masks have shape"),
        ((MASKS * np.nan, TRUE), "contain NaN"),
        ((np.full((1, 300, 4, 4), np.nan, np.float32), TRUE), "contain NaN"),
        ((MASKS, TRUE[:, :2]), "differ"),
        ((MASKS, TRUE - 1), "integers from 0"),
        ((MASKS, TRUE * 0.5), "integers from 0"),
        ((MASKS, np.zeros((1, 2, 4, 4), int)), "labels have shape"),
        ((MASKS, TRUE, IMAGE), "only one of"),
        ((MASKS, TRUE, IMAGE, IMAGE[:, :, :2]), "images are"),
        ((MASKS, TRUE, IMAGE, IMAGE.astype(np.uint8)), "floats in"),
    ],
)
def test_mistakes_are_named(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metrics.score(*arguments)


def test_other_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="num_slots of at least 3"):
        metrics.score_labels(TRUE + 2, TRUE, 2)
    with pytest.raises(ValueError, match="metadata of 0 scenes"):
        metrics.score_objects(MASKS, TRUE, [])
    with pytest.raises(ValueError, match="'rotation' is unknown"):
        metrics.mean_by_tag([], "rotation", "iou")


def test_a_reconstruction_that_is_not_finite_does_not_vanish_in_a_mean():
    """mIoU_fg is undefined where there is no object; the error of a picture is defined for every one."""
    means = metrics.summarise({"mIoU_fg": [0.5, np.nan], "MSE": [1.0, np.nan], "loss": [np.nan, 2.0]})
    assert means["mIoU_fg"] == 0.5 and np.isnan(means["MSE"]) and np.isnan(means["loss"])
