"""Untrained baselines, which every trained model should beat: they see one image at a time."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables import metrics

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]
Points = NDArray[np.float32]
Prediction = tuple[Labels, int, NDArray[np.float32]]
"""Labels (B, H, W), number of slots K, reconstruction (B, 3, H, W) in [0, 1]: each segment's mean colour."""

POSITION_WEIGHT = 0.1
"""Length of the image's side in feature space, where the colour cube's edge is 1. Chosen for mIoU_fg on
``synthetic:plain``; from 0.2 on, the ground falls apart."""
GRID_IMAGES = 1000
"""Validation images on which the best grid is chosen, if there are as many."""
SAMPLE_SIDE = 32
"""Centres are fitted to a regular grid of about this many pixels a side; then all pixels are assigned."""
RESTARTS = 4
"""Starts of Lloyd's algorithm, of which the best counts."""
ITERATIONS = 10
"""Iterations of Lloyd's algorithm per start."""


def background(images: Images, max_objects: int, seed: int) -> Prediction:
    """Everything is background, in the mean colour of each of the ``images`` (B, H, W, 3)."""
    return painted(images, np.zeros(images.shape[:3], np.int64), 1)


def grid(rows: int, columns: int, images: Images, max_objects: int, seed: int) -> Prediction:
    """``rows`` times ``columns`` equal patches of ``images`` (B, H, W, 3)."""
    return painted(images, _patches(rows, columns, images.shape[:3]), rows * columns)


def kmeans(images: Images, max_objects: int, seed: int) -> Prediction:
    """:func:`kmeans_labels` as a prediction."""
    return painted(images, kmeans_labels(images, max_objects, seed), max_objects + 1)


def kmeans_labels(images: Images, max_objects: int, seed: int) -> Labels:
    """``max_objects + 1`` clusters of colour and position in each of the ``images`` (B, H, W, 3); labels (B, H, W).

    Lloyd's algorithm from k-means++ centres (Arthur & Vassilvitskii 2007), the best of a few starts. The random
    numbers are the same for every image, so that its clusters do not depend on its batch.
    """
    B, H, W, _ = images.shape
    K = max_objects + 1
    y, x = np.meshgrid((np.arange(H) + 0.5) / H, (np.arange(W) + 0.5) / W, indexing="ij")
    position = POSITION_WEIGHT * np.stack([y, x], -1)  # (H, W, 2)
    stride = max(1, min(H, W) // SAMPLE_SIDE)
    draws = np.random.default_rng(seed).random((RESTARTS, K))
    labels = np.empty((B, H, W), np.int64)
    for b, image in enumerate(images):
        points = np.concatenate([image / 255, position], -1).astype(np.float32)  # (H, W, 5)
        centres = _centres(points[::stride, ::stride].reshape(-1, 5), draws)
        labels[b] = _assign(points.reshape(-1, 5), centres[None])[0].reshape(H, W)
    return labels


def painted(images: Images, labels: Labels, num_slots: int) -> Prediction:
    """The prediction that paints every segment in its mean colour."""
    B, K = len(images), num_slots
    index = labels + K * np.arange(B)[:, None, None]  # (B, H, W)
    size = np.maximum(np.bincount(index.ravel(), minlength=B * K), 1)
    channels = np.moveaxis(images, -1, 0).reshape(3, -1)
    colours = [np.bincount(index.ravel(), channel, minlength=B * K) / size / 255 for channel in channels]
    return labels, K, np.stack([colour[index] for colour in colours], 1).astype(np.float32)


SHAPES = ((1, 2), (2, 1), (2, 2), (2, 3), (3, 2), (3, 3), (3, 4), (4, 3), (4, 4))
"""Rows and columns of the grids among which the best is chosen, the coarsest first."""

GRIDS = {f"grid_{rows}x{columns}": partial(grid, rows, columns) for rows, columns in SHAPES}
"""The grids by name, as in :data:`BASELINES`."""

BASELINES: dict[str, Callable[[Images, int, int], Prediction]] = {
    "background": background,
    "grid_4x4": GRIDS["grid_4x4"],
    "kmeans": kmeans,
}
"""Name -> function of (images uint8 (B, H, W, 3), max_objects, seed). The best grid joins them in the final stage."""


def best_grid(batches: Iterable[metrics.Labels]) -> str:
    """The one of :data:`GRIDS` with the highest mean mIoU_fg on ``batches`` of true labels (B, H, W); of equals the
    coarsest."""
    scores: dict[str, list[metrics.Floats]] = {name: [] for name in GRIDS}
    for true in batches:
        for name, (rows, columns) in zip(GRIDS, SHAPES, strict=True):
            patches = _patches(rows, columns, true.shape)
            scores[name].append(metrics.score_labels(patches, true, rows * columns)["mIoU_fg"])
    means = metrics.summarise({name: np.concatenate(found) for name, found in scores.items()})
    return max(GRIDS, key=lambda name: np.nan_to_num(means[name]))


def grid_note(record: Mapping[str, Any]) -> list[str]:
    """Which grid is the best one of the study whose study.json is ``record``; nothing if it has not been chosen."""
    grid = record.get("best_grid")
    return [f"the best fixed grid on validation is {grid} (rows x columns)"] if grid else []


def _patches(rows: int, columns: int, shape: tuple[int, ...]) -> Labels:
    """The patches of a grid as labels of ``shape`` (B, H, W), row by row."""
    _, H, W = shape
    row, column = np.arange(H) * rows // H, np.arange(W) * columns // W
    return np.broadcast_to(columns * row[:, None] + column, shape)


def _centres(points: Points, draws: NDArray[np.float64]) -> Points:
    """The best of R sets of centres (K, F) for ``points`` (P, F); ``draws`` (R, K), uniform, start them."""
    R, K = draws.shape
    P, F = points.shape
    centres = np.empty((R, K, F), np.float32)
    nearest = np.ones((R, P), np.float32)
    for k in range(K):
        # the first centre is uniform; a further one has a chance in proportion to its squared distance to the nearest
        chance = nearest.cumsum(1, dtype=np.float64)
        chosen = (chance > draws[:, k, None] * chance[:, -1:]).argmax(1)  # (R,)
        centres[:, k] = points[chosen]
        distance = ((points - points[chosen, None]) ** 2).sum(2)  # (R, P)
        nearest = np.minimum(nearest, distance) if k else distance

    for _ in range(ITERATIONS):
        labels, _ = _assign(points, centres)
        index = (labels + K * np.arange(R)[:, None]).ravel()
        size = np.bincount(index, minlength=R * K).reshape(R, K)
        for f in range(F):
            total = np.bincount(index, np.tile(points[:, f], R), minlength=R * K).reshape(R, K)
            mean = total / np.maximum(size, 1)
            centres[..., f] = np.where(size > 0, mean, centres[..., f])  # an empty cluster stays where it is
    return centres[_assign(points, centres)[1].argmin()]


def _assign(points: Points, centres: Points) -> tuple[Labels, Points]:
    """The nearest of ``centres`` (R, K, F) to each of ``points`` (P, F): labels (R, P) and error (R,).

    The error is the sum of squared distances without the points' own squares, which are the same for all centres.
    """
    distance = (centres**2).sum(2)[..., None] - 2 * centres @ points.T  # (R, K, P)
    return distance.argmin(1), distance.min(1).sum(1)
