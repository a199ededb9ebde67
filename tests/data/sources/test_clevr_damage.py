"""Damaged files of ``clevr_with_masks``, in both forms."""

import gzip
import io
import json
import os
import shutil
import zipfile

import numpy as np
import pytest

from data.sources import clevr
from tests.data.sources import entities

DAMAGES = 100
"""Of each form; 1,200 were tried."""


def read(root):
    found = clevr.Source().find("", str(root))
    return [batch for split in found.counts for batch in found.scenes(split, True, (8, 8))]


def wrong_visibility(scene):
    scene["visibility"][3] = 0


FAULTS = {
    "no image": (lambda scene: scene.pop("image"), "it has no image"),
    "image too small": (lambda scene: scene.update(image=scene["image"][1:]), "image has shape"),
    "too few masks": (lambda scene: scene.update(mask=scene["mask"][1:]), "mask has shape"),
    "too few colours": (lambda scene: scene.update(color=scene["color"][1:]), "color has shape"),
    "image of floats": (
        lambda scene: scene.update(image=scene["image"] / np.float32(255)),
        "image has numbers of type",
    ),
    "empty masks": (lambda scene: scene["mask"].fill(0), "no mask is set"),
    "visibility": (wrong_visibility, "entity 3 has pixels, but visibility 0"),
    "visibility is not a number": (lambda scene: scene["visibility"].fill(np.nan), "visibility is not 0 or 1"),
    "rotation": (lambda scene: scene["rotation"].fill(np.inf), "rotation is not finite"),
}


