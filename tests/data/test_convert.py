import contextlib
import io
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from data import convert
from data.convert import prepare
from data.loader import Split
from data.shards import ShardIndex
from data.source import MissingDataset
from data.sources import clevrtex, synthetic
from data.sources.synthetic import drawing
from data.spec import parse
from tests.data.sources.drawn import generate

ROOT = Path(__file__).parent / "clevrtex"
SPEC = parse("clevrtex:full-crop-(32,32)")


@pytest.fixture
def root(tmp_path):
    """A copy of the scenes, to change."""
    return shutil.copytree(ROOT, tmp_path / "root")


def open_split(index, split):
    return Split([index.read(shard) for shard in index.shards(split)])


def test_shards_hold_what_the_files_hold(tmp_path):
    index = prepare(SPEC, root=str(ROOT), cache=str(tmp_path))
    assert index.counts == {"test": 1, "val": 1, "train": 10}
    assert index.spec == str(SPEC) and index.size == (32, 32) and index.crop and index.filters
    train = open_split(index, "train")
    images, labels = train.gather(np.arange(10))
    for row, path in enumerate(clevrtex.find(str(ROOT), "full").images[2:]):
        image, label, metadata = clevrtex.read(path, True, (32, 32))
        assert np.array_equal(images[row], image) and np.array_equal(labels[row], label)
        assert train.metadata(row) == {"index": row + 2, **metadata}
    assert index.max_objects == max(len(train.metadata(row)["objects"]) for row in range(10))
    assert open_split(index, "all").index.tolist() == list(range(12))
    assert index.rows("all") == 12
    assert ShardIndex.load(index.folder) == index


def test_second_call_converts_nothing(root, tmp_path):
    cache = str(tmp_path / "cache")
    first = prepare(SPEC, root=str(root), cache=cache)
    state = {path: path.stat().st_mtime_ns for path in Path(first.folder).rglob("*")}
    assert prepare(SPEC, root=str(root / "clevrtex_full"), cache=cache) == first
    shutil.rmtree(root)
    assert prepare(SPEC, cache=cache) == first  # the cache alone is enough
    assert {path: path.stat().st_mtime_ns for path in Path(first.folder).rglob("*")} == state
    assert [path.name for path in Path(cache).iterdir() if path.is_dir()] == [Path(first.folder).name]
    (Path(first.folder) / "val-00000.arrow").unlink()
    with pytest.raises(ValueError, match=r"val-00000\.arrow is missing; delete"):  # at a glance, before it is used
        prepare(SPEC, cache=cache)


def test_changed_content_is_converted_anew(root, tmp_path):
    cache = str(tmp_path / "cache")
    first = prepare(SPEC, root=str(root), cache=cache)
    shutil.copy(root / "clevrtex_full/0/CLEVRTEX_full_000001.png", root / "clevrtex_full/0/CLEVRTEX_full_000005.png")
    second = prepare(SPEC, root=str(root), cache=cache)
    assert second.folder != first.folder and second.fingerprint != first.fingerprint
    assert prepare(SPEC, cache=cache) == second  # the newest


def test_fingerprint_is_that_of_the_content(root, tmp_path):
    here = prepare(SPEC, root=str(ROOT), cache=str(tmp_path / "a"))
    for path in root.rglob("*.png"):
        os.utime(path, (0, 0))
    there = prepare(SPEC, root=str(root), cache=str(tmp_path / "b"))
    assert here.fingerprint == there.fingerprint


def test_incomplete_data_are_reported(tmp_path, capsys):
    for _ in range(2):  # converted, then reused
        index = prepare(SPEC, root=str(ROOT), cache=str(tmp_path))
        said = capsys.readouterr().err
        assert "12 of the 50,000 published images" in said and "not comparable" in said
        assert index.incomplete and len(index.warnings) == 2


def test_failure_leaves_nothing_behind(root, tmp_path):
    path = root / "clevrtex_full/0/CLEVRTEX_full_000011.png"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ValueError, match="000011"):
        prepare(SPEC, root=str(root), cache=str(tmp_path / "cache"))
    assert list((tmp_path / "cache").iterdir()) == []


def test_what_cannot_be_found(tmp_path):
    with pytest.raises(MissingDataset, match="--data-root"):
        prepare(SPEC, cache=str(tmp_path))
    with pytest.raises(ValueError, match="names no size"):
        prepare(parse("clevrtex:full-crop"), root=str(ROOT), cache=str(tmp_path))


def test_synthetic_goes_the_same_way(tmp_path):
    spec = parse("synthetic:plain-(16,16)")
    index = prepare(spec, cache=str(tmp_path))
    assert index.counts == drawing.COUNTS and index.max_objects == spec.max_objects and not index.incomplete
    assert Path(index.folder).name == "synthetic-plain-16x16-v2"
    for split in index.counts:
        images, labels = open_split(index, split).gather(np.arange(300, 303))
        drawn = generate(3, (16, 16), 0, split, 0.0, start=300)
        assert np.array_equal(images, drawn.images) and np.array_equal(labels, drawn.labels)
        assert open_split(index, split).index[300:303].tolist() == [300, 301, 302]


def test_a_slow_disk_is_reported(tmp_path, monkeypatch):
    """A disk that does not answer before a line says what is waited for."""
    console, find = Console(file=io.StringIO(), force_terminal=True, width=200), clevrtex.find

    def slow(root, variant):
        deadline = time.monotonic() + 30
        while "looking through" not in console.file.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)
        return find(root, variant)

    monkeypatch.setattr(convert, "PATIENCE", 0.0)
    monkeypatch.setattr(clevrtex, "find", slow)
    prepare(SPEC, root=str(ROOT), cache=str(tmp_path), console=console)
    assert f"looking through clevrtex_full in {ROOT}" in console.file.getvalue()


