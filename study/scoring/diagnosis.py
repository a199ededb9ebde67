"""What a model does with the images, told from its segments: a verdict, with the figures on which it rests.

Scores alone do not tell it: a fixed tiling scores well in ARI_FG, and a model that fails in mIoU_fg may fail in several
ways. Here a segment is the set of an image's pixels that one slot wins, whatever the slot's number.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainables import metrics

FOUND_IOU = 0.5
"""IoU above which a segment is that of an object; no other object can then have it, and the object no other segment."""
PIECE = 0.25
"""Share of an object from which on what one segment covers is a piece of it."""
NOTABLE = 0.01
"""Share of the image from which on a segment is counted."""

TAKES_ALL = 0.9
"""Mean share of the largest segment from which on one slot takes all, if it finds no objects."""
TILES = 0.4
"""Mean ARI between successive images from which on the segments are tiles, if a smaller share of objects is found."""
COLOURS = 0.4
"""Mean ARI with k-means from which on the segments are colours, if the truth is further away."""
FINDS = 0.4
"""Share of the objects that are found from which on a model finds objects. Untrained baselines stay below a third on
textured scenes."""
MANY = 0.3
"""Share of the objects from which on they count as merged, or split, if fewer are found."""
MISSES = 0.6
"""Share of the objects that are neither found nor merged nor split from which on a model misses objects."""

AT_A_TIME = 128
"""Images whose pixels are counted at a time."""

ARI = "ARI"
"""The metric that tells how far the truth is away; it is scored anyway."""

FIGURES = (
    "seg_largest",
    "seg_segments",
    "seg_kmeans",
    "seg_previous",
    "seg_found",
    "seg_merged",
    "seg_split",
)
"""The columns of evaluation.parquet that :func:`figures` describes."""


@dataclass(frozen=True)
class Diagnosis:
    """What an entry does with the images of a split."""

    verdict: str
    """as people read it: 'tiles the image'"""
    because: str
    """the figures on which it rests: 'segmentations of successive images agree at 0.83 ARI'"""

    def __str__(self) -> str:
        return f"{self.verdict} ({self.because})"


def figures(labels: metrics.Labels, true: metrics.Labels, kmeans: metrics.Labels) -> dict[str, NDArray[np.float64]]:
    """The figures of each image, (N,): ``labels``, ``true`` and ``kmeans`` are (N, H, W), in the order of the split.

    - ``seg_largest``: share of the pixels in the largest segment.
    - ``seg_segments``: number of segments that hold at least 1 % of the pixels.
    - ``seg_kmeans``: adjusted Rand index, of all pixels, with the segmentation of the same image by k-means.
    - ``seg_previous``: the same with the segmentation of the previous image, which shows another scene; NaN for the
      first image. Near 1 for a fixed tiling, even one with changing slots; near 0 for segments that follow the scene.
    - ``seg_found``: share of the objects that have a segment with IoU above 0.5.
    - ``seg_merged``: share of the others, more than half of which lies in a segment with more than half of another
      object.
    - ``seg_split``: share of what is left, of which each of several segments covers at least a quarter.

    Merged and split count segments of objects only: one that is mostly background is the ground's, whatever it hides.
    The last three are NaN without objects.
    """
    parts = []
    for first in range(0, len(labels), AT_A_TIME):
        here, before = slice(first, first + AT_A_TIME), slice(max(first - 1, 0), first + AT_A_TIME)
        previous = _agreement(labels[before][:-1], labels[before][1:])
        parts.append(_figures(labels[here], true[here], kmeans[here]) | {"seg_previous": previous})
    parts[0]["seg_previous"] = np.concatenate([[math.nan], parts[0]["seg_previous"]])
    return {name: np.concatenate([part[name] for part in parts]) for name in FIGURES}


def diagnose(means: Mapping[str, float]) -> Diagnosis | None:
    """The verdict on an entry, from the ``means`` of its :data:`FIGURES` and of ARI over the images of a split.

    The first one that holds. Each needs a figure above its threshold, and one more: that the objects are not found all
    the same. A model that finds them may tile the ground behind them, or find what k-means finds where each object has
    a colour of its own; and a fixed tile may happen to fit an object. None where a figure is missing, as in studies of
    earlier versions.
    """
    largest, _, kmeans, previous, found, merged, split = (means.get(name, math.nan) for name in FIGURES)
    truth = means.get(ARI, math.nan)
    if math.isnan(largest + kmeans + found + merged + split + truth):
        return None
    if largest >= TAKES_ALL and found < FINDS:
        return Diagnosis("one slot takes all", f"the largest segment holds {largest:.0%} of the pixels")
    if previous >= TILES and previous > found:
        return Diagnosis("tiles the image", f"segmentations of successive images agree at {previous:.2f} ARI")
    if kmeans >= COLOURS and kmeans > truth:
        return Diagnosis("groups colours", f"{kmeans:.2f} ARI with k-means, {truth:.2f} with the truth")
    if merged >= MANY and merged > found:
        return Diagnosis("merges objects", f"{merged:.0%} of the objects share a segment, {found:.0%} are found")
    if split >= MANY and split > found:
        return Diagnosis("splits objects", f"{split:.0%} of the objects are in pieces, {found:.0%} are found")
    if found >= FINDS:
        return Diagnosis("finds objects", f"{found:.0%} of the objects have a segment with IoU above {FOUND_IOU}")
    if (missed := max(1 - found - merged - split, 0)) >= MISSES:
        return Diagnosis("misses objects", f"{missed:.0%} of the objects are neither found nor merged nor split")
    return Diagnosis("unclear", f"{found:.0%} of the objects are found, {merged:.0%} merged, {split:.0%} split")


def _figures(labels: metrics.Labels, true: metrics.Labels, kmeans: metrics.Labels) -> dict[str, NDArray[np.float64]]:
    """:func:`figures` but for ``seg_previous``, of a few images."""
    counts = _counts(true, labels)  # (B, T, K)
    area, size = counts.sum(2), counts.sum(1)  # (B, T), (B, K)
    share = size / size.sum(1, keepdims=True)
    cover = counts / np.maximum(area, 1)[:, :, None]  # of each label, by each segment
    iou = counts / np.maximum(area[:, :, None] + size[:, None] - counts, 1)
    there = area > 0
    there[:, 0] = False  # the background is no object

    is_found = there & (iou.max(2) > FOUND_IOU)
    cover = np.where(2 * counts[:, :1] > size[:, None], 0, cover)  # without the ground's segments
    holds = there[:, :, None] & (cover > 0.5)
    shared = holds & (holds.sum(1, keepdims=True) > 1)
    is_merged = shared.any(2) & ~is_found
    is_split = there & ((cover >= PIECE).sum(2) > 1) & ~is_found & ~is_merged
    objects = there.sum(1)  # (B,)

    def of_objects(which: NDArray[np.bool_]) -> NDArray[np.float64]:
        return np.where(objects > 0, which.sum(1) / np.maximum(objects, 1), math.nan)

    return {
        "seg_largest": share.max(1),
        "seg_segments": (share >= NOTABLE).sum(1).astype(np.float64),
        "seg_kmeans": _agreement(labels, kmeans),
        "seg_found": of_objects(is_found),
        "seg_merged": of_objects(is_merged),
        "seg_split": of_objects(is_split),
    }


def _agreement(one: metrics.Labels, other: metrics.Labels) -> NDArray[np.float64]:
    """Adjusted Rand index between the label maps (B, H, W) of each pair of images, (B,)."""
    return metrics.adjusted_rand(_counts(one, other))


def _counts(one: metrics.Labels, other: metrics.Labels) -> NDArray[np.int64]:
    return metrics.contingency(one, other, int(one.max(initial=0)) + 1, int(other.max(initial=0)) + 1)
