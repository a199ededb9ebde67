"""Where ClevrTex may lie: in folders, parts and archives of all forms, whole or damaged."""

import gzip
import io
import os
import pickle
import re
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest
from ray import cloudpickle

from data.convert import prepare
from data.source import MissingDataset
from data.sources import clevrtex
from data.sources.clevrtex import archives
from data.spec import parse
from tests.data.sources.published import ROOT, as_variant, packed
from tests.data.sources.test_clevrtex import assert_same, read_all

FULL = ROOT / "clevrtex_full"
HALVES = [range(7), range(7, 12)]


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch):
    """A TMPDIR of its own."""
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    return tmp_path / "scratch"


def in_a_gzip(root):
    packed(FULL, root / "clevrtex_full.tar.gz", range(12))


def in_two_gzips(root):
    for part, numbers in enumerate(HALVES, 1):
        packed(FULL, root / f"clevrtex_full_part{part}.tar.gz", numbers)


def in_plain_tars(root):
    for part, numbers in enumerate(HALVES, 1):
        packed(FULL, root / f"clevrtex_full_part{part}.tar", numbers, "w")


def in_archives_within_the_folder(root):
    (root / "clevrtex_full").mkdir()
    in_two_gzips(root / "clevrtex_full")


def in_a_joined_archive(root):
    """As after ``cat part1 part2``."""
    in_two_gzips(root)
    parts = [path.read_bytes() for path in sorted(root.iterdir())]
    shutil.rmtree(root)
    root.mkdir()
    (root / "clevrtex_full.tgz").write_bytes(b"".join(parts))


def in_parts_side_by_side(root):
    in_two_gzips(root)
    for archive in list(root.glob("*.tar.gz")):
        subprocess.run(["tar", "xzf", archive.name, "--one-top-level"], cwd=root, check=True)
        archive.unlink()


def in_capitals(root):
    """The folder and the prefix as other programs write them."""
    unpacked(root)
    for path in (root / "clevrtex_full").rglob("*.*"):
        path.rename(path.with_name(path.name.replace("CLEVRTEX_full", "ClevrTexFULL")))
    for path in (root / "clevrtex_full").rglob("*.json"):
        path.write_text(path.read_text().replace("CLEVRTEX_full", "ClevrTexFULL"))
    (root / "clevrtex_full").rename(root / "CLEVRTEXFULL")


def deep_below(root):
    unpacked(root)
    (root / "datasets/CLEVRTEX/full").mkdir(parents=True)
    for path in (root / "clevrtex_full").iterdir():
        path.rename(root / "datasets/CLEVRTEX/full" / path.name)
    (root / "clevrtex_full").rmdir()


def behind_links(root):
    unpacked(root)
    (root / "clevrtex_full").rename(root.parent / "elsewhere")
    (root / "clevrtex_full").mkdir()
    (root / "clevrtex_full/0").symlink_to(root.parent / "elsewhere/0")
    (root / "clevrtex_full/again").symlink_to(root / "clevrtex_full")  # a circle


def unpacked(root):
    in_a_gzip(root)
    subprocess.run(["tar", "xzf", "clevrtex_full.tar.gz"], cwd=root, check=True)
    (root / "clevrtex_full.tar.gz").unlink()


FORMS = [in_a_gzip, in_two_gzips, in_plain_tars, in_archives_within_the_folder, in_a_joined_archive]
FORMS += [in_parts_side_by_side, deep_below, behind_links, in_capitals]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_the_same_scenes_in_every_form(form, tmp_path):
    """Key and fingerprint, too; in capitals, the descriptions differ by their names and by the times of the change."""
    for folder in ("plain", "other"):
        (tmp_path / folder).mkdir()
    unpacked(tmp_path / "plain")
    form(tmp_path / "other")
    right, other = (clevrtex.find(str(tmp_path / folder), "full") for folder in ("plain", "other"))
    assert_same(read_all(tmp_path / "other"), read_all(tmp_path / "plain"))
    assert (other.key == right.key) == (form is not in_capitals)
    spec = parse("clevrtex:full-crop-(32,32)")
    indices = [
        prepare(spec, root=str(tmp_path / each), cache=str(tmp_path / f"c{each}")) for each in ("plain", "other")
    ]
    assert indices[0].fingerprint == indices[1].fingerprint
    with pytest.raises(MissingDataset):
        clevrtex.find(str(tmp_path / "other"), "camo")


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_an_archive_for_a_root(mode, tmp_path):
    archive = packed(FULL, tmp_path / "clevrtex_full.tar", range(12), mode)  # a gzip is known by its first bytes
    assert_same(read_all(archive), read_all(ROOT))
    with pytest.raises(MissingDataset):
        clevrtex.find(str(archive), "camo")


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_paths(form, tmp_path):
    with tarfile.open(tmp_path / "clevrtex_full.tar", "w", format=form) as tar:
        for path in FULL.rglob("*.*"):
            tar.add(path, f"{'a' * 90}/{'b' * 30 if form == tarfile.USTAR_FORMAT else 'ü' * 90}/{path.name}")
    assert_same(read_all(tmp_path), read_all(ROOT))


