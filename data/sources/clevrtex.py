"""ClevrTex (Karazija et al. 2021), read in its published layout."""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data.scenes import Scenes
from data.source import EVERYTHING, DataSource, FinalSplit, Found, MissingDataset

IMAGES = {
    "full": 50_000,
    "pbg": 20_000,
    "vbg": 20_000,
    "grassbg": 20_000,
    "camo": 20_000,
    "outd": 10_000,
}
"""Images per published variant. There is also ``clevr``, with CLEVR's looks in this layout, of unknown number."""

MAX_OBJECTS = 10
CROP = 0.8
"""Side of the central square, as a share of the image's shorter side."""
FILTERS = {"image": "Pillow BILINEAR, antialiased", "label": "Pillow NEAREST"}

_COLOURED = ("vbg", "clevr")  # elsewhere a material hides the colour that the JSON names
_BATCH = 64
_SAMPLE = 100  # images whose times a start compares that lists no folder


class Source(DataSource):
    """Seven variants that differ in materials and shapes; each is a folder ``clevrtex_<variant>``.

    The final stage scores all of ``outd``, and the test split of ``camo``.
    """

    variants = (*IMAGES, "clevr")
    takes_crop = True
    final_splits = (
        FinalSplit("test", "test"),
        FinalSplit("outd", EVERYTHING, variant="outd"),
        FinalSplit("camo", "test", variant="camo"),
    )

    def max_objects(self, variant: str) -> int:
        """Ten."""
        return MAX_OBJECTS

    def counts(self, variant: str) -> dict[str, int]:
        """A tenth each for test and val, the rest for train."""
        return {split: len(numbers) for split, numbers in splits(IMAGES[variant]).items()} if variant in IMAGES else {}

    def curve(self, variant: str) -> tuple[FinalSplit, ...]:
        """The test split of each variant, and all of ``outd``, from CLEVR's looks to what was never seen."""
        ordered = ("clevr", "pbg", "vbg", "grassbg", "full", "camo", "outd")
        return tuple(
            FinalSplit(each, "test")
            if each == variant
            else FinalSplit(each, EVERYTHING if each == "outd" else "test", variant=each)
            for each in ordered
        )

    def find(self, variant: str, root: str | None) -> Found:
        """The scenes of the folder; its state is the names, lengths and times of the files that will be read."""
        assert root is not None, "published files need a root"
        published = find(root, variant)

        def scenes(split: str, crop: bool, size: tuple[int, int]) -> Iterator[Scenes]:
            return batches(published, published.splits()[split], crop, size)

        def some(split: str, crop: bool, size: tuple[int, int], places: range) -> Iterator[Scenes]:
            return batches(published, published.splits()[split][places.start : places.stop], crop, size, threads=1)

        counts = {split: len(numbers) for split, numbers in published.splits().items()}
        return Found(published.key, counts, scenes, FILTERS, some=some, state=published.state)


@dataclass(frozen=True)
class Published:
    """The files of one variant: scene i has the i-th image, mask and JSON."""

    variant: str
    images: list[Path]
    key: str
    """Hash of the names, lengths and times of all images, masks and JSONs: tells one state of a folder from another."""
    state: list[str]
    """All folders that were looked through, and some of the files."""

    def splits(self) -> dict[str, range]:
        """Scene numbers per split, see :func:`splits`."""
        return splits(len(self.images))


def splits(images: int) -> dict[str, range]:
    """Scene numbers per split of a variant of ``images``: the first tenth is test, the second val, the rest train."""
    test, val = int(0.1 * images), int(0.2 * images)
    return {"test": range(test), "val": range(test, val), "train": range(val, images)}


