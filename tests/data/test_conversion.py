"""A large set is converted in pieces by several processes: killed, waited for, continued, with all faults named."""

import dataclasses
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from data import conversion, converters, writing
from data.convert import prepare
from data.pieces import Piece, Work
from data.shards import ShardIndex
from data.source import Found
from data.sources import clevrtex
from data.spec import parse
from data.writing import Facts
from tests.data.held_conversion import SHARD_BYTES
from tests.data.numbered import scenes

ROOT = Path(__file__).parent / "clevrtex"
SPEC = parse("clevrtex:full-crop-(32,32)")
CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture
def root(tmp_path):
    """A copy of the scenes, to change."""
    return shutil.copytree(ROOT, tmp_path / "root")


@pytest.fixture
def many(monkeypatch):
    """Twelve scenes are many, and a shard holds two."""
    monkeypatch.setattr(conversion, "FEW", 0)
    monkeypatch.setattr(writing, "SHARD_BYTES", SHARD_BYTES)


def files(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def in_order(root, cache, monkeypatch):
    """What one process writes."""
    monkeypatch.setattr(conversion, "FEW", 99)
    monkeypatch.setattr(writing, "SHARD_BYTES", SHARD_BYTES)
    return prepare(SPEC, root=str(root), cache=str(cache))


def work(folder, root=ROOT):
    found = clevrtex.Source().find("full", str(root))
    return Work(found.some, Facts(str(SPEC), (32, 32), crop=True, shard_bytes=SHARD_BYTES), str(folder))


def test_a_piece_has_the_bytes_of_the_same_shard_written_in_order(tmp_path, monkeypatch):
    index = in_order(ROOT, tmp_path / "cache", monkeypatch)
    assert [shard.rows for shard in index.shards("train")] == [2] * 5
    (tmp_path / "part").mkdir()
    outcome = work(tmp_path / "part").convert(Piece("train", 3, range(6, 8)))
    assert outcome.faults == [] and outcome.written.shard == index.shards("train")[3]
    assert files(tmp_path / "part")["train-00003.arrow"] == files(index.folder)["train-00003.arrow"]


def test_a_finished_piece_is_not_converted_again_unless_it_is_damaged(tmp_path):
    piece = Piece("train", 0, range(2))
    first = work(tmp_path).convert(piece)
    shard, note = tmp_path / "train-00000.arrow", tmp_path / "train-00000.arrow.record"
    good = shard.read_bytes()

    def again():
        before = shard.stat().st_mtime_ns, shard.stat().st_ino
        assert work(tmp_path).convert(piece) == first and shard.read_bytes() == good
        return before != (shard.stat().st_mtime_ns, shard.stat().st_ino)

    assert not again()
    for damaged in (good[:-1], bytes(len(good)), b""):
        shard.write_bytes(damaged)
        assert again()
    for record in (b"", b"{}", b"[]", note.read_bytes().replace(b'"rows": 2', b'"rows": 3'), b"\xff"):
        note.write_bytes(record)
        assert again()
    shard.unlink()
    work(tmp_path).convert(piece)
    assert shard.read_bytes() == good
    other = Facts(str(SPEC), (32, 32), crop=False, shard_bytes=2 * SHARD_BYTES)  # a record of another conversion
    assert writing.recorded(str(tmp_path), "train-00000.arrow", 2, other.digest) is None


def damage(root, *numbers):
    for number in numbers:
        path = root / f"clevrtex_full/0/CLEVRTEX_full_{number:06d}.png"
        path.write_bytes(path.read_bytes()[:5000])


@pytest.mark.parametrize("few", [True, pytest.param(False, marks=pytest.mark.ray)])
def test_all_faults_are_named_and_nothing_is_left(root, tmp_path, monkeypatch, many, request, few):
    if few:
        monkeypatch.setattr(conversion, "FEW", 99)
    else:
        request.getfixturevalue("ray_cluster")
    damage(root, 0, 3, 4, 11)
    (root / "clevrtex_full/0/CLEVRTEX_full_000007.json").write_text("{}")
    with pytest.raises(ValueError) as error:
        prepare(SPEC, root=str(root), cache=str(tmp_path / "cache"))
    first, *lines = str(error.value).split("\n  ")
    assert first == "5 faults in 12 scenes:"
    assert [line[line.index("full_0") :][:11] for line in lines] == [f"full_{n:06d}" for n in (0, 3, 4, 7, 11)]
    assert list((tmp_path / "cache").iterdir()) == []


class Damaged(ValueError):
    """As data.source.Damaged: it names several files, and the iterator that raises it goes on."""

    lines = ("a.png is damaged", "b.png is damaged")


class Batches:
    """Three batches of four scenes, of which the second cannot be read."""

    def __init__(self, error):
        self.error, self.number = error, 0

    def __iter__(self):
        return self

    def __next__(self):
        self.number += 1
        if self.number == 2:
            raise self.error
        if self.number > 3:
            raise StopIteration
        return scenes(4 * self.number, 4)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Damaged(), r"^4 faults in 24 scenes:\n  a\.png is damaged\n  b\.png is damaged\n  val a"),
        (ValueError("a.png is damaged"), r"^a\.png is damaged$"),
    ],
)
def test_scenes_that_are_read_in_order_go_on_past_faults_where_they_can(tmp_path, error, said):
    class Other(Damaged):
        lines = ("val a", "val b")

    def found_scenes(split, crop, size):
        return Batches(Other() if split == "val" and isinstance(error, Damaged) else error)

    found = Found("key", {"train": 12, "val": 12}, found_scenes)
    with pytest.raises(ValueError, match=said):
        conversion.convert(found, ["train", "val"], str(tmp_path / "x"), Facts("x", (4, 6)), lambda n: None, print)
    assert list(tmp_path.iterdir()) == []


