"""Your own pictures, with or without masks: a folder of PNG, JPEG, TIFF or WebP files.

The folder of ``--data-root`` holds the pictures, or folders ``train`` and, if you like, ``val``, ``test``, ``ood`` and
``camo`` with pictures. The mask of ``a.jpg`` is ``masks/a.png`` beside it, or ``a_mask.png`` or ``a_flat.png``: one
value, palette entry or colour per object. Without any mask a study has only ``--metric MSE`` or ``loss``.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data import picture_files
from data.picture_files import central, eight_bit
from data.scenes import Scenes, joined
from data.source import Damaged, DataSource, FinalSplit, Found, MissingDataset, local_folder

MAX_OBJECTS = 10
"""Of a scene, where the spec names no other number, as ``images:30`` does."""
MOST_OBJECTS = 254
ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp")
FOLDERS = {"train": "train", "val": "val", "test": "test", "ood": "outd", "outd": "outd", "camo": "camo"}
"""A folder's name -> the split that its pictures are."""
FILTERS = {"image": "Pillow BILINEAR, antialiased", "label": "Pillow NEAREST"}
REMEDY = "mend it or take it out of the folder"
_BATCH = 64


class Source(DataSource):
    """Any folder of pictures. The central region of the size's shape is taken, with ``-crop`` 0.8 of it."""

    takes_crop = True
    final_splits = (FinalSplit("test", "test"), FinalSplit("outd", "outd"), FinalSplit("camo", "camo"))

    def variant(self, text: str) -> str:
        """Nothing, or the most objects that a picture has, 1 to 254. Raises ValueError for anything else."""
        if text and not (text.isascii() and text.isdecimal() and 1 <= int(text) <= MOST_OBJECTS):
            raise ValueError(
                f"variant {text!r} is no number of objects; images:30 says that a picture has up to 30, at most "
                f"{MOST_OBJECTS}; without it there may be {MAX_OBJECTS}"
            )
        return str(int(text)) if text else ""

    def folder(self, variant: str) -> str:
        """Any folder."""
        return "the pictures"

    def max_objects(self, variant: str) -> int:
        """What the variant says, else ten."""
        return int(variant or MAX_OBJECTS)

    def find(self, variant: str, root: str | None) -> Found:
        """The pictures below ``root``; their state is the names, lengths and times of pictures and masks."""
        assert root is not None, "pictures need a root"
        pictures, key, state = _find(Path(local_folder(root)).expanduser())
        warnings = [] if pictures["train"][0].mask else ["no masks: scores are NaN; search with --metric MSE or loss"]

        def some(split: str, crop: bool, size: tuple[int, int], places: range) -> Iterator[Scenes]:
            return _batches(pictures[split], self.max_objects(variant), crop, size, places)

        def scenes(split: str, crop: bool, size: tuple[int, int]) -> Iterator[Scenes]:
            return some(split, crop, size, range(len(pictures[split])))

        counts = {split: len(files) for split, files in pictures.items()}
        every = [picture for files in pictures.values() for picture in files]
        state += [str(path) for picture in every for path in (picture.image, picture.mask) if path]
        return Found(key, counts, scenes, FILTERS, warnings, some=some, state=state)


@dataclass(frozen=True)
class Picture:
    """A picture and its mask."""

    image: Path
    mask: Path | None


def _find(root: Path) -> tuple[dict[str, list[Picture]], str, list[str]]:
    """The pictures of each split, a hash of their state, and the folders that were listed."""
    if not root.is_dir():
        raise MissingDataset(f"{root} is no folder; give --data-root the folder that holds the pictures")
    named = {folder: root / folder for folder in FOLDERS if (root / folder).is_dir()}
    state: list[str] = []
    if not named:
        found = {"train": _pictures(root, state)}
    elif "train" not in named:
        raise ValueError(f"{root} has {', '.join(named)}, no train; put the pictures to train on into {root / 'train'}")
    else:
        found = {}
        for folder, path in named.items():
            found.setdefault(FOLDERS[folder], []).extend(_pictures(path, state))
    if not found["train"]:
        raise MissingDataset(f"{root} holds no pictures ({', '.join(ENDINGS)}); give --data-root the folder that does")
    whole = len(found["train"])
    for split in ("val", "test"):
        if split not in found:
            found[split], found["train"] = _tenth(found["train"], split, whole)
    splits: dict[str, list[Picture]] = {
        split: found[split] for split in ("train", "val", "test", "outd", "camo") if split in found
    }
    everything = [picture for pictures in splits.values() for picture in pictures]
    masked = [picture for picture in everything if picture.mask]
    if masked and len(masked) < len(everything):
        lacking = next(picture.image for picture in everything if not picture.mask)
        raise ValueError(
            f"{lacking} has no mask, {len(masked)} of {len(everything)} pictures have one; add "
            f"{lacking.parent / 'masks' / lacking.stem}.png, or leave all masks out"
        )
    digest = hashlib.sha256()
    for split, pictures in splits.items():
        for path in [path for picture in pictures for path in (picture.image, picture.mask) if path]:
            status = path.stat()
            digest.update(f"{split} {path.relative_to(root)} {status.st_size} {status.st_mtime_ns}\n".encode())
    return splits, digest.hexdigest()[:12], state


