"""``data/verify.py`` recomputes all that an index says."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data import index_file, integrity, verify, writing
from data.convert import prepare
from data.scenes import Scenes
from data.shards import ShardIndex
from data.spec import parse
from data.writing import Facts
from tests.data.numbered import scenes

ROOT = Path(__file__).parent / "clevrtex"
SPEC = parse("clevrtex:full-crop-(32,32)")


@pytest.fixture
def index(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "SHARD_BYTES", 8 * 4 * 4 * 6)
    return write(tmp_path, numbered(0, 20))


def numbered(start, count):
    """Scenes with labels that their metadata allow."""
    some = scenes(start, count)
    labels = np.minimum(some.labels, np.array([len(scene["objects"]) for scene in some.metadata])[:, None, None])
    return dataclasses.replace(some, labels=labels.astype(np.uint8))


def write(folder, train):
    return writing.write(str(folder / "here"), {"train": [train], "test": [numbered(50, 3)]}, Facts("x", (4, 6)))


def test_a_sound_set_is_described(index):
    report = integrity.inspect(index)
    assert report.faults == []
    train = report.splits["train"]
    assert (train.shards, train.scenes, train.highest_label, train.objects, train.empty) == (3, 20, 3, (0, 3), 5)
    assert report.splits["test"].scenes == 3


def label_above_the_objects(train: Scenes) -> None:
    train.labels[13, 0, 0] = 9


def two_scenes_of_one_number(train: Scenes) -> None:
    train.index[12] = 11


def a_shard_twice(train: Scenes) -> None:
    train.index[8:] -= 8


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (label_above_the_objects, r"train-00001.arrow has label 9 in a scene of 1 objects"),
        (two_scenes_of_one_number, r"train-00001.arrow has scenes that are not in order, or twice"),
        (a_shard_twice, r"train-00001.arrow has scenes that are not in order, or twice"),
    ],
)
def test_content_that_cannot_be_is_found_though_checksums_hold(tmp_path, monkeypatch, change, said):
    monkeypatch.setattr(writing, "SHARD_BYTES", 8 * 4 * 4 * 6)
    train = numbered(0, 20)
    change(train)
    report = integrity.inspect(write(tmp_path, train))
    assert len(report.faults) == 1 and said in report.faults[0]


def test_all_damaged_shards_are_named(index):
    for name in ("train-00000.arrow", "test-00000.arrow"):
        path = Path(index.folder) / name
        content = bytearray(path.read_bytes())
        content[-20] ^= 4
        path.write_bytes(content)
    (Path(index.folder) / "train-00002.arrow").unlink()
    (Path(index.folder) / "stray").write_text("x")
    faults = integrity.inspect(index).faults
    assert [fault.partition(";")[0].removeprefix(index.folder) for fault in faults] == [
        "/train-00000.arrow is damaged (wrong checksum)",
        "/train-00002.arrow is missing",
        "/test-00000.arrow is damaged (wrong checksum)",
        "/stray is none of its files",
    ]


def test_an_index_of_version_1_is_read_and_what_it_says_is_recomputed(index):
    """It has no checksum of itself, so more can be wrong with it."""
    path = Path(index.folder) / "index.json"
    fields = json.loads(path.read_text())
    del fields["checksum"]
    old = {**fields, "schema_version": 1}
    path.write_text(json.dumps(old, indent=1))
    assert ShardIndex.load(index.folder) == dataclasses.replace(index, schema_version=1)
    assert integrity.inspect(ShardIndex.load(index.folder)).faults == []
    path.write_text(json.dumps({**old, "max_objects": 2}))
    (fault,) = integrity.inspect(ShardIndex.load(index.folder)).faults
    assert "up to 3 objects in a scene, its index says 2" in fault
    for wrong in ({"counts": {"train": 21, "test": 3}}, {"fingerprint": "0" * 64}, {"spec": "y"}):
        path.write_text(json.dumps({**old, **wrong}))
        with pytest.raises(ValueError, match="no readable index"):
            ShardIndex.load(index.folder)


def test_what_is_written_has_the_present_version(index):
    assert json.loads((Path(index.folder) / "index.json").read_text())["schema_version"] == index_file.SCHEMA_VERSION


def test_the_command(tmp_path):
    index = prepare(SPEC, root=str(ROOT), cache=str(tmp_path / "cache"))
    assert verify.find(str(SPEC), str(tmp_path / "cache")) == index == verify.find(index.folder)
    done = run(index.folder, cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == f"verifying {SPEC}: 12 images\n"
    assert f"fingerprint {index.fingerprint[:16]}  verified" in done.stdout
    assert "train              10 of      10 scenes" in done.stdout and "12 of the 50,000 published" in done.stdout
    (Path(index.folder) / "index.json").unlink()
    done = run(str(SPEC), "--cache", str(tmp_path / "cache"), cwd=tmp_path)
    assert done.returncode == 2 and "has shards and no index.json, which somebody deleted; delete" in done.stderr
    assert done.stdout == "" and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("arguments", [(), ("nowhere",), ("synthetic-(16,16)",), ("synthetic",), ("x", "--what")])
def test_bad_input_is_one_line(tmp_path, arguments):
    done = run(*arguments, "--cache", str(tmp_path), cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1


def run(*arguments, cwd):
    script = Path(__file__).parents[2] / "data" / "verify.py"
    return subprocess.run([sys.executable, script, *arguments], cwd=cwd, capture_output=True, text=True)
