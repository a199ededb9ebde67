"""What trials share, shown on a real cluster: one copy of the pixels per node, no private memory, no image file."""

import dataclasses
import io
import os
import re
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import ray
from rich.console import Console

from data import converters, machine, ray_session, reading, store
from data.convert import prepare
from data.loader import Shuffle
from data.machine import free_memory
from data.scenes import Scenes
from data.spec import parse
from data.writing import Facts, write
from tests import documents

pytestmark = pytest.mark.ray

SIDE, ROWS = 128, 1500  # 98 MB in two shards: far above the noise of a process's memory
ROOT = Path(__file__).parent / "clevrtex"


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (ROWS, SIDE, SIDE, 3), np.uint8)
    scenes = Scenes(np.arange(ROWS), images, images[..., 0] % 5, [{"ground_material": "wood", "objects": []}] * ROWS)
    folder = str(tmp_path_factory.mktemp("shards") / "x")
    return write(folder, {"train": [scenes[:1400]], "val": [scenes[1400:]]}, Facts("x", (SIDE, SIDE)))


@pytest.fixture(scope="module")
def refs(ray_cluster, index):
    return store.load(index, ["train", "val"])


@pytest.fixture(scope="module")
def trials(ray_cluster):
    actors = [Trial.remote(), Trial.remote()]
    yield actors
    for actor in actors:  # the cluster outlives this module
        ray.kill(actor)