def _pictures(folder: Path, state: list[str]) -> list[Picture]:
    """The pictures in ``folder`` and below, in the order of their names; the folders join ``state``."""
    files: dict[str, set[str]] = {}
    for place, folders, inside in os.walk(folder, followlinks=True):
        folders[:] = sorted(each for each in folders if not each.startswith("."))
        files[place] = {name for name in inside if not name.startswith(".")}
        state.append(place)
    found = []
    for place, names in files.items():
        if Path(place).name == "masks":
            continue
        for name in sorted(names):
            stem, ending = os.path.splitext(name)
            if ending.lower() not in ENDINGS or stem.endswith(("_mask", "_flat")):
                continue
            path = Path(place)
            beside = [f"{stem}_mask.png" in names, f"{stem}_flat.png" in names]
            within = f"{stem}.png" in files.get(str(path / "masks"), ())
            masks = [path / "masks" / f"{stem}.png"] * within
            masks += [path / f"{stem}{end}.png" for end, there in zip(("_mask", "_flat"), beside, strict=True) if there]
            if len(masks) > 1:
                raise ValueError(f"{path / name} has two masks, {masks[0]} and {masks[1]}; remove one")
            found.append(Picture(path / name, masks[0] if masks else None))
    return found


def _tenth(pictures: list[Picture], split: str, whole: int) -> tuple[list[Picture], list[Picture]]:
    """A tenth of ``whole``, at least one, of the ``pictures``, and the others, both in their order.

    A hash of a picture's name decides, so that another picture in the folder moves few of them.
    """
    count = max(1, whole // 10)
    if count >= len(pictures):
        raise ValueError(f"{len(pictures)} pictures are too few to set some apart for {split}; give at least ten")

    def rank(picture: Picture) -> bytes:
        return hashlib.sha256(f"{split} {picture.image.name}".encode()).digest()

    chosen = set(sorted(pictures, key=rank)[:count])
    return [each for each in pictures if each in chosen], [each for each in pictures if each not in chosen]


def _batches(
    pictures: list[Picture], most: int, crop: bool, size: tuple[int, int], places: range
) -> Iterator["Scenes"]:
    return _Batches(pictures, most, crop, size, places)


class _Batches(Iterator[Scenes]):
    """Scenes in batches. Damaged is raised for a batch with such files, and the next batch still comes."""

    def __init__(self, pictures: list[Picture], most: int, crop: bool, size: tuple[int, int], places: range):
        self._pictures, self._most, self._crop, self._size = pictures, most, crop, size
        self._at, self._stop = places.start, places.stop

    def __next__(self) -> Scenes:
        if self._at >= self._stop:
            raise StopIteration
        numbers = range(self._at, min(self._at + _BATCH, self._stop))
        self._at = numbers.stop
        good, bad = [], []
        for number in numbers:
            picture = self._pictures[number]
            try:
                image, label = read(picture, self._most, self._crop, self._size)
            except _Wrong as error:
                bad.append((str(error.path), str(error)))
                continue
            thing = dict.fromkeys(("shape", "size", "material", "color", "rotation"))
            scene = {"ground_material": None, "objects": [thing] * int(label.max())}
            good.append(Scenes(np.array([number]), image[None], label[None], [scene]))
        if bad:
            raise Damaged(bad, REMEDY, joined(good) if good else None)
        return joined(good)


class _Wrong(Exception):
    """What is wrong with the file ``path``."""

    def __init__(self, path: Path, text: str):
        super().__init__(text)
        self.path = path


def read(picture: Picture, most: int, crop: bool, size: tuple[int, int]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Image (H, W, 3) and label map (H, W) of ``picture`` at ``size`` = (H, W).

    Labels of the objects that are left number from 1 in the order of their values in the mask; the ground is the lowest
    value or palette entry, or black (the most frequent colour, where nothing is black).
    """
    image = _open(picture.image)
    if picture.mask is None:
        return _seen(picture.image, image, crop, size), np.zeros(size, np.uint8)
    mask = _open(picture.mask)
    if mask.size != image.size:
        raise _Wrong(picture.mask, f"has size {mask.size}, its picture {image.size}")
    values = _values(mask)
    there = np.unique(values)
    if len(there) > most + 1:
        hint = f"; images:{len(there) - 1} allows them" if len(there) <= MOST_OBJECTS + 1 else ""
        raise _Wrong(
            picture.mask,
            f"has {len(there)} different values, more than {most} objects and the ground{hint}; a mask needs one value "
            "per object, and JPEG blurs them",
        )
    labels = Image.fromarray(np.searchsorted(there, values).astype(np.uint8))
    small = np.asarray(central(labels, crop, size, Image.Resampling.NEAREST))
    left = np.union1d(small, [0])
    small = np.searchsorted(left, small).astype(np.uint8)
    return _seen(picture.image, image, crop, size), small


def _values(mask: Image.Image) -> NDArray[np.int64]:
    """A number per pixel (H, W) that is the object's; the ground has the lowest."""
    if mask.mode in ("1", "L", "P") or mask.mode.startswith("I"):
        return np.asarray(mask).astype(np.int64)
    colours = np.asarray(mask.convert("RGB")).astype(np.int64) @ np.array([65536, 256, 1])
    if (colours == 0).any():
        return colours
    found, counts = np.unique(colours, return_counts=True)
    return np.where(colours == found[counts.argmax()], 0, colours)


def _open(path: Path) -> Image.Image:
    try:
        return picture_files.opened(path)
    except ValueError as error:
        raise _Wrong(path, str(error)) from error


def _seen(path: Path, picture: Image.Image, crop: bool, size: tuple[int, int]) -> NDArray[np.uint8]:
    try:
        return np.asarray(central(eight_bit(picture), crop, size, Image.Resampling.BILINEAR))
    except ValueError as error:
        raise _Wrong(path, str(error)) from error
