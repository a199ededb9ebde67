"""The ClevrTex benchmark's segmentation metrics (Karazija et al. 2021), per image, as fractions.

Nothing full-sized is built per slot: the masks are hardened to labels, one ``bincount`` turns the batch into
contingency tables N[t, p] (pixels with true label t and predicted label p), and every metric is a small
formula on them. Axes: B images, K slots, T true labels, S = max(T, K) positions after padding, H W pixels.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

TAGS = ("material", "shape", "size", "color")
"""Properties of an object in the scene's metadata by which :func:`score_objects` lets results be grouped."""

Labels = NDArray[np.integer]
Floats = NDArray[np.float64]


ALWAYS_DEFINED = ("MSE", "loss")
"""Metrics that every image defines: NaN comes from the model."""


class NotFinite(ValueError):
    """Masks hold NaN, so that no slot wins."""


def score(
    pred_masks: Tensor | ArrayLike,
    true_labels: Tensor | ArrayLike,
    pred_image: Tensor | ArrayLike | None = None,
    true_image: Tensor | ArrayLike | None = None,
    *,
    has_background: bool = True,
) -> dict[str, Floats]:
    """All metrics of a batch, each (B,) float64 and independent of the other images in the batch.

    ``pred_masks`` (B, K, H, W) or (B, K, 1, H, W), any finite scores; the largest wins, the first one on a
    tie. With ``has_background=False`` a slot ``1 - sum of masks`` is put before them. ``true_labels``
    (B, H, W) or (B, 1, H, W), integers, 0 = background. ``pred_image``, ``true_image`` (B, 3, H, W), floats
    in [0, 1], unclamped. Tensors may live on any device.

    Compatible with the published evaluator: ``MSE`` (only with images; a sum over 3HW values, so it grows
    with the image), ``acc`` (equal number of segments), ``mIoU``, ``mIoU_fg`` (the benchmark's "mIoU"),
    ``mIoU_gt``, ``DICE``, ``DICE_FG``, ``ARI``, ``ARI_FG``, ``mSC``. These follow its quirks: without any
    background pixel in the truth, ``mIoU_fg`` and ``DICE_FG`` can exceed 1; ``mSC`` leaves out the highest
    true and predicted positions. Corrected under names of their own: ``mIoU_fg_strict`` (at most 1, and
    independent of the numbering of slots unless two matchings tie), ``mSC_full`` (every true label, every
    slot), ``mSC_fg`` (every object, every slot). Of the literature since: ``mBO_fg`` and ``mBO``, mean best overlap
    of the objects, and of all true labels.

    Without true foreground ``mIoU_fg``, ``mIoU_fg_strict``, ``DICE_FG``, ``ARI_FG``, ``mSC``, ``mSC_fg`` and
    ``mBO_fg`` are NaN. Raises ValueError for shapes that do not fit, and labels that are negative or no integers;
    NotFinite for NaN in masks.
    """
    labels, num_slots = harden(pred_masks, has_background=has_background)
    return score_labels(labels, true_labels, num_slots, pred_image, true_image)


def score_labels(
    pred_labels: Tensor | ArrayLike,
    true_labels: Tensor | ArrayLike,
    num_slots: int,
    pred_image: Tensor | ArrayLike | None = None,
    true_image: Tensor | ArrayLike | None = None,
) -> dict[str, Floats]:
    """:func:`score` for hard predictions: ``pred_labels`` (B, H, W), integers in [0, ``num_slots``)."""
    tables = _tables(_label_maps(pred_labels), _label_maps(true_labels), num_slots)
    scores = _matched_metrics(tables) | _rand_metrics(tables) | _covering_metrics(tables) | _overlap_metrics(tables)
    if pred_image is not None or true_image is not None:
        scores["MSE"] = _squared_error(pred_image, true_image).sum((1, 2), dtype=np.float64)
    return scores


def contingency(rows: Labels, columns: Labels, num_rows: int, num_columns: int) -> NDArray[np.int64]:
    """Pixels with each pair of labels, (B, ``num_rows``, ``num_columns``), of two label maps (B, H, W) below these."""
    B = len(rows)
    index = rows.astype(np.int64)
    index += num_rows * np.arange(B)[:, None, None]
    index *= num_columns
    index += columns
    size = B * num_rows * num_columns
    return np.bincount(index.ravel(), minlength=size).reshape(B, num_rows, num_columns)


def adjusted_rand(counts: NDArray[np.int64]) -> Floats:
    """Adjusted Rand index (Hubert & Arabie 1985), ``counts`` (B, T, S) -> (B,); 1 for equal partitions."""
    together = _pairs(counts).sum((1, 2))
    in_true, in_pred = _pairs(counts.sum(2)).sum(1), _pairs(counts.sum(1)).sum(1)
    everywhere = _pairs(counts.sum((1, 2)))
    expected = in_true * in_pred.astype(np.float64) / np.maximum(everywhere, 1)
    index = _ratio(together - expected, (in_true + in_pred) / 2 - expected)
    return np.where((together == in_true) & (together == in_pred), 1.0, index)


