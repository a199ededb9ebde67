"""ClevrTex (Karazija et al. 2021), read in its published layout."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data.scenes import Scenes
from data.source import EVERYTHING, Damaged, DataSource, FinalSplit, Found, local_folder
from data.sources.clevrtex import scene
from data.sources.clevrtex.files import ENDINGS, File, Listing, listing
from data.sources.clevrtex.scene import MAX_OBJECTS, SceneFiles, resized

IMAGES = {
    "full": 50_000,
    "pbg": 20_000,
    "vbg": 20_000,
    "grassbg": 20_000,
    "camo": 20_000,
    "outd": 10_000,
}
"""Images per published variant. There is also ``clevr``, with CLEVR's looks in this layout, of unknown number."""

PARTS = {"full": 5}
"""Archives of a variant that is published in more than one."""

FILTERS = {"image": "Pillow BILINEAR, antialiased", "label": "Pillow NEAREST"}

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

    def fitted(self, picture: Image.Image, crop: bool, size: tuple[int, int]) -> NDArray[np.uint8]:
        """By the published loading recipe; without ``crop`` the whole picture, whatever its shape."""
        return np.asarray(resized(picture, crop, size, Image.Resampling.BILINEAR))

    def find(self, variant: str, root: str | None) -> Found:
        """The scenes below ``root``; their state is the names, lengths and times of the files that will be read."""
        assert root is not None, "published files need a root"
        published = find(local_folder(root), variant)

        def scenes(split: str, crop: bool, size: tuple[int, int]) -> Iterator[Scenes]:
            return batches(published, published.splits()[split], crop, size)

        def some(split: str, crop: bool, size: tuple[int, int], places: range) -> Iterator[Scenes]:
            return batches(published, published.splits()[split][places.start : places.stop], crop, size, threads=1)

        counts = {split: len(numbers) for split, numbers in published.splits().items()}
        return Found(published.key, counts, scenes, FILTERS, published.warnings, some=some, state=published.state)


@dataclass(frozen=True)
class Published:
    """The files of one variant; scene i is the i-th."""

    variant: str
    scenes: list[SceneFiles]
    key: str
    """Hash of the names, lengths and times of all images, masks and JSONs: tells one state of them from another. It is
    the same for a folder and for the archives that it was unpacked from."""
    warnings: list[str]
    """What is missing at the end, and what that means; one line or none."""
    state: list[str]
    """All folders that were listed and some of the images, or the archives."""

    @property
    def images(self) -> list[File]:
        """The images alone."""
        return [files.image for files in self.scenes]

    def splits(self) -> dict[str, range]:
        """Scene numbers per split, see :func:`splits`."""
        return splits(len(self.scenes), IMAGES.get(self.variant, 0))


def splits(images: int, official: int = 0) -> dict[str, range]:
    """Scene numbers per split of a variant with ``images`` of its ``official`` images (0: not known).

    The first tenth of the official number is test, the second val, the rest train. Where that leaves nothing to train
    on, it is tenths of what is there.
    """
    whole = official if int(0.2 * official) < images < official else images
    test, val = int(0.1 * whole), int(0.2 * whole)
    return {"test": range(test), "val": range(test, val), "train": range(val, images)}