@pytest.mark.parametrize(("fault", "message"), FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("form", ["tfrecord", "npz"])
def test_a_scene_that_is_not_as_published_is_named_in_one_line(tmp_path, form, fault, message):
    scenes = [entities.scene(number, 4) for number in range(3)]
    fault(scenes[2])
    {"tfrecord": entities.write_tfrecord, "npz": entities.write_npz}[form](tmp_path, scenes)
    place, remedy = ("record 2", "download") if form == "tfrecord" else ("0/2.npz", "convert it again")
    with pytest.raises(ValueError, match=rf"{place} is damaged \({message}.*{remedy}") as error:
        read(tmp_path)
    assert "\n" not in str(error.value)


def flip(content, at=0.7):
    where = int(at * len(content))
    return content[:where] + bytes([content[where] ^ 4]) + content[where + 1 :]


def broken_frame(content):
    """The second record gets another length."""
    plain = bytearray(gzip.decompress(content))
    plain[len(plain) // 3] ^= 1
    return gzip.compress(plain, 1)


def broken_payload(content):
    plain = bytearray(gzip.decompress(content))
    plain[len(plain) // 2] ^= 1
    return gzip.compress(plain, 1)


RUINS = {
    "cut": (lambda content: content[:-30_000], "tfrecords: record . is damaged"),
    "cut trailer": (lambda content: content[:-6], "is damaged|ends after"),
    "flipped": (flip, "tfrecords: record . is damaged"),
    "frame": (broken_frame, r"record 1 is damaged \(the checksum of its length is wrong"),
    "payload": (broken_payload, r"record 1 is damaged \(wrong checksum"),
    "empty": (lambda content: b"", "is not compressed with gzip"),
    "not gzip": (gzip.decompress, "is not compressed with gzip"),
    "joined": (lambda content: content + content, "it was joined from several gzip files"),
    "lacks a record": (lambda content: gzip.compress(gzip.decompress(content)[: -8 - 3_200_000], 1), "is damaged"),
}


@pytest.mark.parametrize(("ruin", "message"), RUINS.values(), ids=RUINS)
def test_a_damaged_tfrecord_is_named_in_one_line(tmp_path, ruin, message):
    path = entities.write_tfrecord(tmp_path, entities.scenes(3))
    path.write_bytes(ruin(path.read_bytes()))
    with pytest.raises(ValueError, match=message) as error:
        read(tmp_path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)


def bomb():
    """An array of two gigabytes that says nothing."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (1 << 31,)})
    return header.getvalue()


def replaced(path, name, content):
    """Another member in the npz file ``path``."""
    with zipfile.ZipFile(path) as archive:
        members = {each: archive.read(each) for each in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for each, old in members.items():
            archive.writestr(each, content if each == name else old)


def pickled(path):
    with open(path, "wb") as file:
        np.savez(file, **entities.scene(2) | {"rotation": np.array([object()] * 11)})


def duplicate(path):
    shutil.copy(path, path.with_name("again_0002.npz"))
    (path.parents[1] / "manifest_ind.json").unlink()


def dated(path):
    path.rename(path.with_name("x_20190101120000.npz"))
    (path.parents[1] / "manifest_ind.json").unlink()


NPZ_RUINS = {
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:5000]), "2.npz is damaged"),
    "empty": (lambda path: path.write_bytes(b""), "2.npz is damaged"),
    "flipped": (lambda path: path.write_bytes(flip(path.read_bytes(), 0.1)), "2.npz is damaged"),
    "gone": (lambda path: path.unlink(), "2.npz is missing, as are 0 others that manifest_ind.json names"),
    "fifo": (lambda path: (path.unlink(), os.mkfifo(path)), "2.npz is missing"),
    "declares much": (lambda path: replaced(path, "image.npy", bomb()), "2.npz is damaged"),
    "holds much": (lambda path: replaced(path, "mask.npy", bytes(20 * 2**20)), "mask takes 20,971,520 bytes"),
    "pickle": (pickled, "2.npz is damaged .*(allow_pickle|Object)"),
    "duplicate": (duplicate, "scene 2 is there twice"),
    "hole": (
        lambda path: (path.parents[1] / "manifest_ind.json").write_text(json.dumps({"0": "0/0.npz", "2": "0/2.npz"})),
        "lacks 1 of its first 3 scenes, number 1",
    ),
    "date for a number": (
        lambda path: (
            path.rename(path.with_name("x_20190101120000.npz")),
            (path.parents[1] / "manifest_ind.json").unlink(),
        ),
        "lacks 20,190,101,119,998 of its first 20,190,101,120,001 scenes, number 2",
    ),
    "one file for two": (
        lambda path: (path.parents[1] / "manifest_ind.json").write_text(json.dumps({"0": "0/0.npz", "1": "0/0.npz"})),
        "manifest_ind.json names a file for two scenes",
    ),
    "outside": (
        lambda path: (path.parents[1] / "manifest_ind.json").write_text(json.dumps({"0": "../../x.npz"})),
        "x.npz is missing",
    ),
}


@pytest.mark.parametrize(("ruin", "message"), NPZ_RUINS.values(), ids=NPZ_RUINS)
def test_damaged_npz_files_are_named_in_one_line(tmp_path, ruin, message):
    folder = entities.write_npz(tmp_path, entities.scenes(3))
    ruin(folder / "0" / "2.npz")
    with pytest.raises(ValueError, match=message) as error:
        read(tmp_path)
    assert "\n" not in str(error.value)


def test_npz_files_without_a_number_are_skipped_and_named(tmp_path):
    folder = entities.write_npz(tmp_path, entities.scenes(3), manifest=False)
    (folder / "0" / "2.npz").rename(folder / "0" / "scene_002.npz")
    shutil.copy(folder / "0" / "0.npz", folder / "best.npz")
    found = clevr.Source().find("", str(tmp_path))
    assert sum(found.counts.values()) == 3
    assert any("1 npz files in" in warning and "best.npz" in warning for warning in found.warnings)


def ruined(content, random):
    """Bits flipped, an end cut off, a stretch zeroed, doubled or moved."""
    first, second = sorted(int(random.integers(len(content))) for _ in range(2))
    stretch = content[first : min(second, first + 5000)]
    return [
        flip(content, first / len(content)),
        content[:first],
        content[:first] + bytes(len(stretch)) + content[first + len(stretch) :],
        content[:first] + stretch + content[first:],
        content[: -len(stretch)] + stretch if stretch else content[:-1],
    ][random.integers(5)]


@pytest.mark.parametrize("form", ["tfrecord", "npz"])
def test_no_damage_passes_for_other_scenes(tmp_path, form):
    """A line, or the scenes as they were: where nothing that is read was hit."""
    write = {"tfrecord": entities.write_tfrecord, "npz": entities.write_npz}[form]
    path = write(tmp_path, entities.scenes(2))
    path = path if form == "tfrecord" else path / "0" / "1.npz"
    whole, expected = path.read_bytes(), read(tmp_path)
    random = np.random.default_rng(15)
    refused = 0
    for _ in range(DAMAGES):
        path.write_bytes(ruined(whole, random))
        try:
            after = read(tmp_path)
        except ValueError as error:
            assert "\n" not in str(error)
            refused += 1
            continue
        assert len(after) == len(expected)
        for one, other in zip(after, expected, strict=True):
            assert np.array_equal(one.images, other.images) and np.array_equal(one.labels, other.labels)
            assert one.metadata == other.metadata
    assert refused > DAMAGES / 2