def test_a_size_that_cannot_be_is_said_once(tmp_path):
    def some(split, crop, size, places):
        raise ValueError("size (4, 6) is too small")
        yield

    found = Found("key", {"train": 12}, lambda *_: some(*_, range(12)), some=some)
    with pytest.raises(ValueError, match=r"^size \(4, 6\) is too small$"):
        conversion.convert(found, ["train"], str(tmp_path / "x"), Facts("x", (4, 6)), lambda n: None, print)


@pytest.mark.ray
def test_several_processes_write_what_one_writes(ray_cluster, tmp_path, monkeypatch, many):
    said = io.StringIO()
    index = prepare(SPEC, root=str(ROOT), cache=str(tmp_path / "many"), console=Console(file=said))
    alone = in_order(ROOT, tmp_path / "one", monkeypatch)
    assert files(index.folder) == files(alone.folder) and index.fingerprint == alone.fingerprint
    assert "going on" not in said.getvalue()


@pytest.mark.ray
@pytest.mark.parametrize("deaths", [1, 99])
def test_a_process_that_dies_is_replaced_but_not_for_ever(ray_cluster, tmp_path, deaths):
    (tmp_path / "part").mkdir()
    sound = work(tmp_path / "part")

    def some(split, crop, size, places):
        died = tmp_path / f"died-{len(list(tmp_path.glob('died-*')))}"
        if split == "val" and not (tmp_path / f"died-{deaths - 1}").exists():
            died.touch()
            os._exit(1)
        return sound.some(split, crop, size, places)

    pieces = [Piece("train", 0, range(2)), Piece("val", 0, range(1))]
    found = converters.outcomes(Work(some, sound.facts, sound.folder), pieces, [], print)
    if deaths == 1:
        assert {piece for piece, outcome in found if outcome.written} == set(pieces)
    else:
        with pytest.raises(
            ValueError, match=r"3 processes that converted val-00000\.arrow have died; free some memory"
        ):
            list(found)


@pytest.mark.ray
def test_a_disk_that_takes_nothing_more_is_named(ray_cluster, tmp_path, monkeypatch, many):
    """An error of another process, as on a full disk."""
    found = clevrtex.Source().find("full", str(ROOT))
    facts = Facts(str(SPEC), (32, 32), crop=True, shard_bytes=SHARD_BYTES)

    def some(split, crop, size, places):
        raise OSError(28, "No space left on device")

    full = dataclasses.replace(found, some=some)
    with pytest.raises(ValueError, match=r"cannot be written .*No space left on device.*; make room there, or choose"):
        conversion.convert(full, ["val"], str(tmp_path / "here"), facts, lambda n: None, print)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def start():
    """Starts ``tests.data.held_conversion``; what a failed test leaves running is killed."""
    started = []

    def start(go, cache):
        module = [sys.executable, "-m", "tests.data.held_conversion", str(go)]
        command = [*module, str(SPEC), "--data-root", str(ROOT), "--cache", str(cache)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, cwd=CHECKOUT, **pipes))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def finished(cache):
    return {path: path.stat().st_mtime_ns for path in Path(cache).glob("*.part/*.arrow")}


def wait_for(what, process, seconds=200):
    deadline = time.monotonic() + seconds
    while not what():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.05)


@pytest.mark.ray
def test_a_killed_conversion_goes_on(tmp_path, monkeypatch, start):
    go, cache = tmp_path / "go", tmp_path / "cache"
    first = start(go, cache)
    wait_for(lambda: len(list(cache.glob("*.part/*.record"))) == 4, first)
    first.kill()
    first.communicate()
    before = finished(cache)
    assert len(before) == 4 and not list(cache.glob("*/index.json"))
    go.touch()
    out, err = start(go, cache).communicate()
    found = re.search(r"going on from an earlier start: (\d) of 7 shards are there", err)
    assert found and int(found[1]) >= 4, err  # workers of the first may have outlived it for a moment
    index = ShardIndex.load(out.splitlines()[-1])
    assert {path.name: (Path(index.folder) / path.name).stat().st_mtime_ns for path in before} == {
        path.name: time for path, time in before.items()
    }
    assert files(index.folder) == files(in_order(ROOT, tmp_path / "one", monkeypatch).folder)


@pytest.mark.ray
def test_a_second_converter_waits_and_takes_over_from_one_that_is_told_to_end(tmp_path, monkeypatch, start):
    go, cache = tmp_path / "go", tmp_path / "cache"
    first = start(go, cache)
    wait_for(lambda: len(list(cache.glob("*.part/*.record"))) == 4, first)
    second = start(go, cache)
    assert "converting" in second.stderr.readline() and "another process writes" in second.stderr.readline()
    first.send_signal(signal.SIGTERM)
    out, err = first.communicate()
    assert first.returncode == 130 and out == "", err
    assert err.splitlines()[-1] == "stopped; nothing half-written is used, and the same command goes on"
    assert "Traceback" not in err and "SIGTERM" not in err
    go.touch()
    out, err = second.communicate()
    assert second.returncode == 0 and "of 7 shards are there" in err, err
    folder = Path(out.splitlines()[-1])
    assert files(folder) == files(in_order(ROOT, tmp_path / "one", monkeypatch).folder)
