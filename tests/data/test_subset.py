import itertools

import numpy as np
import pytest

from data import subset
from data.writing import Facts, write
from tests.data.numbered import scenes

SHARD = 4 * 4 * 6 * 5


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """Forty scenes in eight shards, and a val split."""
    facts = Facts("x", (4, 6), shard_bytes=SHARD)
    folder = str(tmp_path_factory.mktemp("shards") / "x")
    return write(folder, {"train": [scenes(0, 40)], "val": [scenes(40, 10)]}, facts)


def chosen(index, fraction, split="train"):
    """Numbers of the scenes in the part."""
    found = subset.rows(index, split, fraction)
    tables = {shard.name: index.read(shard).column("index").to_numpy() for shard in index.shards(split)}
    assert all((np.diff(rows) > 0).all() and rows.dtype == np.int64 for rows in found.values())
    return [number for name, rows in found.items() for number in tables[name][rows].tolist()]


def test_a_part_has_so_many_scenes_and_lies_in_a_larger_one(index):
    parts = [chosen(index, fraction) for fraction in (0.001, 0.1, 0.5, 0.74, 1.0)]
    assert [len(part) for part in parts] == [1, 4, 20, 30, 40]
    for small, large in itertools.pairwise(parts):
        assert set(small) < set(large) and sorted(large) == large
    assert parts[-1] == list(range(40))
    assert len({number // 5 for number in parts[2]}) > 5, "scenes of all shards, not the first ones"
    assert parts[2] != list(range(20))


def test_it_is_the_same_wherever_the_shards_end(index, tmp_path):
    facts = Facts("x", (4, 6), shard_bytes=3 * SHARD)
    other = write(str(tmp_path / "x"), {"train": [scenes(0, 40)]}, facts)
    assert len(other.shards("train")) == 3 and chosen(other, 0.3) == chosen(index, 0.3)


def test_a_shard_without_a_scene_is_left_out(index):
    (only,) = subset.rows(index, "train", 0.001).values()
    assert len(only) == 1


def test_what_is_said():
    counts = {"train": 40_000, "val": 5000, "test": 5000}
    assert subset.said(counts, 0.1) == "train 4,000 of 40,000 (--data-fraction 0.1), val 5,000, test 5,000"
    assert subset.said(counts, None) == "train 40,000, val 5,000, test 5,000"
    assert subset.said({}, 0.1) == "0.1 of the training split" and "all images" in subset.said({}, None)