def test_a_quick_disk_is_not_reported(tmp_path, monkeypatch):
    console = Console(file=io.StringIO(), force_terminal=True)
    monkeypatch.setattr(convert, "PATIENCE", 600.0)
    prepare(SPEC, root=str(ROOT), cache=str(tmp_path), console=console)
    assert "looking" not in console.file.getvalue()


@pytest.mark.parametrize("spec", [SPEC, parse("synthetic-(32,32)")], ids=str)
@pytest.mark.parametrize("root", [None, str(ROOT)])
def test_a_cache_that_is_no_folder(tmp_path, spec, root):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError, match=r"--cache|--data-root") as error:
        prepare(spec, root=root, cache=str(tmp_path / "file"))
    assert "\n" not in str(error.value)


@contextlib.contextmanager
def nobody():
    """Without the rights of root, who may write everywhere."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_scenes_of_another_version_are_not_read(monkeypatch):
    """Nor where they are all that a cache holds which takes no others."""
    spec = parse("synthetic:0.4-8scenes-(16,16)")
    with tempfile.TemporaryDirectory() as cache:  # in tmp_path nobody may read
        monkeypatch.setattr(synthetic, "VERSION", synthetic.VERSION - 1)
        old = prepare(spec, cache=cache)
        monkeypatch.undo()
        os.chmod(cache, 0o555)
        with nobody(), pytest.raises(ValueError) as error:
            prepare(spec, cache=cache)
        assert "cannot be written" in str(error.value) and "choose another --cache" in str(error.value)
        assert f"{Path(old.folder).name} there holds scenes of another version" in str(error.value)
        assert "\n" not in str(error.value)
        os.chmod(cache, 0o755)
        new = prepare(spec, cache=cache)
        assert new.folder != old.folder
        os.chmod(cache, 0o555)
        with nobody():
            assert prepare(spec, cache=cache) == new


def break_a_link(root):
    image = root / "clevrtex_full/0/CLEVRTEX_full_000003.png"
    image.unlink()
    image.symlink_to("nowhere")
    return root


def name_too_long(root):
    return root / ("x" * 300)


@pytest.mark.parametrize("break_it", [break_a_link, name_too_long])
def test_a_root_that_cannot_be_read(root, tmp_path, break_it):
    """PermissionError is handled alike, but tests may run as root, who may read everything."""
    with pytest.raises(ValueError, match=r"cannot be read .*check that --data-root .* can be used") as error:
        prepare(SPEC, root=str(break_it(root)), cache=str(tmp_path / "cache"))
    assert "\n" not in str(error.value)


def test_too_few_images_for_a_test_split(root, tmp_path):
    for path in (root / "clevrtex_full/0").iterdir():
        if int(path.name[14:20]) >= 5:
            path.unlink()
    index = prepare(SPEC, root=str(root), cache=str(tmp_path / "cache"))
    assert index.counts == {"test": 0, "val": 1, "train": 4}
    with pytest.raises(ValueError, match="no images in split 'test'; it has val, train"):
        index.rows("test")


def test_command_line_on_what_cannot_be_read(tmp_path):
    (tmp_path / "file").write_text("in the way")
    done = run(str(SPEC), "--cache", str(tmp_path / "file"), cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("arguments", [(), (str(SPEC), "--verfy"), (str(SPEC), "--ver"), ("synthetic-(8,8)",)])
def test_a_mistyped_command_is_reported_in_one_line(arguments, tmp_path):
    done = run(*arguments, "--cache", str(tmp_path), cwd=tmp_path)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("drawing ")]
    assert done.returncode == 2 and len(lines) == 1 and lines[0].startswith("error: ")


def test_an_address_where_nothing_listens_is_one_line_at_once(tmp_path):
    done = run(str(SPEC), "--address", "127.0.0.1:1", "--cache", str(tmp_path), cwd=tmp_path)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("error: --address 127.0.0.1:1: nothing answers there")


def run(*arguments, cwd, **options):
    script = Path(__file__).parents[2] / "data" / "convert.py"
    return subprocess.run([sys.executable, script, *arguments], cwd=cwd, capture_output=True, text=True, **options)


def test_a_disk_that_takes_no_whole_shard_is_one_line_and_leaves_nothing_that_reads_as_whole(tmp_path):
    """A limit on the size of a file stands for a full disk: the kernel refuses the bytes above it."""
    arguments = [str(SPEC.sized((128, 128))), "--data-root", str(ROOT), "--cache", str(tmp_path)]
    limit = 100_000  # above the shards of val and test, a scene each, and below that of train
    done = run(*arguments, cwd=tmp_path, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    told = done.stderr.splitlines()[-1]
    assert done.returncode == 2 and told.startswith("error: ") and "Traceback" not in done.stderr
    assert "cannot be written" in told and told.endswith("make room there, or choose another --cache")
    assert not list(tmp_path.rglob("index.json"))
    assert run(*arguments, "--verify", cwd=tmp_path).returncode == 0


def test_command_line(root, tmp_path):
    arguments = [str(SPEC), "--data-root", str(root), "--cache", str(tmp_path / "cache"), "--verify"]
    done = run(*arguments, cwd=tmp_path)
    assert (
        done.returncode == 0 and "train              10 of      10 scenes" in done.stdout and "verified" in done.stdout
    )
    shard = Path(done.stdout.splitlines()[-1]) / "train-00000.arrow"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2 and f"damaged: {shard} is damaged (wrong checksum); delete" in done.stdout
    assert "train               0 of      10 scenes" in done.stdout and "1 faults" in done.stdout
    assert "Traceback" not in done.stderr
