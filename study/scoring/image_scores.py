"""The Ray tasks of the final stage: what an entry scores on a split, image by image, with its objects and pictures."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import ray
import torch

from data import store
from data.loader import Split, sequential
from study.scoring import baselines, diagnosis, extremes, objects, slots
from study.scoring.baselines import BASELINES, GRID_IMAGES, GRIDS
from trainables import checkpoint, metrics, own_metrics, pictures
from trainables.precision import allow_tf32
from trainables.scoring import PANEL_IMAGES, evaluate, images_per_block, panel, restore_model
from trainables.training import Task

Refs = list[ray.ObjectRef]

OBJECTS = "true_objects"
"""The column with the number of objects of which a pixel is visible."""


class Scored(NamedTuple):
    """What a task returns of an entry on a split."""

    scores: dict[str, np.ndarray]
    """per image"""
    pictures: dict[str, bytes]
    """PNG files by their folder below ``pictures``; of ``""`` a few images as in training"""
    objects: dict[str, list[Any]] | None = None
    """columns of objects.parquet"""
    not_finite: int = 0
    """images whose masks are NaN"""


@ray.remote(max_retries=0, scheduling_strategy="SPREAD")
def best_grid(refs: Refs) -> str:
    """The best grid on a split."""
    split = store.open_split(refs)
    passes = sequential(min(len(split), GRID_IMAGES), images_per_block(split.size[0]))
    return baselines.best_grid(split.gather(rows)[1] for rows in passes)


@ray.remote(max_retries=0, scheduling_strategy="SPREAD")
def kmeans_labels(refs: Refs, max_objects: int, seed: int) -> metrics.Labels:
    """k-means' segments of a split, (N, H, W): all entries are compared with them."""
    split = store.open_split(refs)
    passes = sequential(len(split), images_per_block(split.size[0]))
    labels = [baselines.kmeans_labels(split.gather(rows)[0], max_objects, seed).astype(np.uint8) for rows in passes]
    return np.concatenate(labels)


@ray.remote(max_retries=0, scheduling_strategy="SPREAD")
def score_trial(
    task: Task,
    folder: str,
    refs: Refs,
    kmeans: metrics.Labels,
    use_gpu: bool,
    in_detail: bool,
    pictured: bool,
    draws: int = 1,
) -> Scored:
    """What the newest checkpoint in ``folder`` scores on a split; objects only ``in_detail``, pictures if ``pictured``.

    Scores, and each object's IoU, are means over ``draws`` draws of the model's noise. A model that draws none is
    scored once: the column ``draws`` has the number that counts. Pictures show the first draw.
    """
    device = torch.device("cuda" if use_gpu and torch.cuda.is_available() else "cpu")
    allow_tf32(device)
    split = store.open_split(refs)
    state = checkpoint.newest(folder, device)
    assert state is not None
    model = restore_model(state, device)
    rows, step = np.arange(len(split)), state["step"]
    first: metrics.Labels | None = None
    parts: list[dict[str, np.ndarray]] = []
    ious: list[np.ndarray] = []
    found: dict[str, list[Any]] | None = None
    not_finite = 0
    for draw in range(draws):
        labels: list[metrics.Labels] = []
        bad: list[int] = []
        scores = evaluate(
            model,
            split,
            rows,
            step=step,
            precision=task.precision,
            keep=labels.append,
            draw=draw,
            forgive=bad.append,
        )
        not_finite = max(not_finite, sum(bad))
        if draw == 1 and all(np.array_equal(scores[key], parts[0][key], equal_nan=True) for key in ("MSE", "ARI")):
            break  # it draws no noise
        predicted = np.concatenate(labels)
        parts.append({**scores, **_figures(split, predicted, kmeans)})
        first = predicted if first is None else first
        if in_detail and (here := objects.scores(split, predicted)) is not None:
            found = found or here
            ious.append(np.array(here["iou"], np.float64))
    assert first is not None
    means = _means(parts)
    columns = {"image": split.index, **means, "draws": np.full(len(split), len(parts))}
    shown: dict[str, bytes] = {}
    if pictured:
        shown[""] = pictures.encode_png(panel(model, split, step=step, precision=task.precision))
        if in_detail:
            more = {
                extremes.FOLDER: extremes.picture(split, means, first),
                slots.FOLDER: slots.picture(model, split, first, step=step, precision=task.precision),
            }
            shown |= {folder: png for folder, png in more.items() if png}
    if found is not None:
        found["iou"] = np.mean(ious, 0).tolist()
    return Scored(columns, shown, found, not_finite)


@ray.remote(max_retries=0, scheduling_strategy="SPREAD")
def score_baseline(name: str, refs: Refs, kmeans: metrics.Labels, max_objects: int, seed: int) -> Scored:
    """What an untrained baseline scores on a split."""
    split = store.open_split(refs)
    parts, predicted, picture = [], [], b""
    for rows in sequential(len(split), images_per_block(split.size[0])):
        images, true_labels = split.gather(rows)  # (B, H, W, 3), (B, H, W)
        if name == "kmeans":
            labels, num_slots, reconstruction = baselines.painted(
                images, kmeans[rows].astype(np.int64), max_objects + 1
            )
        else:
            labels, num_slots, reconstruction = (BASELINES | GRIDS)[name](images, max_objects, seed)
        truth = images.transpose(0, 3, 1, 2).astype(np.float32) / 255  # (B, 3, H, W)
        own = own_metrics.scores(labels, true_labels, reconstruction, truth)
        parts.append(metrics.score_labels(labels, true_labels, num_slots, reconstruction, truth) | own)
        predicted.append(labels.astype(np.uint8))
        if not picture:
            few = slice(0, PANEL_IMAGES)
            picture = pictures.encode_png(
                pictures.panel(truth[few], reconstruction[few], true_labels[few], labels[few])
            )
    scores = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    columns = {"image": split.index, **scores, **_figures(split, np.concatenate(predicted), kmeans)}
    return Scored({**columns, "draws": np.ones(len(split), np.int64)}, {"": picture})


def _means(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The mean of each image's figures over draws; NaN where one is undefined."""
    return {key: np.mean([part[key] for part in parts], 0) for key in parts[0]} if len(parts) > 1 else dict(parts[0])


def _figures(split: Split, labels: metrics.Labels, kmeans: metrics.Labels) -> dict[str, np.ndarray]:
    """The figures of the diagnosis from the predicted ``labels`` of all images of ``split``, and their true objects."""
    passes = sequential(len(split), images_per_block(split.size[0]))
    true = np.concatenate([split.gather(rows)[1] for rows in passes])  # pass by pass: the images take too much memory
    visible = [(np.bincount(labels.ravel())[1:] > 0).sum() for labels in true]
    return {**diagnosis.figures(labels, true, kmeans), OBJECTS: np.array(visible, np.float64)}