def test_a_folder_in_an_archive_is_no_scene(tmp_path):
    planted(name="CLEVRTEX_full_000012.png", type=tarfile.DIRTYPE)(tmp_path)
    assert_same(read_all(tmp_path), read_all(ROOT))


def test_times_of_an_archive_are_exact(tmp_path):
    """GNU tar writes and restores nanoseconds in the pax format."""
    copy = Path(shutil.copytree(FULL, tmp_path / "a/clevrtex_full"))
    os.utime(copy / "0/CLEVRTEX_full_000003.png", ns=(0, 1_700_000_000_123_456_789))
    command = ["tar", "cf", tmp_path / "clevrtex_full.tar", "--format=posix", "-C", copy.parent, "clevrtex_full"]
    subprocess.run(command, check=True)
    assert clevrtex.find(str(tmp_path / "clevrtex_full.tar"), "full").key == clevrtex.find(str(copy), "full").key


def test_unpacked_images_go_before_archives(tmp_path, monkeypatch):
    monkeypatch.setattr(clevrtex, "IMAGES", {"full": 12})
    unpacked(tmp_path)
    in_two_gzips(tmp_path)
    assert clevrtex.find(str(tmp_path), "full").warnings == []
    for path in tmp_path.glob("clevrtex_full/0/*00001[01]*"):
        path.unlink()
    found = clevrtex.find(str(tmp_path), "full")
    assert len(found.images) == 10
    (warning,) = found.warnings
    assert "lacks the images 10 to 11" in warning and "no archive is read (clevrtex_full_part" in warning


@pytest.mark.parametrize("form", [in_two_gzips, in_parts_side_by_side], ids=lambda form: form.__name__)
def test_a_part_that_is_missing_is_named(form, tmp_path, monkeypatch):
    monkeypatch.setattr(clevrtex, "IMAGES", {"full": 12})
    monkeypatch.setattr(clevrtex, "PARTS", {"full": 2})
    form(tmp_path)
    first, second = sorted(path for path in tmp_path.iterdir() if path.name.startswith("clevrtex"))
    aside = second.rename(tmp_path / "x")
    (warning,) = clevrtex.find(str(tmp_path), "full").warnings
    assert "lacks the images 7 to 11 (of 2 parts, missing 2)" in warning
    aside.rename(second)
    first.rename(tmp_path / "x")
    lacks = "lacks 7 of its first 12 images (numbers 0 to 6) (of 2 parts, missing 1)"
    with pytest.raises(ValueError, match=re.escape(lacks)):
        clevrtex.find(str(tmp_path), "full")


def test_a_gzip_is_read_in_one_pass(tmp_path, scratch, monkeypatch):
    """With the copy of what is needed deleted when it is no longer read, and no pass for a second start."""
    in_a_gzip(tmp_path)
    passes, walk = [], archives._walk
    monkeypatch.setattr(archives, "_walk", lambda *what: passes.append(1) or walk(*what))
    key = read_all(tmp_path) and clevrtex.find(str(tmp_path), "full").key
    assert len(passes) == 1
    assert not list(scratch.rglob("*.unpacked"))
    published = clevrtex.find(str(tmp_path), "full")
    assert published.key == key and len(passes) == 1
    before = list(clevrtex.batches(published, range(12), True, (32, 32)))
    assert len(passes) == 2 and len(list(scratch.rglob("*.unpacked"))) == 1
    sent = pickle.loads(pickle.dumps(published))  # to another process, or another node
    shutil.rmtree(next(scratch.iterdir()))
    assert_same(clevrtex.batches(sent, range(12), True, (32, 32)), before)
    assert len(passes) == 3


