"""Files of a scene that are not what they should be: each kind, and what is said; and what is no damage."""

import json
import os
import shutil
import socket
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from data.source import Damaged
from data.sources import clevrtex
from data.sources.clevrtex.scene import PALETTE
from tests.data.sources.published import ROOT

STEM = "CLEVRTEX_full_000003"


@pytest.fixture
def image(tmp_path):
    """The path of an image to damage, or its mask or description."""
    for path in (ROOT / "clevrtex_full/0").glob(f"{STEM}*"):
        shutil.copy(path, tmp_path)
    return tmp_path / f"{STEM}.png"


def read(image):
    return clevrtex.read(image, False, (240, 320))


def chunks(path):
    data, at, found = path.read_bytes(), 8, []
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        found.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def write(path, parts):
    data = b"\x89PNG\r\n\x1a\n"
    for kind, content in parts:
        data += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    path.write_bytes(data)


def pixels(path):
    """The chunks without the pixels, and the pixels."""
    parts = chunks(path)
    return [part for part in parts if part[0] != b"IDAT"], b"".join(part for kind, part in parts if kind == b"IDAT")


def with_pixels(path, data, **header):
    others, _ = pixels(path)
    write(path, [*others[:-1], (b"IDAT", data), others[-1]])


def with_header(path, **fields):
    names = ("width", "height", "depth", "colour", "compression", "filters", "interlaced")
    (_, header), *others = chunks(path)
    told = dict(zip(names, struct.unpack(">IIBBBBB", header), strict=True)) | fields
    write(path, [(b"IHDR", struct.pack(">IIBBBBB", *told.values())), *others])


def flipped(path, kind):
    """One bit in the first chunk of ``kind``."""
    data = bytearray(path.read_bytes())
    data[data.index(kind) + 6] ^= 4
    path.write_bytes(data)


def rewrite(path, how):
    path.write_bytes(how(path.read_bytes()))


def repalette(path, palette, order=None):
    mask = Image.open(path)
    renumbered = Image.fromarray(
        np.asarray(mask) if order is None else np.argsort(order)[np.asarray(mask)].astype(np.uint8), "P"
    )
    renumbered.putpalette(np.array(palette, np.uint8).ravel().tolist())
    renumbered.save(path)


def blank(mask):
    nothing = Image.new("P", (320, 240))
    nothing.putpalette(Image.open(mask).getpalette())
    nothing.save(mask)


def shorten_palette(mask):
    write(mask, [(kind, content[:6] if kind == b"PLTE" else content) for kind, content in chunks(mask)])


PICTURES = {
    "data after the end": (lambda path: rewrite(path, lambda data: data + b"x"), "1 bytes follow its end"),
    "cut in a chunk": (lambda path: rewrite(path, lambda data: data[:-20]), "it ends at byte .*within a chunk"),
    "without its end": (lambda path: rewrite(path, lambda data: data[:-12]), "it ends at byte .*before its last chunk"),
    "no PNG": (lambda path: rewrite(path, lambda data: b"GIF89a" + data), "it is no PNG"),
    "a flip in the pixels": (lambda path: flipped(path, b"IDAT"), "wrong checksum in bytes"),
    "a flip in the header": (lambda path: flipped(path, b"IHDR"), "wrong checksum in bytes 8 to 33"),
    "another size": (lambda path: Image.open(path).resize((160, 120), 0).save(path), r"it has size \(160, 120\)"),
    "a bomb": (lambda path: with_header(path, width=2**31 - 1, height=2**31 - 1), r"it has size \(2147483647"),
    "too many pixels": (
        lambda path: with_pixels(path, zlib.compress(bytes(10**7), 1)),
        "holds more or less than its",
    ),
    "too few pixels": (lambda path: with_pixels(path, zlib.compress(bytes(9999))), "holds more or less than its"),
    "no checksum inside": (lambda path: with_pixels(path, pixels(path)[1][:-4]), "holds more or less than its"),
    "pixels and more": (lambda path: with_pixels(path, pixels(path)[1] + b"x"), "holds more or less than its"),
    "a wrong checksum inside": (
        lambda path: with_pixels(path, pixels(path)[1][:-1] + bytes([pixels(path)[1][-1] ^ 1])),
        "its data cannot be read",
    ),
    "no pixels": (lambda path: write(path, pixels(path)[0]), "chunks are missing, repeated or out of order"),
    "two headers": (lambda path: write(path, [chunks(path)[0], *chunks(path)]), "chunks are missing, repeated"),
    "the end first": (lambda path: write(path, [chunks(path)[-1]]), "chunks are missing, repeated"),
    "an unknown filter": (
        lambda path: with_pixels(path, zlib.compress(b"\x09" + zlib.decompress(pixels(path)[1])[1:])),
        "is damaged",
    ),
    "an unknown depth": (lambda path: with_header(path, depth=3), "header is not that of a PNG"),
    "a short header": (
        lambda path: write(path, [(b"IHDR", chunks(path)[0][1][:-1]), *chunks(path)[1:]]),
        "a chunk has a wrong length",
    ),
    "a critical chunk of another program": (
        lambda path: write(path, [*chunks(path)[:-1], (b"ABCD", b""), chunks(path)[-1]]),
        "chunks are missing, repeated",
    ),
    "an empty file": (lambda path: path.write_bytes(b""), "it is no PNG"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "a folder, no file"),
    "a pipe": (lambda path: (path.unlink(), os.mkfifo(path)), "a pipe, no file"),
    "a device": (lambda path: (path.unlink(), path.symlink_to("/dev/zero")), "a device, no file"),
    "a link to itself": (lambda path: (path.unlink(), path.symlink_to(path.name)), "symbolic links"),
    "a giant": (lambda path: os.truncate(path, 10**12), "1,000,000,000,000 bytes, more than any published"),
    "grey": (lambda path: Image.open(path).convert("L").save(path), "has mode L, not"),
}


