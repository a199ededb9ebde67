"""Scores per object: what a model finds by material, shape, size, how crowded a scene is, and what touches what.

``objects.parquet`` has one row per entry, seed, split, image and visible object of the finalists: the columns that say
whose it is as in evaluation.parquet, then those of :func:`scores`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data.loader import Split
from study.scoring import score_file
from trainables import metrics

FILE = "objects.parquet"

TAGS = {
    "material": "material",
    "shape": "shape",
    "size": "size",
    "objects": "objects in the scene",
    "touches": "touches another object",
}
"""The columns by which scores are broken down, and how people read them."""

AT_A_TIME = 256
"""Images whose objects are scored at a time."""

WHOSE = ("entry", "trial", "seed", "split", "source")


@dataclass(frozen=True)
class Part:
    """The objects that have one value of a tag."""

    tag: str
    value: str
    count: int
    """objects with that value, of one seed"""
    means: dict[str, float]
    """entry -> mean IoU of these objects over all seeds"""


def scores(split: Split, predicted: metrics.Labels) -> dict[str, list[Any]] | None:
    """IoU of each visible object of ``split`` with its matched segment; None if its scenes are not described.

    ``predicted`` (N, H, W) are labels in the order of the split. Columns: ``image`` (its number in the split),
    ``object`` (true label), ``material``, ``shape``, ``size``, ``color``, ``ground_material``, ``objects`` (visible
    ones in the scene), ``area`` (share of the image that is visible of it), ``touches`` (it has a pixel beside one of
    another object: it may hide part of it, or be hidden; which part of an object is hidden, the data do not say), and
    ``iou``.
    """
    columns: dict[str, list[Any]] = {}
    slots = int(predicted.max(initial=0)) + 1
    for first in range(0, len(split), AT_A_TIME):
        rows = np.arange(first, min(first + AT_A_TIME, len(split)))
        scenes = [split.metadata(int(row)) for row in rows]
        if not any(scene["objects"] for scene in scenes):
            continue
        _, true = split.gather(rows)
        hard = predicted[rows][:, None] == np.arange(slots)[None, :, None, None]  # (B, K, H, W)
        described = [{**scene, "objects": scene["objects"] or []} for scene in scenes]
        visible = [row for row in metrics.score_objects(hard.astype(np.float32), true, described) if row["object"]]
        area = np.stack([(true == label).mean((1, 2)) for label in range(int(true.max(initial=0)) + 1)])  # (T, B)
        touching = touches(true)
        crowd = np.bincount([row["image"] for row in visible], minlength=len(rows))
        for row in visible:
            b, label = row["image"], row["object"]
            found = {
                "image": int(split.index[rows[b]]),
                "object": label,
                **{tag: row[tag] for tag in ("material", "shape", "size", "color", "ground_material")},
                "objects": int(crowd[b]),
                "area": float(area[label, b]),
                "touches": label in touching[b],
                "iou": row["iou"],
            }
            for name, value in found.items():
                columns.setdefault(name, []).append(value)
    return columns or None


def touches(true: NDArray[np.integer]) -> list[set[int]]:
    """For each label map of ``true`` (B, H, W), the objects with a pixel beside or above one of another object."""
    found = []
    for labels in true:
        here: set[int] = set()
        for one, other in ((labels[:, 1:], labels[:, :-1]), (labels[1:], labels[:-1])):
            border = (one != other) & (one > 0) & (other > 0)
            here |= {int(label) for label in np.unique(np.concatenate([one[border], other[border]]))}
        found.append(here)
    return found


def add(path: Path, whose: Mapping[str, Any], columns: Mapping[str, list[Any]]) -> None:
    """Add ``columns``, one entry's objects on one split, to the file ``path``; they replace its earlier ones.

    ``whose`` holds a value for each of :data:`WHOSE`.
    """
    count = len(columns["iou"])
    kinds = dict(zip(WHOSE, (pa.string(), pa.int64(), pa.int64(), pa.string(), pa.string()), strict=True))
    new = pa.table({**{key: pa.array([whose[key]] * count, kind) for key, kind in kinds.items()}, **columns})
    table = read(path)
    if table is not None:
        keys = zip(*(table[key].to_pylist() for key in ("entry", "seed", "split")), strict=True)
        kept = [key != (whose["entry"], whose["seed"], whose["split"]) for key in keys]
        new = pa.concat_tables([table.filter(pa.array(kept, pa.bool_())), new], promote_options="permissive")
    score_file.write(new, path)


def read(path: Path) -> pa.Table | None:
    """The rows of a file; None if it is missing or damaged."""
    try:
        return score_file.read(path)
    except (FileNotFoundError, ValueError):
        return None


def breakdown(table: pa.Table, split: str, entries: Sequence[str]) -> list[Part]:
    """Mean IoU by each of :data:`TAGS` on ``split``, of ``entries``; by tag, the worst of the first entry first.

    A tag that all objects share, or that is unknown, is left out.
    """
    table = table.filter(pa.array([where == split for where in table["split"].to_pylist()], pa.bool_()))
    found: list[Part] = []
    for tag in TAGS:
        groups = table.group_by([tag, "entry"]).aggregate(
            [("iou", "mean"), ("iou", "count"), ("seed", "count_distinct")]
        )
        parts: dict[Any, dict[str, tuple[float, int]]] = {}
        for group in groups.to_pylist():
            if group[tag] is not None and group["entry"] in entries:
                seeds = max(group["seed_count_distinct"], 1)
                parts.setdefault(group[tag], {})[group["entry"]] = group["iou_mean"], group["iou_count"] // seeds
        if len(parts) < 2:
            continue
        here = [
            Part(
                tag,
                _text(value),
                max(count for _, count in by.values()),
                {entry: mean for entry, (mean, _) in by.items()},
            )
            for value, by in parts.items()
        ]
        numbers = tag == "objects"
        here.sort(key=lambda part: int(part.value) if numbers else part.means.get(entries[0], 0.0))
        found += here
    return found


def _text(value: Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