def find(root: str, variant: str) -> Published:
    """The scenes of ``variant`` below ``root``, see :func:`data.sources.clevrtex.files.listing`.

    Raises MissingDataset where there are none, ValueError for missing or repeated files, OSError.
    """
    found = listing(root, variant, {*Source.variants} - {variant})
    numbers = [number for number, (image, *_) in found.scenes.items() if image]
    missing = sorted(set(range(max(found.scenes) + 1)).difference(numbers))
    if missing:
        listed = f"number{'s' * (len(missing) > 1)} {_ranges(missing)}"
        raise ValueError(
            f"{found.place} lacks {len(missing):,} of its first {max(found.scenes) + 1:,} images ({listed})"
            f"{_absent_parts(found)}; unpack the archives again"
        )
    scenes, digest = [], hashlib.sha256()
    absent: list[tuple[str, str]] = []
    for number in range(len(numbers)):
        trio = found.scenes[number]
        there = [each for each in trio if each]
        if len(there) < len(trio):
            absent += _absent(trio)
            continue
        scenes.append(SceneFiles(*(file for file, _ in there)))
        digest.update("".join(state for _, state in there).encode())
    if absent:
        raise Damaged(absent, scenes[0].image.remedy if scenes else "unpack the archives again")
    official = IMAGES.get(variant, 0)
    if splits(len(scenes), official) != splits(len(scenes)):
        digest.update(b"published splits")  # before version 1.6 these scenes had others
    sample = [files.image.path for files in scenes[:: max(1, len(scenes) // _SAMPLE)] if not files.image.archive]
    warnings = _warnings(found, len(scenes), official)
    return Published(variant, scenes, digest.hexdigest()[:12], warnings, sorted(found.state) + sample)


def mask_of(image: str | Path) -> Path:
    """The palette PNG that belongs to the unpacked ``image``."""
    return Path(SceneFiles.beside(image).mask)


def scene_of(image: str | Path) -> Path:
    """The JSON that belongs to the unpacked ``image``."""
    return Path(SceneFiles.beside(image).description)


def read(
    files: SceneFiles | str | Path, crop: bool, size: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], dict[str, Any]]:
    """Image (H, W, 3), label map (H, W) and metadata of one scene, or of that of an unpacked image.

    See :func:`data.sources.clevrtex.scene.read`.
    """
    return scene.read(files if isinstance(files, SceneFiles) else SceneFiles.beside(files), crop, size)


def batches(
    published: Published, numbers: range, crop: bool, size: tuple[int, int], threads: int | None = None
) -> Iterator[Scenes]:
    """The scenes ``numbers`` in order. Raises Damaged for a batch with damaged files, after which it goes on."""
    return _Batches(published, numbers, crop, size, threads)


class _Batches(Iterator[Scenes]):
    """An iterator that survives what it raises, as a generator does not."""

    def __init__(self, published: Published, numbers: range, crop: bool, size: tuple[int, int], threads: int | None):
        self._scenes, self._crop, self._size = published.scenes, crop, size
        self._waiting = [numbers[first : first + _BATCH] for first in range(0, len(numbers), _BATCH)]
        self._waiting.reverse()
        self._pool = ThreadPoolExecutor(threads)  # Pillow and zlib decode without the interpreter's lock

    def __next__(self) -> Scenes:
        if not self._waiting:
            self._pool.shutdown()
            raise StopIteration
        numbers = self._waiting.pop()
        read = list(self._pool.map(self._read, numbers))
        sound = [(number, each) for number, each in zip(numbers, read, strict=True) if not isinstance(each, Damaged)]
        batch = None
        if sound:
            images, labels, metadata = zip(*(each for _, each in sound), strict=True)
            index = np.array([number for number, _ in sound])
            batch = Scenes(index, np.stack(images), np.stack(labels), list(metadata))
        if damaged := [each for each in read if isinstance(each, Damaged)]:
            raise Damaged([file for each in damaged for file in each.files], damaged[0].remedy, batch)
        assert batch
        return batch

    def _read(self, number: int) -> "tuple[NDArray[np.uint8], NDArray[np.uint8], dict[str, Any]] | Damaged":
        try:
            return scene.read(self._scenes[number], self._crop, self._size)
        except Damaged as error:
            return error


def _absent(trio: Sequence[tuple[File, str] | None]) -> Iterator[tuple[str, str]]:
    """What is not there beside an image."""
    assert trio[0]
    image = trio[0][0]
    for each, ending in zip(trio, ENDINGS, strict=True):
        if not each:
            yield str(image._replace(path=image.path[: -len(ENDINGS[0])] + ending)), "is missing"


def _warnings(found: Listing, images: int, official: int) -> list[str]:
    if images >= official:
        return []
    bounds = splits(images, official)
    if bounds == splits(images):
        kept = "its splits are tenths of what is there, not the published ones"
    else:
        kept = "its splits have the published bounds, and what is missing is missing in the last of them"
    if found.unread:
        kept += f"; beside unpacked images no archive is read ({', '.join(map(os.path.basename, found.unread))})"
    return [
        f"clevrtex:{found.variant} lacks the images {_ranges(range(images, official))}{_absent_parts(found)}; {kept}"
    ]


def _ranges(numbers: Sequence[int]) -> str:
    """``numbers``, which ascend, such as ``3, 7 to 9``; of many ranges, the first five."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    listed = [f"{first:,}" if first == last else f"{first:,} to {last:,}" for first, last in ranges[:5]]
    return ", ".join(listed) + ", ..." * (len(ranges) > 5)


def _absent_parts(found: Listing) -> str:
    """Which parts are not there, if names of folders or archives say which are."""
    whole = range(1, PARTS.get(found.variant, 0) + 1)
    absent = [str(part) for part in whole if part not in found.parts]
    return f" (of {len(whole)} parts, missing {', '.join(absent)})" if absent and found.parts else ""