def test_no_room_for_what_is_needed(tmp_path, scratch):
    in_a_gzip(tmp_path)
    scratch.rmdir()
    with pytest.raises(ValueError, match=r"takes no unpacked pictures .*set TMPDIR") as error:
        clevrtex.find(str(tmp_path), "full")
    assert "\n" not in str(error.value)


def test_scratch_that_others_can_write_to_is_not_used(tmp_path, scratch):
    in_a_gzip(tmp_path)
    (scratch / f"clevrtune-{os.getuid()}").mkdir()
    os.chmod(scratch / f"clevrtune-{os.getuid()}", 0o777)
    with pytest.raises(ValueError, match="only you can write to"):
        clevrtex.find(str(tmp_path), "full")


def changed(root, how):
    """The one archive of ``root`` with other bytes."""
    (archive,) = root.glob("clevrtex*")
    archive.write_bytes(how(archive.read_bytes()))


def planted(**fields):
    """An archive with one member more."""

    def plant(root):
        in_plain_tars(root)
        with tarfile.open(root / "clevrtex_full_part1.tar", "a") as tar:
            info = tarfile.TarInfo("clevrtex_full/new")
            for name, value in fields.items():
                setattr(info, name, value)
            tar.addfile(info, io.BytesIO(bytes(info.size)))

    return plant


def shorten_gzip(root):
    in_a_gzip(root)
    changed(root, lambda data: data[:-20_000])


def shorten_tar(root):
    in_plain_tars(root)
    (root / "clevrtex_full_part2.tar").unlink()
    changed(root, lambda data: data[:300_000])


def shorten_tar_between_files(root):
    in_plain_tars(root)
    with tarfile.open(root / "clevrtex_full_part1.tar") as tar:
        end = tar.getmembers()[-1].offset
    with open(root / "clevrtex_full_part1.tar", "r+b") as stream:
        stream.truncate(end)


def shorten_joined_tars(root):
    """The first one's end is not that of the second."""
    shorten_tar_between_files(root)
    parts = [root / f"clevrtex_full_part{part}.tar" for part in (2, 1)]
    (root / "clevrtex_full.tar").write_bytes(b"".join(part.read_bytes() for part in parts))
    for part in parts:
        part.unlink()


def flip_header(root):
    in_plain_tars(root)
    with tarfile.open(root / "clevrtex_full_part1.tar") as tar:
        start = tar.getmembers()[4].offset
    (root / "clevrtex_full_part2.tar").unlink()
    changed(root, lambda data: data[: start + 3] + b"X" + data[start + 4 :])


def flip_gzip(root):
    in_a_gzip(root)
    changed(root, lambda data: data[:300_000] + bytes([data[300_000] ^ 1]) + data[300_001:])


def flip_checksum(root):
    in_a_gzip(root)
    changed(root, lambda data: data[:-5] + bytes([data[-5] ^ 1]) + data[-4:])


def empty_archive(root):
    (root / "clevrtex_full.tar.gz").touch()


def no_archive(root):
    (root / "clevrtex_full.tar.gz").write_bytes(b"<html>404</html>" * 1000)


def empty_tar(root):
    with tarfile.open(root / "clevrtex_full.tar", "w"):
        pass


def bomb(root):
    with gzip.open(root / "clevrtex_full.tar.gz", "w", 9) as stream:
        info = tarfile.TarInfo("clevrtex_full/CLEVRTEX_full_000000.png")
        info.size = 2**34
        stream.write(info.tobuf() + bytes(2**24))


def pipe_archive(root):
    os.mkfifo(root / "clevrtex_full.tar.gz")


def twice(root):
    in_two_gzips(root)
    packed(FULL, root / "clevrtex_full.tar.gz", range(5, 6))