def score_objects(
    pred_masks: Tensor | ArrayLike,
    true_labels: Tensor | ArrayLike,
    metadata: Sequence[Mapping[str, Any]],
    pred_image: Tensor | ArrayLike | None = None,
    true_image: Tensor | ArrayLike | None = None,
    *,
    has_background: bool = True,
) -> list[dict[str, Any]]:
    """One row per ground and per visible object, as ``pyarrow.Table.from_pylist`` and ``pandas`` take them.

    Arguments as for :func:`score`; ``metadata`` holds per image ``ground_material`` and ``objects``, a list
    whose entry i describes true label i + 1 by :data:`TAGS`. Columns: ``image`` (position in the batch),
    ``object`` (true label, 0 = ground), ``ground_material``, the tags (None where unknown, and for the
    ground), ``iou`` with the matched slot, ``mse`` (squared error summed over channels and the true mask's
    pixels; NaN without images).
    """
    pred_labels, num_slots = harden(pred_masks, has_background=has_background)
    true = _label_maps(true_labels)
    if len(metadata) != len(true):
        raise ValueError(f"metadata of {len(metadata)} scenes for {len(true)} images; give one per image")
    tables = _tables(pred_labels, true, num_slots)
    B, S = tables.iou.shape[:2]
    error = np.full((B, S), np.nan)
    if pred_image is not None or true_image is not None:
        positions = true + S * np.arange(B)[:, None, None]
        weights = _squared_error(pred_image, true_image).ravel()
        error = np.bincount(positions.ravel(), weights, minlength=B * S).reshape(B, S)

    rows = []
    for b, scene in enumerate(metadata):
        for label, tags in enumerate([{}, *scene["objects"]]):
            # the ground always counts; an object may be hidden, or cropped away
            if label == 0 or (label < S and tables.true_area[b, label] > 0):
                row = {"image": b, "object": label, "ground_material": scene.get("ground_material")}
                row |= {tag: tags.get(tag) for tag in TAGS}
                rows.append(row | {"iou": float(tables.iou[b, label, label]), "mse": float(error[b, label])})
    return rows


def mean_by_tag(rows: Iterable[Mapping[str, Any]], tag: str, value: str) -> list[tuple[Any, float]]:
    """Pairs (value of ``tag``, mean of the column ``value``: "iou" or "mse"), ascending by mean.

    ``rows`` come from :func:`score_objects`. Tag ``ground_material`` averages over grounds, any of
    :data:`TAGS` over objects; unknown tags (None) are left out.
    """
    if tag not in ("ground_material", *TAGS):
        raise ValueError(f"tag {tag!r} is unknown; choose one of ground_material, {', '.join(TAGS)}")
    groups: dict[Any, list[float]] = {}
    for row in rows:
        if (row["object"] == 0) == (tag == "ground_material") and row[tag] is not None:
            groups.setdefault(row[tag], []).append(row[value])
    return sorted(((key, float(np.mean(values))) for key, values in groups.items()), key=lambda pair: pair[1])


def summarise(scores: Mapping[str, ArrayLike]) -> dict[str, float]:
    """Mean of each metric over the images where it is defined, NaN if there is none.

    :data:`ALWAYS_DEFINED` are NaN if they are for one image: then the model's output is not finite.

    ``scores`` as :func:`score` returns them. The key ``n_undefined`` is added: the number of images in which
    at least one metric is undefined.
    """
    columns = {name: np.asarray(values, np.float64) for name, values in scores.items()}
    defined = {
        name: values if name in ALWAYS_DEFINED else values[~np.isnan(values)] for name, values in columns.items()
    }
    means = {name: float(values.mean()) if values.size else float("nan") for name, values in defined.items()}
    undefined = np.isnan(list(columns.values())).any(0)  # (images,)
    return {**means, "n_undefined": float(undefined.sum())}


def harden(masks: Tensor | ArrayLike, *, has_background: bool = True) -> tuple[Labels, int]:
    """The winning slot of each pixel (B, H, W), the first one on a tie, and the number of slots K.

    ``masks`` as in :func:`score`. On a GPU the labels are found there, and only they are moved.
    """
    scores = _tensor(masks)
    if scores.ndim == 5 and scores.shape[2] == 1:
        scores = scores[:, :, 0]
    if scores.ndim != 4 or not scores.shape[1]:
        raise ValueError(f"pred_masks have shape {tuple(scores.shape)}; give (B, K, H, W) or (B, K, 1, H, W)")
    if scores.dtype not in (torch.float32, torch.float64):
        scores = scores.float()
    if not has_background:
        scores = torch.cat([1 - scores.sum(1, keepdim=True), scores], 1)
    B, K, H, W = scores.shape
    if scores.device.type == "cpu" and K <= np.iinfo(np.uint8).max:
        labels = _argmax(scores.reshape(B, K, H * W).numpy()).reshape(B, H, W)
    else:
        if scores.isnan().any():
            raise NotFinite("pred_masks contain NaN; score only masks of finite outputs")
        labels = scores.argmax(1).short().cpu().numpy()
    return labels, K


