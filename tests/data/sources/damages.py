"""Seeded damages to source files, and what becomes of each: a program of its own, because a damage may hang it.

python -m tests.data.sources.damages SEED FIRST LAST FOLDER prints a JSON line per damage: its number, its kind, and
``refused`` in one line that names the file, ``harmless`` (same pixels, labels and descriptions), ``texts`` (another
description of the same objects: a JSON has no checksum), ``accepted`` with other pixels or labels, or ``traceback``.
"""

import io
import json
import os
import random
import shutil
import signal
import struct
import sys
import tempfile
import traceback
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image

from data.sources import clevrtex
from tests.data.sources.published import ROOT, packed

SECONDS = 60
"""A damage that takes longer ends the program: no file here takes a hundredth of it."""
SCENES = 2
SIZE = (240, 320)


def flip(data: bytearray, random: random.Random) -> None:
    """One bit."""
    data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def flip_many(data: bytearray, random: random.Random) -> None:
    """A bit in a hundred bytes."""
    for _ in range(max(2, len(data) // 100)):
        flip(data, random)


def cut(data: bytearray, random: random.Random) -> None:
    """The end is missing."""
    del data[random.randrange(len(data)) :]


def zero(data: bytearray, random: random.Random) -> None:
    """A block that was never written."""
    start, length = block(data, random)
    data[start : start + length] = bytes(length)


def double(data: bytearray, random: random.Random) -> None:
    """A block that was written twice."""
    start, length = block(data, random)
    data[start:start] = data[start : start + length]


def drop(data: bytearray, random: random.Random) -> None:
    """A block that is missing."""
    start, length = block(data, random)
    del data[start : start + length]


def swap(data: bytearray, random: random.Random) -> None:
    """Two blocks in each other's place."""
    length = max(1, len(data) // 8)
    a, b = sorted(random.sample(range(8), 2))
    a, b = a * length, b * length
    data[a : a + length], data[b : b + length] = data[b : b + length], data[a : a + length]


def append(data: bytearray, random: random.Random) -> None:
    """Something follows the end."""
    data += random.randbytes(random.randrange(1, 600))


def block(data: bytearray, random: random.Random) -> tuple[int, int]:
    length = min(len(data), random.choice([1, 16, 512, 4096]))
    return random.randrange(len(data) - length + 1), length


def on_chunks(change: Callable[[list[bytes], random.Random], None]) -> Callable[[bytearray, random.Random], None]:
    """A change to the chunks of a PNG, each of them whole, with its checksum."""

    def changed(data: bytearray, random: random.Random) -> None:
        at, found = 8, []
        while at < len(data):
            end = at + 12 + int.from_bytes(data[at : at + 4], "big")
            found.append(bytes(data[at:end]))
            at = end
        change(found, random)
        data[8:] = b"".join(found)

    changed.__name__ = change.__name__
    return changed


def swap_chunks(chunks: list[bytes], random: random.Random) -> None:
    a, b = random.sample(range(len(chunks)), 2)
    chunks[a], chunks[b] = chunks[b], chunks[a]


def double_chunk(chunks: list[bytes], random: random.Random) -> None:
    chunks.insert(random.randrange(len(chunks)), random.choice(chunks))


def drop_chunk(chunks: list[bytes], random: random.Random) -> None:
    del chunks[random.randrange(len(chunks))]


def other_length(chunks: list[bytes], random: random.Random) -> None:
    which = random.randrange(len(chunks))
    chunks[which] = random.choice([0, 1, 2**31 - 1, 2**32 - 1]).to_bytes(4, "big") + chunks[which][4:]


def change_content(chunks: list[bytes], random: random.Random) -> None:
    """With the checksum that goes with it, as a program with a mistake writes it."""
    which = random.randrange(len(chunks))
    body = bytearray(chunks[which][4:-4])
    if len(body) > 4:
        flip(memoryview(body)[4:], random)
    chunks[which] = chunks[which][:4] + bytes(body) + struct.pack(">I", zlib.crc32(body))


def value(data: bytearray, random: random.Random) -> None:
    """Another value in a JSON."""
    scene = json.loads(data)
    things = [scene, *scene["objects"]]
    holder = random.choice([scene, random.choice(things)])
    strange = [
        None,
        True,
        -1,
        10**30,
        1e300,
        float("nan"),
        float("inf"),
        "",
        "a\nb",
        "\ud800",
        [],
        {},
        [[[]]],
        "x" * 10**4,
    ]
    holder[random.choice(sorted(holder))] = random.choice(strange)
    data[:] = json.dumps(scene).encode()


def key(data: bytearray, random: random.Random) -> None:
    """A key less in a JSON."""
    scene = json.loads(data)
    holder = random.choice([scene, *scene["objects"]])
    del holder[random.choice(sorted(holder))]
    data[:] = json.dumps(scene).encode()


def objects(data: bytearray, random: random.Random) -> None:
    """Objects in another order, repeated or lost, in a JSON."""
    scene = json.loads(data)
    things = scene["objects"]
    random.choice(
        [
            things.reverse,
            things.pop,
            things.clear,
            lambda: things.insert(0, things[-1]),
            lambda: things.extend(things * 9),
        ]
    )()
    data[:] = json.dumps(scene).encode()


def repaint(paint: Callable[[Image.Image, random.Random], Image.Image]) -> Callable[[bytearray, random.Random], None]:
    """Another picture in place of this one, whole and with all its checksums."""

    def painted(data: bytearray, random: random.Random) -> None:
        stream = io.BytesIO()
        paint(Image.open(io.BytesIO(bytes(data))), random).save(stream, "png")
        data[:] = stream.getvalue()

    painted.__name__ = paint.__name__
    return painted


def other_mode(picture: Image.Image, random: random.Random) -> Image.Image:
    if picture.mode == "P":
        return picture.convert("RGB").convert(random.choice(["RGB", "1", "L"]))
    return picture.convert(random.choice(["P", "1", "L"]))


def other_size(picture: Image.Image, random: random.Random) -> Image.Image:
    return picture.resize(random.choice([(128, 128), (240, 320), (640, 480), (1, 1)]), Image.Resampling.NEAREST)


def renumber(picture: Image.Image, random: random.Random) -> Image.Image:
    """The same picture with a palette in another order, which can be mapped back."""
    order = random.sample(range(14), 14)
    return picture.remap_palette([*order, *range(14, 256)])


def other_palette(picture: Image.Image, random: random.Random) -> Image.Image:
    picture.putpalette([random.randrange(256) for _ in range(42)])
    return picture


def one_colour(picture: Image.Image, random: random.Random) -> Image.Image:
    """Nothing but background."""
    picture.paste(0, (0, 0, *picture.size))
    return picture


def special(path: Path, random: random.Random) -> None:
    """Something that is no file."""
    path.unlink()
    random.choice(
        [path.mkdir, lambda: os.mkfifo(path), lambda: path.symlink_to(path), lambda: path.symlink_to("/dev/zero")]
    )()


def giant(path: Path, random: random.Random) -> None:
    """A file of a terabyte, which takes no room."""
    os.truncate(path, 10**12)


def another(path: Path, random: random.Random) -> None:
    """The description of the other scene. For images and masks, nothing records which is whose."""
    number = int(path.stem[14:20])
    shutil.copy(path.with_name(path.name.replace(f"{number:06d}", f"{1 - number:06d}")), path)


BYTES = [flip, flip, flip, flip_many, cut, zero, double, drop, swap, append]
CHUNKS = [*map(on_chunks, (swap_chunks, double_chunk, drop_chunk, other_length, change_content))]
KINDS = {
    "image": (".png", [*BYTES, *CHUNKS, *map(repaint, (other_mode, other_size))]),
    "mask": (
        "_flat.png",
        [*BYTES, *CHUNKS, *map(repaint, (other_mode, other_size, renumber, other_palette, one_colour))],
    ),
    "json": (".json", [*BYTES, value, value, value, key, objects]),
    "file": (".png _flat.png .json .json", [special, giant, another]),
    "tar": (".tar", BYTES),
    "tar.gz": (".tar.gz", BYTES),
}
ORDER = ["image", "mask", "json", "mask", "json", "tar", "mask", "json", "tar.gz", "mask", "file"]
"""Kinds by turns; images take the longest."""


def damage(number: int, seed: int, folder: Path) -> tuple[str, str, Path]:
    """Do the damage ``number`` in ``folder``; what was damaged, how, and the file."""
    chance = random.Random(seed * 1_000_003 + number)
    what = ORDER[number % len(ORDER)]
    endings, ways = KINDS[what]
    how = ways[number // len(ORDER) % len(ways)]
    ending = chance.choice(endings.split()) if how is not another else ".json"
    if "tar" in what:
        path = folder / f"clevrtex_full{ending}"
    else:
        path = folder / "clevrtex_full/0" / f"CLEVRTEX_full_{chance.randrange(SCENES):06d}{ending}"
    if what == "file":
        how(path, chance)
        return what, how.__name__, path
    data = bytearray(path.read_bytes())
    how(data, chance)
    path.write_bytes(data)
    return what, how.__name__, path


def prepared(folder: Path) -> Path:
    """Two scenes, in ``files``, ``tar`` and ``tar.gz``."""
    for number in range(SCENES):
        for path in (ROOT / "clevrtex_full/0").glob(f"*{number:06d}*"):
            (folder / "files/clevrtex_full/0").mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder / "files/clevrtex_full/0")
    for what, mode in (("tar", "w"), ("tar.gz", "w:gz")):
        (folder / what).mkdir()
        packed(folder / "files/clevrtex_full", folder / what / f"clevrtex_full.{what}", range(SCENES), mode)
    return folder


def read(root: Path) -> list[tuple]:
    published = clevrtex.find(str(root), "full")
    return [
        (batch.images, batch.labels, batch.metadata)
        for batch in clevrtex.batches(published, range(len(published.images)), False, SIZE)
    ]


def outcome(root: Path, path: Path, sound: list[tuple]) -> str:
    """What becomes of a damage."""
    try:
        ((images, labels, metadata),) = read(root)
    except (ValueError, OSError) as error:  # of both, a conversion makes a line
        said = str(error)
        if path.suffix in (".png", ".json"):
            named = path.name[:20] in said or f"number {int(path.name[14:20])}" in said
        else:
            named = str(path) in said
        return "refused" if named and len(said.splitlines()) == 1 else f"riddle: {said}"
    except Exception:
        return f"traceback: {traceback.format_exc()}"
    if images.shape != sound[0][0].shape or not (images == sound[0][0]).all() or not (labels == sound[0][1]).all():
        return "accepted"
    counts = [[len(scene["objects"]) for scene in scenes] for scenes in (metadata, sound[0][2])]
    if counts[0] != counts[1]:
        return "accepted"
    return "harmless" if metadata == sound[0][2] else "texts"


def outcomes(seed: int, numbers: range, folder: Path) -> Iterator[tuple[int, str, str, str]]:
    """Number, what, how and outcome of each damage."""
    base = prepared(Path(tempfile.mkdtemp(dir=folder)))
    sound = read(base / "files")
    for number in numbers:
        what = ORDER[number % len(ORDER)]
        place = what if "tar" in what else "files"
        copy = shutil.copytree(base / place, base / "damaged")
        signal.alarm(SECONDS)  # ends the program, also where it waits for a pipe or runs in C
        what, how, path = damage(number, seed, copy)
        yield number, what, how, outcome(copy, path, sound)
        signal.alarm(0)
        shutil.rmtree(copy)


def main() -> None:
    """Print the outcomes; each line at once, so that it is known which damage ended the program."""
    seed, first, last = map(int, sys.argv[1:4])
    for line in outcomes(seed, range(first, last), Path(sys.argv[4])):
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
