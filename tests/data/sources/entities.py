"""Writes scenes as ``clevr_with_masks`` is published: a TFRecord compressed with gzip, or npz files and a manifest.

python -m tests.data.sources.entities FOLDER 120 [tfrecord|npz]
"""

import gzip
import json
import struct
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.tfrecords import masked_crc

Scene = dict[str, NDArray[Any]]
FILE = "clevr_with_masks_train.tfrecords"
FOLDER = "clevr_with_masks"


def scene(number: int, objects: int | None = None) -> Scene:
    """A drawn scene, 3 to 10 discs and squares apart from each other, with the published features in their shapes."""
    random = np.random.default_rng([18, number])
    objects = int(random.integers(3, 11)) if objects is None else objects
    y, x = np.mgrid[:240, :320]
    shade = 110 + 30 * np.sin(x / 90 + random.uniform(0, 6)) + 20 * np.cos(y / 70)
    image = (shade + random.integers(0, 2, (240, 320)))[..., None] + [0, 2, 4]
    masks = np.zeros((11, 240, 320), bool)
    centres = np.zeros((11, 2))
    for entity, cell in enumerate(random.permutation(12)[:objects], 1):
        row, column = divmod(int(cell), 4)
        centres[entity] = 40 + 80 * column + random.uniform(-8, 8), 40 + 80 * row + random.uniform(-8, 8)
        right, down = np.abs(x - centres[entity, 0]), np.abs(y - centres[entity, 1])
        radius = random.uniform(18, 30)
        masks[entity] = right**2 + down**2 < radius**2 if random.integers(2) else np.maximum(right, down) < radius
        image[masks[entity]] = random.integers(0, 256, 3) * (0.7 + 0.3 * right / 40)[masks[entity]][:, None]
    masks[0] = ~masks.any(0)
    visible = np.arange(11) <= objects
    there = visible & (np.arange(11) > 0)

    def codes(most: int) -> NDArray[np.uint8]:
        return (random.integers(1, most + 1, 11) * there).astype(np.uint8)

    def floats(low: float, high: float) -> NDArray[np.float32]:
        return (random.uniform(low, high, 11) * there).astype(np.float32)

    return {
        "image": image.clip(0, 255).astype(np.uint8),
        "mask": 255 * masks[..., None].astype(np.uint8),
        "x": floats(-3, 3),
        "y": floats(-3, 3),
        "z": floats(0.3, 0.7),
        "pixel_coords": np.column_stack([centres, floats(7, 13)]).astype(np.float32),
        "rotation": floats(0, 360),
        "visibility": visible.astype(np.float32),
        "size": codes(2),
        "material": codes(2),
        "shape": codes(3),
        "color": codes(8),
    }


def scenes(count: int) -> Iterable[Scene]:
    """The first ``count`` scenes."""
    return (scene(number) for number in range(count))


def example(features: Mapping[str, NDArray[Any]], packed: bool = True, seed: int = 0) -> bytes:
    """A ``tf.train.Example``: lists of single bytes, or of floats, packed or not. ``seed`` orders the map."""
    names = list(features)
    np.random.default_rng(seed).shuffle(names)
    content = b""
    for name in names:
        values = features[name].ravel()
        if values.dtype == np.uint8:
            entries = np.empty((values.size, 3), np.uint8)
            entries[:] = (0x0A, 1, 0)
            entries[:, 2] = values
            kind, listed = 1, entries.tobytes()
        elif packed:
            kind, listed = 2, field(1, values.astype("<f4").tobytes())
        else:
            kind, listed = 2, b"".join(b"\x0d" + struct.pack("<f", value) for value in values)
        content += field(1, field(1, name.encode()) + field(2, field(kind, listed)))
    return field(1, content)


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field of a protocol buffer."""
    return bytes([number << 3 | 2]) + varint(len(content)) + content


def varint(value: int) -> bytes:
    """Seven bits a byte, lowest first."""
    low = b""
    while value > 0x7F:
        low += bytes([value & 0x7F | 0x80])
        value >>= 7
    return low + bytes([value])


def record(payload: bytes) -> bytes:
    """``payload`` in its frame."""
    length = struct.pack("<Q", len(payload))
    checksums = [struct.pack("<I", masked_crc(part)) for part in (length, payload)]
    return length + checksums[0] + payload + checksums[1]


def write_tfrecord(root: Path, some: Iterable[Scene], *, unpacked: bool = False) -> Path:
    """The published file in ``root``; floats of every second record, or of all, are ``unpacked``."""
    root.mkdir(parents=True, exist_ok=True)
    with gzip.open(root / FILE, "wb", compresslevel=1) as file:
        for number, features in enumerate(some):
            file.write(record(example(features, not unpacked, seed=number)))
    return root / FILE


def write_npz(root: Path, some: Iterable[Scene], *, manifest: bool = True) -> Path:
    """The folder of npz files in ``root``, 10,000 per folder."""
    folder, files = root / FOLDER, {}
    for number, features in enumerate(some):
        files[str(number)] = f"{number // 10_000}/{number}.npz"
        path = folder / files[str(number)]
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, **features)
    if manifest:
        (folder / "manifest_ind.json").write_text(json.dumps(files))
    return folder


if __name__ == "__main__":
    target, count, *form = sys.argv[1:]
    write = write_npz if form == ["npz"] else write_tfrecord
    print(write(Path(target), scenes(int(count))))