def _argmax(scores: np.ndarray) -> Labels:
    """First largest slot, ``scores`` (B, K, P), K < 256 -> (B, P).

    About ten times as fast as numpy's and torch's argmax over an axis that is not the last: each pass is a
    plain vector operation, the last two on bytes.
    """
    B, K, P = scores.shape
    rank = np.arange(K, 0, -1, dtype=np.uint8)[:, None]  # (K, 1), highest for the first slot
    labels = np.empty((B, P), np.uint8)
    for b in range(B):  # image by image: the passes then stay in the cache
        largest = scores[b].max(0)  # (P,)
        if np.isnan(largest).any():
            raise NotFinite("pred_masks contain NaN; score only masks of finite outputs")
        labels[b] = K - ((scores[b] == largest).view(np.uint8) * rank).max(0)
    return labels


class _Tables(NamedTuple):
    """Contingency tables, the slots renumbered so that the one matched to true label t has number t."""

    counts: NDArray[np.int64]
    """(B, S, S), pixels of true label t (rows) in slot p (columns)."""
    true_area: NDArray[np.int64]
    """(B, S), pixels of each true label; 0 for padding."""
    pred_area: NDArray[np.int64]
    """(B, S), pixels of each renumbered slot."""
    iou: Floats
    """(B, S, S), intersection over union; 0 where either is empty."""


def _tables(pred: Labels, true: Labels, num_slots: int) -> _Tables:
    """Count and match ``pred`` (B, H, W), labels below ``num_slots``, with ``true`` (B, H, W)."""
    if pred.shape != true.shape:
        raise ValueError(f"predictions {pred.shape} and true labels {true.shape} differ in (B, H, W)")
    if pred.size and pred.max() >= num_slots:
        raise ValueError(f"predicted label {pred.max()} needs num_slots of at least {pred.max() + 1}")
    B = len(true)
    labels_in = true.max((1, 2), initial=0).astype(int) + 1  # (B,)
    S = max(num_slots, labels_in.max(initial=0))
    counts = contingency(true, pred, S, S)
    true_area, pred_area = counts.sum(2), counts.sum(1)  # (B, S)
    union = true_area[:, :, None] + pred_area[:, None, :] - counts
    iou = counts / np.maximum(union, 1)  # (B, S, S)

    # The assignment breaks ties by position and by float32 value, so both are as in the published evaluator: a square
    # matrix with the background in it. But each image is padded by its own labels, not by its batch's.
    slot_of = np.tile(np.arange(S), (B, 1))  # (B, S)
    as_published = iou.astype(np.float32)
    for b, size in enumerate(np.maximum(labels_in, num_slots)):
        slot_of[b, :size] = scipy.optimize.linear_sum_assignment(as_published[b, :size, :size], maximize=True)[1]
    columns = slot_of[:, None, :]
    return _Tables(
        np.take_along_axis(counts, columns, 2),
        true_area,
        np.take_along_axis(pred_area, slot_of, 1),
        np.take_along_axis(iou, columns, 2),
    )


def _matched_metrics(tables: _Tables) -> dict[str, Floats]:
    """Metrics of matched pairs (true label t, slot t)."""
    counts, true_area, pred_area, all_iou = tables
    iou = np.diagonal(all_iou, axis1=1, axis2=2)  # (B, S)
    area = true_area + pred_area
    dice = 2 * np.diagonal(counts, axis1=1, axis2=2) / np.maximum(area, 1)
    occupied_true, occupied_pred = true_area > 0, pred_area > 0
    num_true, num_pred = occupied_true.sum(1), occupied_pred.sum(1)  # (B,)
    num_pairs = (area > 0).sum(1)
    has_foreground = occupied_true[:, 1:].any(1)

    # mIoU_fg divides by the pairs less one for the background, even where there is none. Where nothing is left
    # (one object and one slot fill the image) the published value is infinite, ours is undefined.
    fg_pairs = np.where(has_foreground, num_pairs - 1, 0)
    # Strict: true objects, and slots that are neither paired with one nor with the background; every pair
    # counts once, however the assignment placed slots that overlap nothing.
    fg_found = (iou[:, 1:] > 0).sum(1)
    strict_pairs = occupied_true[:, 1:].sum(1) + num_pred - (iou[:, 0] > 0) - fg_found
    return {
        "acc": (num_true == num_pred).astype(np.float64),
        "mIoU": _ratio(iou.sum(1), num_pairs),
        "mIoU_fg": _ratio(iou[:, 1:].sum(1), fg_pairs),
        "mIoU_gt": _ratio(iou.sum(1), num_true),
        "DICE": _ratio(dice.sum(1), num_pairs),
        "DICE_FG": _ratio(dice[:, 1:].sum(1), fg_pairs),
        "mIoU_fg_strict": _ratio(iou[:, 1:].sum(1), np.where(has_foreground, strict_pairs, 0)),
    }


