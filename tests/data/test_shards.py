import json
from pathlib import Path

import numpy as np
import pytest

from data import shards, writing
from data.loader import Split
from data.shards import ShardIndex
from data.writing import Facts
from tests.data.numbered import scenes


@pytest.fixture
def index(tmp_path, monkeypatch):
    """Three shards of train, of 8, 8 and 4 scenes, one of test."""
    monkeypatch.setattr(writing, "SHARD_BYTES", 8 * 4 * 4 * 6)
    train = [scenes(0, 5), scenes(5, 14), scenes(19, 1)]
    return writing.write(
        str(tmp_path / "cache/here"), {"train": iter(train), "test": [scenes(50, 3)]}, Facts("x", (4, 6))
    )


def test_round_trip(index):
    assert ShardIndex.load(index.folder) == index
    index.verify()
    assert [shard.rows for shard in index.shards("train")] == [8, 8, 4]
    assert index.counts == {"train": 20, "test": 3} and index.max_objects == 3
    train = Split([index.read(shard) for shard in index.shards("train")])
    assert len(train) == 20 and train.size == (4, 6)
    assert train.index.tolist() == list(range(20))
    rows = np.array([19, 0, 7, 8, 15, 16, 7])  # out of order, across shards, twice
    images, labels = train.gather(rows)
    assert images.shape == (7, 4, 6, 3) and (images == rows[:, None, None, None]).all()
    assert labels.shape == (7, 4, 6) and (labels == rows[:, None, None] + 1).all()
    written = scenes(0, 20).metadata
    assert [train.metadata(row) for row in range(20)] == [{"index": row, **written[row]} for row in range(20)]


def test_everything_is_every_split_in_order(index):
    everything = Split([index.read(shard) for shard in index.shards("all")])
    assert everything.index.tolist() == [*range(20), 50, 51, 52]


def test_columns_are_views_of_the_table(index):
    table = index.read(index.shards("test")[0])
    chunk = table.column("image").chunk(0)
    assert chunk.to_numpy_ndarray().ctypes.data == chunk.storage.values.buffers()[1].address


def test_unknown_split(index):
    with pytest.raises(ValueError, match="no images in split 'val'; it has train, test"):
        index.rows("val")


def test_flipped_bit_is_found(index):
    path = Path(index.folder) / "train-00001.arrow"
    content = bytearray(path.read_bytes())
    content[300] ^= 1
    path.write_bytes(content)
    index.verify(deep=False)
    with pytest.raises(ValueError, match=r"train-00001.arrow is damaged .wrong checksum.; delete"):
        index.verify()


def test_short_and_missing_shards_are_found_at_a_glance(index):
    path = Path(index.folder) / "test-00000.arrow"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"test-00000.arrow has \d+ bytes instead of"):
        index.verify(deep=False)
    path.unlink()
    with pytest.raises(ValueError, match=r"test-00000.arrow is missing"):
        index.verify(deep=False)


def test_index_of_another_version_or_none(index, tmp_path):
    path = Path(index.folder) / "index.json"
    fields = json.loads(path.read_text())
    path.write_text(json.dumps({**fields, "schema_version": 99}))
    with pytest.raises(ValueError, match="version 99"):
        ShardIndex.load(index.folder)
    path.write_text(path.read_text()[:20])
    with pytest.raises(ValueError, match=r"no readable index\.json"):
        ShardIndex.load(index.folder)
    with pytest.raises(ValueError, match=r"no readable index\.json"):
        ShardIndex.load(str(tmp_path / "nowhere"))


def test_a_uri_of_an_unknown_kind_is_named():
    with pytest.raises(ValueError, match=r"nowhere://x cannot be used .*give a folder, or a URI on s3:// or gs://"):
        shards.exists("nowhere://x")


def test_unreadable_shard_is_a_users_error(index):
    path = Path(index.folder) / "train-00001.arrow"
    path.unlink()
    path.mkdir()
    with pytest.raises(ValueError, match=r"train-00001.arrow cannot be read"):
        index.read(index.shards("train")[1])


def test_uri(tmp_path):
    """Through pyarrow's file systems by URI, as ``s3://`` goes; only the scheme differs."""
    folder = f"file://{tmp_path}/cache"
    index = writing.write(folder, {"train": [scenes(0, 2)]}, Facts("x", (4, 6)))
    assert ShardIndex.load(folder) == index
    index.verify()
