"""Scores per object, on scenes drawn for it."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from study.scoring import objects

LABELS = np.zeros((3, 6, 6), np.uint8)
LABELS[:, 0:2, 0:2] = 1
LABELS[:, 0:2, 2:4] = 2  # beside the first
LABELS[1:, 4:6, 4:6] = 3  # alone


class Scenes:
    """A split of three scenes: two with objects that touch, and one alone in two of them."""

    index = np.array([7, 8, 9])

    def __len__(self) -> int:
        return 3

    def gather(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros((len(rows), 6, 6, 3), np.uint8), LABELS[rows]

    def metadata(self, row: int) -> dict[str, Any]:
        shapes = ("square", "square", "disc")[: int(LABELS[row].max())]
        things = [{"shape": shape, "size": "small", "material": f"m{i}"} for i, shape in enumerate(shapes)]
        return {"index": 7 + row, "ground_material": "sand", "objects": things}


class Undescribed(Scenes):
    """The same without metadata."""

    def metadata(self, row: int) -> dict[str, Any]:
        return {"index": row, "ground_material": None, "objects": []}


def predicted() -> np.ndarray:
    """The third object is found whole, of the second one half, of the first one nothing."""
    found = np.zeros_like(LABELS)
    found[LABELS == 3] = 2
    found[:, 0:1, 2:4] = 1
    return found


def test_each_visible_object_is_a_row() -> None:
    columns = objects.scores(Scenes(), predicted())  # type: ignore[arg-type]
    assert columns is not None
    assert columns["image"] == [7, 7, 8, 8, 8, 9, 9, 9] and columns["object"] == [1, 2, 1, 2, 3, 1, 2, 3]
    assert columns["iou"] == pytest.approx([0, 0.5, 0, 0.5, 1, 0, 0.5, 1])
    assert columns["touches"] == [True, True, True, True, False, True, True, False]
    assert columns["objects"] == [2, 2, 3, 3, 3, 3, 3, 3] and columns["area"] == pytest.approx([4 / 36] * 8)
    assert columns["shape"][:3] == ["square", "square", "square"] and set(columns["ground_material"]) == {"sand"}
    assert objects.scores(Undescribed(), predicted()) is None  # type: ignore[arg-type]


def test_only_objects_side_by_side_touch() -> None:
    labels = np.zeros((1, 4, 4), int)
    labels[0, 0, 0], labels[0, 1, 1], labels[0, 3, 0], labels[0, 2, 0] = 1, 2, 3, 4
    assert objects.touches(labels) == [{3, 4}], "1 and 2 meet at a corner alone"


def test_rows_of_one_entry_and_split_are_replaced(tmp_path: Path) -> None:
    columns = objects.scores(Scenes(), predicted())  # type: ignore[arg-type]
    assert columns is not None
    path = tmp_path / objects.FILE
    assert objects.read(path) is None
    whose = {"entry": "base", "trial": None, "seed": 1, "split": "test", "source": "a"}
    for change in ({}, {"seed": 2}, {"split": "outd"}, {"source": "b"}):
        objects.add(path, {**whose, **change}, columns)
    table = pq.read_table(path)
    assert table.num_rows == 3 * 8
    assert table["source"].to_pylist().count("a") == 16 and table["source"].to_pylist().count("b") == 8


def test_scores_are_broken_down_by_what_differs(tmp_path: Path) -> None:
    columns = objects.scores(Scenes(), predicted())  # type: ignore[arg-type]
    assert columns is not None
    path = tmp_path / objects.FILE
    better = {**columns, "iou": [0.5] * 8}
    for entry, seed, some in (("trial_0003", 1, columns), ("trial_0003", 2, better), ("base", 1, columns)):
        objects.add(path, {"entry": entry, "trial": 3, "seed": seed, "split": "test", "source": ""}, some)
    parts = objects.breakdown(pq.read_table(path), "test", ["trial_0003", "base"])
    assert [part.tag for part in parts] == ["material"] * 3 + ["shape"] * 2 + ["objects"] * 2 + ["touches"] * 2
    first, second, third = parts[:3]
    assert (first.value, second.value, third.value) == ("m0", "m1", "m2"), "the worst first"
    assert (first.count, second.count, third.count) == (3, 3, 2), "objects, however many seeds"
    assert first.means == pytest.approx({"trial_0003": 0.25, "base": 0.0})
    assert [part.value for part in parts[5:7]] == ["2", "3"] and {part.value for part in parts[7:]} == {"yes", "no"}
    assert objects.breakdown(pq.read_table(path), "camo", ["base"]) == []