def _rand_metrics(tables: _Tables) -> dict[str, Floats]:
    """Adjusted Rand indices of all pixels and of the true objects' pixels."""
    ari_fg = adjusted_rand(tables.counts[:, 1:])
    ari_fg[~(tables.true_area[:, 1:] > 0).any(1)] = np.nan
    return {"ARI": adjusted_rand(tables.counts), "ARI_FG": ari_fg}


def _pairs(n: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of unordered pairs among ``n`` things."""
    return n * (n - 1) // 2


def _covering_metrics(tables: _Tables) -> dict[str, Floats]:
    """Segmentation coverings (Arbelaez et al. 2011): best IoU of each true label, weighted by its area."""
    _, true_area, pred_area, iou = tables
    best = iou.max(2)  # (B, S)
    published_best = np.where(_below_highest(pred_area)[:, None, :], iou, 0).max(2)
    weight = np.where(_below_highest(true_area), true_area, 0)
    return {
        "mSC": _ratio((weight * published_best).sum(1), weight.sum(1)),
        "mSC_full": _ratio((true_area * best).sum(1), true_area.sum(1)),
        "mSC_fg": _ratio((true_area * best)[:, 1:].sum(1), true_area[:, 1:].sum(1)),
    }


def _overlap_metrics(tables: _Tables) -> dict[str, Floats]:
    """Mean best overlap (Pont-Tuset et al. 2017, as Seitzer et al. 2023 use it in DINOSAUR).

    The best IoU that any slot has with each true label, every label with the same weight. One slot may be the best of
    several labels, and slots without a label cost nothing: not to be compared with mIoU_fg, which pairs one to one.
    """
    best, there = tables.iou.max(2), tables.true_area > 0  # (B, S), 0 for labels that are not there
    return {
        "mBO": _ratio(best.sum(1), there.sum(1)),
        "mBO_fg": _ratio(best[:, 1:].sum(1), there[:, 1:].sum(1)),
    }


def _below_highest(area: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each position of (B, S) is occupied and some higher position is too."""
    occupied = area > 0
    above = np.logical_or.accumulate(occupied[:, ::-1], 1)[:, ::-1]  # occupied here or higher
    below: NDArray[np.bool_] = occupied & np.pad(above[:, 1:], ((0, 0), (0, 1)))
    return below


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> Floats:
    """``numerator / denominator``, NaN where the denominator is 0."""
    ratio = np.full(numerator.shape, np.nan)
    np.divide(numerator, denominator, out=ratio, where=denominator != 0)
    return ratio


def _squared_error(pred_image: Tensor | ArrayLike | None, true_image: Tensor | ArrayLike | None) -> np.ndarray:
    """Squared error summed over channels, (B, H, W), computed where the prediction lives."""
    if pred_image is None or true_image is None:
        raise ValueError("only one of pred_image and true_image is given; give both or none")
    pred, true = _tensor(pred_image), _tensor(true_image)
    if pred.shape != true.shape or pred.ndim != 4:
        raise ValueError(f"images are {tuple(pred.shape)} and {tuple(true.shape)}; give (B, 3, H, W) twice")
    if not (pred.is_floating_point() and true.is_floating_point()):
        raise ValueError(f"images are {pred.dtype} and {true.dtype}; give floats in [0, 1]")
    return (pred.float() - true.to(pred.device)).square_().sum(1).cpu().numpy()


def _label_maps(labels: Tensor | ArrayLike) -> Labels:
    """Integer label maps (B, H, W) from (B, H, W) or (B, 1, H, W)."""
    maps = labels.cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if maps.ndim == 4 and maps.shape[1] == 1:
        maps = maps[:, 0]
    if maps.ndim != 3:
        raise ValueError(f"labels have shape {maps.shape}; give (B, H, W) or (B, 1, H, W)")
    if not np.issubdtype(maps.dtype, np.integer) or (maps.size and maps.min() < 0):
        raise ValueError(f"labels are {maps.dtype} from {maps.min(initial=0)}; give integers from 0")
    return maps


def _tensor(array: Tensor | ArrayLike) -> Tensor:
    """``array`` as a tensor outside any graph, without copying where that is possible."""
    if isinstance(array, Tensor):
        return array.detach()
    return torch.from_numpy(np.require(array, requirements="W"))