DAMAGE = {
    shorten_gzip: r"clevrtex_full.tar.gz is damaged \(Compressed file ended",
    shorten_tar: r"clevrtex_full_part1.tar is damaged \(it ends at byte 300,000, within a file",
    shorten_tar_between_files: r"part1.tar is damaged \(it ends at byte .*without the mark of an end",
    shorten_joined_tars: r"clevrtex_full.tar is damaged \(it ends at byte .*without the mark of an end",
    flip_header: r"part1.tar is damaged \(bad checksum",
    flip_gzip: r"clevrtex_full.tar.gz is damaged \(",
    flip_checksum: r"clevrtex_full.tar.gz is damaged \(CRC check failed",
    empty_archive: r"clevrtex_full.tar.gz is damaged .it ends at byte 0",
    no_archive: r"clevrtex_full.tar.gz is damaged \(",
    empty_tar: r"clevrtex_full.tar: no CLEVRTEX_full_NNNNNN.png in it",
    bomb: r"clevrtex_full.tar.gz is damaged \(a file of 17,179,869,184 bytes",
    pipe_archive: r"clevrtex_full.tar.gz is no file",
    twice: r"scene 5 is there twice, .* in .*clevrtex_full.tar.gz and .* in .*part1.tar.gz; remove one",
    planted(name="/etc/passwd"): r"part1.tar holds the path '/etc/passwd', as no download does",
    planted(name="a/../../b"): r"holds the path 'a/../../b'",
    planted(type=tarfile.SYMTYPE, linkname="/etc"): r"holds a link, 'clevrtex_full/new'",
    planted(type=tarfile.LNKTYPE, linkname="x"): r"holds a link",
    planted(type=tarfile.CHRTYPE): r"holds a device",
    planted(type=tarfile.FIFOTYPE): r"holds a pipe",
    planted(type=tarfile.GNUTYPE_SPARSE): r"holds a special file",
    planted(pax_headers={"GNU.sparse.major": "1"}): r"holds a special file",
    planted(name="CLEVRTEX_full_000012.png", pax_headers={"mtime": "now"}): r"'now' in place of a time",
}


@pytest.mark.parametrize(("damage", "message"), DAMAGE.items(), ids=map(str, range(len(DAMAGE))))
def test_a_damaged_archive_is_named_in_one_line(tmp_path, damage, message, scratch):
    (tmp_path / "root").mkdir()
    damage(tmp_path / "root")
    with pytest.raises(ValueError, match=message) as error:
        read_all(tmp_path / "root")
    assert "\n" not in str(error.value)
    assert not list(scratch.rglob("*.partial"))


def test_other_variants_are_not_looked_through(tmp_path, monkeypatch):
    """A hundred thousand files of another variant are not listed to learn that this one is absent."""
    as_variant(Path(shutil.copytree(FULL, tmp_path / "a/b/clevrtex_full")), "pbg")
    (tmp_path / "a/.hidden").mkdir()
    listed, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(str(path)) or scandir(path))
    with pytest.raises(MissingDataset):
        clevrtex.find(str(tmp_path), "full")
    assert set(listed) == {str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a/b"), str(tmp_path / "scratch")}


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_what_tells_that_nothing_has_changed(form, tmp_path):
    """Every folder that was listed, so that a new part shows; the archives; and some of the images."""
    (tmp_path / "root").mkdir()
    form(tmp_path / "root")
    found = clevrtex.Source().find("full", str(tmp_path / "root"))
    assert str(tmp_path / "root") in found.state and all(map(os.path.exists, found.state))
    archives = list(map(str, (tmp_path / "root").rglob("*.t*")))
    assert set(archives) <= set(found.state)
    images = [name for name in found.state if name.endswith(".png")]
    assert len(images) == (0 if archives else 12)
    folders = {os.path.dirname(name) for name in images}
    assert folders <= set(found.state)


def test_some_of_a_split(tmp_path):
    """In another process, of an archive as well."""
    in_a_gzip(tmp_path)
    found = clevrtex.Source().find("full", str(tmp_path))
    some = cloudpickle.loads(cloudpickle.dumps(found.some))
    (train,) = found.scenes("train", True, (16, 16))
    (part,) = some("train", True, (16, 16), range(3, 7))
    assert_same([part], [train[3:7]])
    assert list(some("train", True, (16, 16), range(3, 3))) == []
