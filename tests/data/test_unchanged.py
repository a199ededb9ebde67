"""Published files are listed once; a later start sees by a few times that they are the same, or lists them again."""

import os
import shutil
import time
from pathlib import Path

import pytest

from data import unchanged
from data.convert import prepare
from data.sources import clevrtex
from data.spec import parse
from tests.data.sources.published import add_scene

ROOT = Path(__file__).parent / "clevrtex"
SPEC = parse("clevrtex:full-crop-(32,32)")


@pytest.fixture
def root(tmp_path):
    """A copy of the scenes that has lain there for a while."""
    copied = shutil.copytree(ROOT, tmp_path / "root")
    for path in [*copied.rglob("*"), copied]:
        os.utime(path, (time.time() - 3600,) * 2)
    return copied


@pytest.fixture
def lists(monkeypatch):
    """The roots that were listed."""
    listed, find = [], clevrtex.find
    monkeypatch.setattr(clevrtex, "find", lambda root, variant: listed.append(root) or find(root, variant))
    return listed


def test_a_second_start_lists_nothing(root, tmp_path, lists):
    cache = str(tmp_path / "cache")
    first = prepare(SPEC, root=str(root), cache=cache)
    assert prepare(SPEC, root=str(root), cache=cache) == first and len(lists) == 1
    prepare(SPEC, root=str(root), cache=cache, relist=True)
    assert len(lists) == 2, "as it was asked to"
    other = prepare(SPEC.sized((16, 16)), root=str(root), cache=cache)
    assert len(lists) == 3, "what is not converted yet is read from the files"
    assert prepare(SPEC.sized((16, 16)), root=str(root), cache=cache) == other and len(lists) == 3
    shutil.rmtree(first.folder)
    assert prepare(SPEC, root=str(root), cache=cache) == first and len(lists) == 4


def add(root):
    add_scene(root / "clevrtex_full", 0, 12)


def remove(root):
    for end in (".png", "_flat.png", ".json"):
        (root / f"clevrtex_full/0/CLEVRTEX_full_000011{end}").unlink()


def replace(root):
    shutil.copy(root / "clevrtex_full/0/CLEVRTEX_full_000001.png", root / "aside")
    (root / "aside").rename(root / "clevrtex_full/0/CLEVRTEX_full_000005.png")


def write_over(root):
    path = root / "clevrtex_full/0/CLEVRTEX_full_000005.png"
    path.write_bytes((root / "clevrtex_full/0/CLEVRTEX_full_000001.png").read_bytes())


@pytest.mark.parametrize("change", [add, remove, replace, write_over])
def test_a_change_is_seen(root, tmp_path, lists, change):
    cache = str(tmp_path / "cache")
    first = prepare(SPEC, root=str(root), cache=cache)
    change(root)
    assert prepare(SPEC, root=str(root), cache=cache).fingerprint != first.fingerprint and len(lists) == 2


def test_a_folder_that_is_gone_is_said(root, tmp_path):
    cache = str(tmp_path / "cache")
    prepare(SPEC, root=str(root), cache=cache)
    shutil.rmtree(root / "clevrtex_full")
    with pytest.raises(ValueError, match="does not exist"):
        prepare(SPEC, root=str(root), cache=cache)


def test_files_that_have_just_changed_are_listed_again(root, tmp_path, lists):
    """A change in the same tick of the clock would not show."""
    cache = str(tmp_path / "cache")
    os.utime(root / "clevrtex_full/0", None)
    for _ in range(2):
        prepare(SPEC, root=str(root), cache=cache)
    assert len(lists) == 2


@pytest.mark.parametrize("note", [b"", b"{}", b"[]", b"null", b"\xff", b'{"what": "clevrtex:full", "state": [3]}'])
def test_a_damaged_note_counts_for_nothing(root, tmp_path, lists, note):
    cache = tmp_path / "cache"
    first = prepare(SPEC, root=str(root), cache=str(cache))
    (path,) = cache.glob("found-*.json")
    path.write_bytes(note)
    assert prepare(SPEC, root=str(root), cache=str(cache)) == first and len(lists) == 2


def test_a_note_is_of_one_variant_and_one_root(root, tmp_path):
    state = [str(root)]
    unchanged.note(str(tmp_path), "a:b", str(root), "key", state, time.time())
    assert unchanged.known_key(str(tmp_path), "a:b", f"{root}/") == "key"
    assert unchanged.known_key(str(tmp_path), "a:c", str(root)) is None
    assert unchanged.known_key(str(tmp_path), "a:b", str(tmp_path)) is None
    unchanged.note(str(tmp_path / "nowhere"), "a:b", str(root), "key", state, time.time())  # no cache, no error