@pytest.mark.parametrize("ending", [".png", "_flat.png"])
@pytest.mark.parametrize(("damage", "message"), PICTURES.values(), ids=PICTURES)
def test_a_damaged_picture(image, damage, message, ending):
    path = image.with_name(f"{STEM}{ending}")
    damage(path)
    with pytest.raises(Damaged, match=rf"{path} .*{message}.*; unpack its archive again") as error:
        read(image)
    assert len(str(error.value).splitlines()) == 1 and len(error.value.files) == 1


def test_a_socket(image):
    image.unlink()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(image))  # such a path is short
        with pytest.raises(Damaged, match="a socket, no file"):
            read(image)


MASKS = {
    "colour": (lambda path: Image.open(path).convert("RGB").save(path), "has mode RGB, not P"),
    "blank": (blank, r"shows none of the \d+ objects"),
    "a flip in the palette": (lambda path: flipped(path, b"PLTE"), "wrong checksum"),
    "other colours": (lambda path: repalette(path, [(i, i, i) for i in range(14)]), "another palette than the publi"),
    "two numbers of one colour": (
        lambda path: repalette(path, [PALETTE[0], PALETTE[1], PALETTE[1], *PALETTE[3:]]),
        "another palette",
    ),
    "a short palette": (shorten_palette, r"has index \d+ and a palette of 2 colours"),
    "no palette": (
        lambda path: write(path, [part for part in chunks(path) if part[0] != b"PLTE"]),
        "palette is missing",
    ),
    "more objects than described": (
        lambda path: repalette(path, PALETTE, np.argsort([*range(3), 13, *range(3, 13), *range(14, 256)])),
        r"has label 13, above \d+, the number of objects",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "message"), MASKS.values(), ids=MASKS)
def test_a_damaged_mask(image, damage, message):
    mask = image.with_name(f"{STEM}_flat.png")
    damage(mask)
    with pytest.raises(Damaged, match=rf"{mask} .*{message}"):
        read(image)


@pytest.mark.parametrize("seed", range(3))
def test_renumbered_masks_are_mapped_back(image, seed):
    """By the colours: as a program leaves a mask that sorts its palette."""
    _, before, _ = read(image)
    order = np.random.default_rng(seed).permutation(14)
    repalette(image.with_name(f"{STEM}_flat.png"), np.array(PALETTE)[order], np.concatenate([order, range(14, 256)]))
    raw = np.asarray(Image.open(image.with_name(f"{STEM}_flat.png")))
    assert (raw != before).mean() > 0.5
    assert np.array_equal(read(image)[1], before)


FINE = {
    "interlaced": lambda path: interlace(path),
    "recompressed": lambda path: Image.open(path).save(path, compress_level=1),
    "in one chunk": lambda path: with_pixels(path, pixels(path)[1]),
    "in many chunks": lambda path: write(
        path,
        [
            part
            for kind, content in chunks(path)
            for part in ([(kind, content[i : i + 999]) for i in range(0, len(content), 999)] or [(kind, content)])
            if kind == b"IDAT" or part[1] == content
        ],
    ),
    "with a text": lambda path: write(path, [chunks(path)[0], (b"tEXt", b"a\0b"), *chunks(path)[1:]]),
}