def find(root: str, variant: str) -> Published:
    """The scenes of ``variant`` below ``root``, the folder ``clevrtex_<variant>`` or the one that holds it.

    Raises MissingDataset where there is no such folder, ValueError for missing or repeated files, OSError.
    """
    folder = _folder(root, variant)
    pattern = re.compile(rf"CLEVRTEX_{variant}_(\d{{6}})(\.png|_flat\.png|\.json)")
    found: dict[int, Path] = {}
    states: dict[Path, str] = {}
    looked_through: set[str] = set()
    for entry in _files(str(folder)):
        match = pattern.fullmatch(entry.name)
        if not match:
            continue
        path, state = Path(entry.path), entry.stat()
        looked_through.add(os.path.dirname(entry.path))
        states[path] = f"{entry.name} {state.st_size} {state.st_mtime_ns}\n"
        if match[2] == ".png":
            number = int(match[1])
            if number in found:
                raise ValueError(f"scene {number} is there twice, {found[number]} and {path}; remove one")
            found[number] = path
    if not found:
        raise ValueError(f"{folder} holds no CLEVRTEX_{variant}_NNNNNN.png; unpack the archives into it")
    missing = sorted(set(range(max(found) + 1)) - found.keys())
    if missing:
        listed = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
        raise ValueError(
            f"{folder} lacks {len(missing)} of its first {max(found) + 1} images (number {listed}); "
            "unpack the archives again"
        )
    images = [found[number] for number in sorted(found)]
    digest = hashlib.sha256()
    for image in images:
        for path in (image, mask_of(image), scene_of(image)):
            if path not in states:
                raise ValueError(f"{path} is missing; unpack its archive again")
            digest.update(states[path].encode())
    inside = {str(parent) for each in looked_through for parent in [Path(each), *Path(each).parents]}
    inside = {str(folder)} | {each for each in inside if each.startswith(f"{folder}{os.sep}")}
    sample = [str(image) for image in images[:: max(1, len(images) // _SAMPLE)]]
    return Published(variant, images, digest.hexdigest()[:12], sorted(inside) + sample)


def mask_of(image: Path) -> Path:
    """The palette PNG that belongs to ``image``."""
    return image.with_name(f"{image.stem}_flat.png")


def scene_of(image: Path) -> Path:
    """The JSON that belongs to ``image``."""
    return image.with_suffix(".json")


def batches(
    published: Published, numbers: range, crop: bool, size: tuple[int, int], threads: int | None = None
) -> Iterator[Scenes]:
    """The scenes ``numbers`` in order. Raises ValueError at the first damaged file."""

    def read_one(number: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8], dict[str, Any]]:
        return read(published.images[number], crop, size, published.variant in _COLOURED)

    with ThreadPoolExecutor(threads) as pool:  # Pillow decodes without the interpreter's lock
        for first in range(0, len(numbers), _BATCH):
            batch = numbers[first : first + _BATCH]
            images, labels, metadata = zip(*pool.map(read_one, batch), strict=True)
            yield Scenes(np.array(batch), np.stack(images), np.stack(labels), list(metadata))


def read(
    path: Path, crop: bool, size: tuple[int, int], coloured: bool = False
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], dict[str, Any]]:
    """Image (H, W, 3), label map (H, W) and metadata of the scene of the image ``path``; ``size`` = (H, W).

    Metadata has ``ground_material`` and, in label order, ``objects`` with shape, size, material, color (None
    unless ``coloured``) and rotation in degrees. Raises ValueError for a file that is damaged or not what it
    should be.
    """
    image, mask = _open(path), _open(mask_of(path))
    if image.mode not in ("RGB", "RGBA"):
        raise ValueError(f"{path} has mode {image.mode}, not RGB or RGBA; unpack its archive again")
    if mask.mode != "P":
        raise ValueError(f"{mask_of(path)} has mode {mask.mode}, not P (palette); unpack its archive again")
    if mask.size != image.size:
        raise ValueError(f"{mask_of(path)} has size {mask.size}, its image {image.size}; unpack its archive again")
    metadata = _metadata(scene_of(path), coloured)
    highest, objects = int(np.asarray(mask).max()), len(metadata["objects"])
    if highest > min(objects, MAX_OBJECTS):
        raise ValueError(
            f"{mask_of(path)} has label {highest}, above {min(objects, MAX_OBJECTS)}, the number of objects; "
            "unpack its archive again"
        )
    return (
        np.asarray(_resized(image.convert("RGB"), crop, size, Image.Resampling.BILINEAR)),
        np.asarray(_resized(mask, crop, size, Image.Resampling.NEAREST)),
        metadata,
    )


def _folder(root: str, variant: str) -> Path:
    """The variant's folder; ``grassbg`` may end with a d, as in a script on the web."""
    base = Path(root).expanduser()
    names = [f"clevrtex_{variant}"] + ["clevrtex_grassbd"] * (variant == "grassbg")
    for folder in [base / name for name in names] + [base] * (base.name in names):
        if folder.is_dir():
            return folder
    raise MissingDataset(f"{base / names[0]} does not exist; give --data-root the folder that holds {names[0]}")


def _files(folder: str) -> Iterator[os.DirEntry[str]]:
    """All files below ``folder``; each folder is listed once, because every request to a network disk is slow."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(entry.path)
            else:
                yield entry


def _open(path: Path) -> Image.Image:
    """The decoded picture. Raises ValueError if it is damaged."""
    try:
        with Image.open(path) as picture:
            picture.load()
            return picture
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error}); unpack its archive again") from error


def _resized(picture: Image.Image, crop: bool, size: tuple[int, int], how: Image.Resampling) -> Image.Image:
    """``picture`` at ``size`` = (H, W), by the published loading recipe."""
    if crop:
        width, height = picture.size
        side = int(CROP * float(min(width, height)))
        left, upper = (width - side) // 2, (height - side) // 2
        picture = picture.crop((left, upper, (width + side) // 2, (height + side) // 2))
    return picture.resize((size[1], size[0]), how)


def _metadata(path: Path, coloured: bool) -> dict[str, Any]:
    """What a shard keeps of a scene's JSON; not pixel coordinates, which a crop makes wrong."""
    try:
        scene: Mapping[str, Any] = json.loads(path.read_bytes())
        return {
            "ground_material": scene["ground_material"],
            "objects": [
                {
                    "shape": thing["shape"],
                    "size": thing["size"],
                    "material": thing["material"],
                    "color": thing["color"] if coloured else None,
                    "rotation": float(thing["rotation"]),
                }
                for thing in scene["objects"]
            ],
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error!r}); unpack its archive again") from error
