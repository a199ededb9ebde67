"""Shards appear whole or not at all, whoever is killed and however many write."""

import os
import time
from pathlib import Path

import pytest
from pyarrow import fs

from data import shards, writing
from data.pieces import Piece, Work
from data.shards import ShardIndex
from data.writing import Facts
from tests.data.numbered import scenes


def test_shards_are_full_whatever_batches_scenes_come_in_and_the_most_objects_are_of_all(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "SHARD_BYTES", 8 * 4 * 4 * 6)
    batches = [scenes(0, 7), scenes(7, 6), scenes(13, 4)]  # 8, 8, and one scene without an object
    index = writing.write(str(tmp_path / "here"), {"train": batches}, Facts("x", (4, 6)))
    assert [shard.rows for shard in index.shards("train")] == [8, 8, 1] and index.max_objects == 3


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_interrupted_write_leaves_nothing(tmp_path, error):
    def failing():
        yield scenes(0, 2)
        raise error("damaged")

    with pytest.raises(error, match="damaged"):
        writing.write(str(tmp_path / "cache/here"), {"train": failing()}, Facts("x", (4, 6)))
    assert list((tmp_path / "cache").iterdir()) == []


def test_unwritable_folder_is_a_users_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError, match="cannot be written"):
        writing.write(str(tmp_path / "file/here"), {"train": [scenes(0, 2)]}, Facts("x", (4, 6)))


def test_slower_of_two_writers_keeps_the_first(tmp_path):
    index = writing.write(str(tmp_path / "cache/here"), {"train": [scenes(0, 20)]}, Facts("x", (4, 6)))
    state = Path(index.folder).stat().st_mtime_ns
    writing.write(index.folder, {"train": [scenes(0, 2)]}, Facts("x", (4, 6)))
    assert Path(index.folder).stat().st_mtime_ns == state
    assert [path.name for path in Path(index.folder).parent.iterdir()] == ["here"]


def test_files_of_killed_writers_are_deleted_after_a_week(tmp_path):
    """Only old folders that have the name of an unfinished write: others may be somebody's."""
    names = ["old.0123abcd.part", "young.0123abcd.part", "named-by-hand.part", "whole"]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "train-00000.arrow").write_text("pixels")
        if not name.startswith("young"):
            os.utime(tmp_path / name, (time.time() - 8 * 24 * 3600,) * 2)
    writing.write(str(tmp_path / "here"), {"train": [scenes(0, 2)]}, Facts("x", (4, 6)))
    assert {path.name for path in tmp_path.iterdir()} == {"here", *names[1:]}


def test_an_error_of_one_writer_leaves_what_another_has_written(tmp_path):
    """Nor does a folder whose index was deleted cost the unfinished one beside it."""
    facts = Facts("x", (4, 6))
    with writing.unfinished(str(tmp_path / "here"), facts) as part:
        writing.write_shard(part, "train-00000.arrow", scenes(0, 2))
        (tmp_path / "here").mkdir()
        (tmp_path / "here/train-00000.arrow").touch()
        with pytest.raises(ValueError, match=r"has shards and no index\.json"):
            writing.write(str(tmp_path / "here"), {"train": [scenes(0, 2)]}, facts)
        assert Path(part, "train-00000.arrow").exists()


def test_elsewhere_than_on_a_disk_finished_shards_are_found_again(tmp_path, monkeypatch):
    """A file system that is not the local one, as that of ``s3://``: nothing is renamed, the index comes last."""
    far = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    for module in (shards, writing):
        monkeypatch.setattr(module, "filesystem", lambda folder: (far, folder.removeprefix("far://")))
    facts = Facts("x", (4, 6), shard_bytes=2 * 4 * 4 * 6)
    work = Work(lambda split, crop, size, places: iter([scenes(places.start, len(places))]), facts, "far://set")
    pieces = [Piece("train", number, range(2 * number, 2 * number + 2)) for number in range(2)]
    with pytest.raises(KeyboardInterrupt), writing.unfinished("far://set", facts, keep=True) as part:
        assert part == "far://set"
        work.convert(pieces[0])
        raise KeyboardInterrupt
    assert not shards.exists("far://set") and writing.records("far://set") == 1
    before = (tmp_path / "set/train-00000.arrow").stat().st_mtime_ns
    with writing.unfinished("far://set", facts, keep=True) as part:
        written = [work.convert(piece).written for piece in pieces]
        index = writing.publish("far://set", part, {"train": written}, facts)
    assert (tmp_path / "set/train-00000.arrow").stat().st_mtime_ns == before
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == [
        "index.json",
        "train-00000.arrow",
        "train-00001.arrow",
    ]
    assert index == ShardIndex.load("far://set") and index.counts == {"train": 4}
    index.verify()