def memory(kind):
    """A share of this process's resident memory in bytes: RssAnon is private, RssShmem shared."""
    return int(re.search(rf"{kind}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024


def inode_and_offset(address):
    """Which byte of which mapped file lies at ``address``: the same numbers in two processes mean one memory."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        bounds, _, offset, device, inode = line.split()[:5]
        start, end = (int(bound, 16) for bound in bounds.split("-"))
        if start <= address < end:
            return device, inode, int(offset, 16) + address - start
    raise AssertionError("address is not mapped")


@ray.remote(num_cpus=1)
class Trial:
    """Reads as a trial does."""

    def open(self, warmup, refs):
        store.open_split(warmup)  # imports what reading a table takes
        before = memory("RssAnon")
        self.split = store.open_split(refs)
        checksum = int(sum(images.sum(dtype=np.int64) for images in self.split._images))  # touches every pixel
        return {
            "pid": os.getpid(),
            "grown": memory("RssAnon") - before,
            "shared": memory("RssShmem"),
            "checksum": checksum,
            "where": [inode_and_offset(images.ctypes.data) for images in self.split._images],
            "writable": any(images.flags.writeable for images in self.split._images),
        }

    def train(self, batches):
        """Private memory gained by an epoch of batches, once the first has been drawn; files open meanwhile."""
        shuffle = Shuffle(len(self.split), 64, seed=0)
        self.split.gather(shuffle.next())
        before = memory("RssAnon")
        for _ in range(batches):
            self.split.gather(shuffle.next())
        return memory("RssAnon") - before

    def opened(self, refs):
        """Names of the files that are opened while a split is opened and read."""
        names: list[str] = []
        sys.addaudithook(lambda event, detail: names.append(str(detail[0])) if event == "open" else None)
        split = store.open_split(refs)
        images, _ = split.gather(np.arange(len(split)))
        return names, len(images)


def test_two_trials_share_one_copy(refs, trials):
    one, other = ray.get([trial.open.remote(refs["val"], refs["train"]) for trial in trials])
    pixels = 1400 * SIDE * SIDE * 3
    assert one["pid"] != other["pid"]
    assert one["where"] == other["where"] and len(one["where"]) == 2
    assert one["checksum"] == other["checksum"]
    for trial in (one, other):
        assert not trial["writable"]
        assert trial["shared"] > pixels  # all of it was touched, and it is shared memory
        assert trial["grown"] < pixels / 8
    gained = ray.get([trial.train.remote(22) for trial in trials])
    assert max(gained) < pixels / 8


def test_a_worker_that_loads_imports_no_torch(ray_cluster, index, monkeypatch):
    """It takes seconds and a quarter of a GB, in each of the workers that load and before a study's first step."""
    functions = [ray_session._hello, converters._convert, converters._sees]
    remote = ray.remote
    monkeypatch.setattr(
        ray, "remote", lambda **of: lambda function: functions.append(function) or remote(**of)(function)
    )
    store.load(index, ["val"])
    assert {reading.into_memory, machine.free_memory} < {*functions}
    names = {function.__module__ for function in functions}
    code = "import importlib, sys; [*map(importlib.import_module, sys.argv[1:])]; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code, *names], cwd=documents.ROOT, capture_output=True, text=True)
    assert run.stdout == "False\n", run.stderr


def test_bytes_are_those_of_the_shards(refs, index):
    split = store.open_split(refs["val"])
    table = index.read(index.shards("val")[0])
    assert np.array_equal(split.gather(np.arange(100))[0], table.column("image").chunk(0).to_numpy_ndarray())
    assert split.index.tolist() == list(range(1400, 1500))


def test_a_batch_is_the_only_copy(refs):
    """What gather returns is new and writable; nothing else of that size is allocated."""
    split = store.open_split(refs["train"])
    rows = np.random.default_rng(0).permutation(1400)[:64]
    tracemalloc.start()
    images, labels = split.gather(rows)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert images.flags.writeable and images.flags.owndata
    assert peak < 1.1 * (images.nbytes + labels.nbytes)


def test_no_trial_opens_an_image(trials, tmp_path):
    index = prepare(parse("clevrtex:full-crop-(32,32)"), root=str(ROOT), cache=str(tmp_path))
    refs = store.load(index, ["train"])
    names, rows = ray.get(trials[0].opened.remote(refs["train"]))
    assert rows == 10
    assert [name for name in names if name.endswith((".png", ".json", ".arrow"))] == []


def test_splits_that_overlap_share_shards(refs, index):
    refs = store.load(index, ["val", "all"])
    assert refs["all"][-1] == refs["val"][0]


def plain():
    return Console(file=io.StringIO(), width=200)


def kinds(refs):
    return {type(each).__name__ for each in ray.get(refs)}


def test_what_is_held_already_counts(refs, index):
    """Four copies do not fit, though each alone does: Ray would move some to disk without saying so."""
    copies, console = [], plain()
    for _ in range(4):  # besides the one of ``refs``
        copies.append(store.load(index, ["all"], console=console)["all"])
    assert kinds(copies[0]) == {"Table"} and kinds(copies[-1]) == {"MappedShard"}
    said = console.file.getvalue().splitlines()
    assert said and all(
        re.fullmatch(r"x takes 9\d MiB, and a node's Ray object store has \d+ MiB for it: trials .* mapped files", line)
        for line in said
    )


def test_the_smallest_node_is_the_bound(ray_cluster, index, monkeypatch):
    """Two stand-ins: a dead node, which does not count, and one that is too small, which does."""
    (node,) = ray.nodes()
    dead = {**node, "Alive": False, "Resources": {}}
    small = {**node, "Resources": {"CPU": 1.0, "object_store_memory": 5.0 * 2**20}}
    monkeypatch.setattr(ray, "nodes", lambda: [node, dead])
    assert kinds(store.load(index, ["val"])["val"]) == {"Table"}
    monkeypatch.setattr(ray, "nodes", lambda: [node, dead, small])
    assert kinds(store.load(index, ["val"])["val"]) == {"MappedShard"}


@pytest.mark.parametrize("room, kind", [(1.4, "MappedShard"), (1.6, "Table")])
def test_there_is_room_for_what_the_final_stage_puts_beside_a_split(refs, index, monkeypatch, room, kind):
    """Label maps of k-means and scores: without it Ray moves objects to disk when they come."""
    (node,) = ray.nodes()
    time.sleep(0.5)  # raylets report every 0.1 s what they hold
    held = ray.cluster_resources()["object_store_memory"] - ray.available_resources()["object_store_memory"]
    size = sum(shard.bytes for shard in index.shards("val"))
    small = {**node, "Resources": {"CPU": 1.0, "object_store_memory": (held + room * size) / store.USABLE}}
    monkeypatch.setattr(ray, "nodes", lambda: [node, small])
    assert kinds(store.load(index, ["val"])["val"]) == {kind}


def test_free_memory_is_looked_at_not_only_the_store(ray_cluster, index, monkeypatch):
    console = plain()
    monkeypatch.setattr(store, "free_memory", lambda: 7 * 2**20)
    assert kinds(store.load(index, ["val"], console=console)["val"]) == {"MappedShard"}
    assert "and a node has 6 MiB of free memory for it" in console.file.getvalue()
    monkeypatch.undo()
    assert 0 < free_memory() < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@pytest.fixture
def no_room(monkeypatch):
    """A node whose store takes nothing."""
    monkeypatch.setattr(store, "USABLE", 0.0)


def test_mapped_shards_give_the_same_batches(refs, index, no_room):
    mapped = store.open_split(store.load(index, ["train"])["train"])
    shared = store.open_split(refs["train"])
    shuffle = Shuffle(len(shared), 64, seed=1)
    for rows in (shuffle.next() for _ in range(30)):
        for one, other in zip(mapped.gather(rows), shared.gather(rows), strict=True):
            assert np.array_equal(one, other)
    assert mapped.metadata(7) == shared.metadata(7) and np.array_equal(mapped.index, shared.index)


def test_two_trials_share_the_pages_of_a_mapped_file(refs, index, trials, no_room):
    mapped = store.load(index, ["train"])["train"]
    one, other = ray.get([trial.open.remote(refs["val"], mapped) for trial in trials])
    assert one["pid"] != other["pid"] and one["checksum"] == other["checksum"]
    assert one["where"] == other["where"], "the same bytes of the same files"
    for trial in (one, other):
        assert not trial["writable"] and trial["grown"] < 1400 * SIDE * SIDE * 3 / 8


@pytest.mark.parametrize("room", [True, False])
def test_a_part_of_the_training_split(refs, index, monkeypatch, room):
    if not room:
        monkeypatch.setattr(store, "USABLE", 0.0)
    console = plain()
    some = store.load(index, ["train", "val"], fraction=0.1, console=console)
    found, all_of_it = (store.open_split(each["train"]) for each in (some, refs))
    assert len(found) == 140 and len(store.open_split(some["val"])) == 100
    assert kinds(some["train"]) == ({"Table"} if room else {"MappedShard"})
    if room:  # the store holds no more than that
        assert sum(table.nbytes for table in ray.get(some["train"])) < 1.02 * 140 * SIDE * SIDE * 4
    else:
        assert "x takes 15 MiB, and" in console.file.getvalue()
    rows = np.random.default_rng(0).permutation(140)
    for one, other in zip(found.gather(rows), all_of_it.gather(found.index[rows]), strict=True):
        assert np.array_equal(one, other)
    assert found.metadata(7) == all_of_it.metadata(int(found.index[7]))


def test_a_damaged_shard_is_not_mapped(ray_cluster, tmp_path, no_room):
    index = prepare(parse("clevrtex:full-crop-(32,32)"), root=str(ROOT), cache=str(tmp_path))
    path = Path(index.folder) / "train-00000.arrow"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"train-00000\.arrow is damaged .wrong checksum."):
        store.load(index, ["train"])


def test_of_a_remote_shard_a_node_keeps_one_copy(index, tmp_path, monkeypatch):
    """``file://`` stands for ``s3://``: a folder that is reached by URI alone."""
    monkeypatch.setattr(reading, "COPIES", str(tmp_path / "copies"))
    monkeypatch.setattr(reading, "is_remote", lambda folder: True)
    far = dataclasses.replace(index, folder=f"file://{index.folder}")
    shard = reading.MappedShard(far, index.shards("val")[0])
    shard.check()
    (copy,) = tmp_path.glob("copies/*/*.arrow")
    inode = copy.stat().st_ino
    assert shard.table().equals(index.read(shard.shard)) and copy.stat().st_ino == inode
    copy.write_bytes(b"cut")
    assert shard.table().equals(index.read(shard.shard)), "it is copied again"
    copy.unlink()
    wrong = dataclasses.replace(shard, shard=dataclasses.replace(shard.shard, sha256="0" * 64))
    with pytest.raises(ValueError, match=r"val-00000\.arrow is damaged .wrong checksum."):
        wrong.check()
    assert not copy.exists()
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(reading, "COPIES", str(tmp_path / "file"))
    with pytest.raises(ValueError, match="cannot be copied to"):
        shard.table()


def test_loading_shows_a_bar(ray_cluster, index):
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    store.load(index, ["val"], console=console)
    assert "loading x" in console.file.getvalue() and "MB" in console.file.getvalue()


@ray.remote(num_cpus=0)
def halved(number):
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number // 2


def test_result_of_a_task(ray_cluster):
    assert store.result_of(halved.remote(4)) == 2
    with pytest.raises(ValueError, match=r"^3 is odd$") as error:
        store.result_of(halved.remote(3))
    assert type(error.value) is ValueError


def test_damage_is_an_error_of_one_line(ray_cluster, tmp_path):
    index = prepare(parse("clevrtex:full-crop-(32,32)"), root=str(ROOT), cache=str(tmp_path))
    shard = Path(index.folder) / "train-00000.arrow"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(ValueError, match=r"train-00000\.arrow is damaged") as error:
        store.load(index, ["train"])
    assert "\n" not in str(error.value)
    shard.unlink()
    with pytest.raises(ValueError, match=r"train-00000\.arrow is missing"):
        store.load(index, ["train"])