def interlace(path):
    """The seven passes, each row without a filter."""
    picture = np.asarray(Image.open(path))
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    rows = [b"\0" + row.tobytes() for x, y, dx, dy in passes for row in picture[y::dy, x::dx]]
    if picture.ndim == 2:
        Image.open(path).save(path, bits=8)
    with_pixels(path, zlib.compress(b"".join(rows)))
    with_header(path, interlaced=1)


@pytest.mark.parametrize("ending", [".png", "_flat.png"])
@pytest.mark.parametrize("change", FINE.values(), ids=FINE)
def test_other_ways_to_write_the_same_pixels(image, change, ending):
    before = read(image)
    change(image.with_name(f"{STEM}{ending}"))
    after = read(image)
    assert np.array_equal(after[0], before[0]) and np.array_equal(after[1], before[1])


def of(key, value):
    return lambda scene: scene | {key: value}


def thing(key, value):
    return lambda scene: scene | {"objects": [scene["objects"][0] | {key: value}, *scene["objects"][1:]]}


def without(key):
    return lambda scene: {name: value for name, value in scene.items() if name != key}


SCENES = {
    "of another number": (of("image_index", 4), "its image_index is 4, not 3"),
    "of another variant": (of("split", "camo"), "its split is camo, not full"),
    "of another image": (
        of("image_filename", "CLEVRTEX_full_000004.png"),
        "its image_filename is CLEVRTEX_full_000004",
    ),
    "of more objects": (of("num_objects", 3), "its num_objects is 3, not"),
    "yes": (of("num_objects", True), "its num_objects is of type bool"),
    "half": (of("image_index", 3.0), "its image_index is of type float"),
    "no objects": (lambda scene: scene | {"objects": [], "num_objects": 0}, "it has 0 objects, not 1 to 10"),
    "too many": (lambda scene: scene | {"objects": scene["objects"][:1] * 11}, "it has 11 objects"),
    "objects by name": (of("objects", {"a": 1}), "its objects is of type dict"),
    "objects of words": (lambda scene: scene | {"objects": ["cube"], "num_objects": 1}, "object 1 is of type str"),
    "objects in another order": (lambda scene: scene | {"objects": scene["objects"][::-1]}, "object 1 has index"),
    "a number for a material": (thing("material", 7), "its material is of type int"),
    "no material": (thing("material", None), "its material is of type NoneType"),
    "no name": (thing("shape", ""), "its shape is no name"),
    "two lines": (of("ground_material", "a\nb"), "its ground_material is no name"),
    "half a letter": (of("ground_material", "\ud800"), "its ground_material is no name"),
    "long": (thing("size", "x" * 10**6), "its size is no name"),
    "NaN": (thing("rotation", float("nan")), "it has NaN for a number"),
    "infinite": (thing("rotation", float("-inf")), "it has -Infinity for a number"),
    "huge": (thing("rotation", 1e300), "rotation of 1e.300 degrees"),
    "a text": (thing("rotation", "12"), "its rotation is of type str"),
    **{f"without {key}": (without(key), f"its {key} is missing") for key in ("objects", "split", "ground_material")},
}
TEXTS = {
    "cut": (b'{"objects": [', "Expecting value"),
    "empty": (b"", "Expecting value"),
    "a list": (b"[]", "it is of type list, not a scene"),
    "null": (b"null", "it is of type NoneType, not a scene"),
    "Latin-1": (b'{"split": "f\xfcll"}', "can't decode byte 0xfc"),
    "UTF-16": ('{"split": "full"}'.encode("utf-16"), "can't decode byte"),
    "zeros": (bytes(1000), "Expecting value"),
    "deep": (b"[" * 10**6, "recursion"),
    "overflowing": (b'{"objects": [], "a": 1e999999}', "it has 0 objects"),
    "long numbers": (b'{"image_index": ' + b"9" * 10**5 + b"}", "Exceeds the limit"),
    "a key twice": (b'{"split": "full", "split": "full"}', "a name is in it twice"),
}


@pytest.mark.parametrize(("damage", "message"), [*SCENES.values(), *TEXTS.values()], ids=[*SCENES, *TEXTS])
def test_a_damaged_description(image, damage, message):
    path = image.with_suffix(".json")
    text = damage if isinstance(damage, bytes) else json.dumps(damage(json.loads(path.read_text()))).encode()
    path.write_bytes(text)
    with pytest.raises(Damaged, match=rf"{path} is damaged .*{message}.*; unpack its archive again") as error:
        read(image)
    assert len(str(error.value).splitlines()) == 1 and len(str(error.value)) < 600
