"""Scenes of DeepMind's multi_object_datasets (Kabra et al. 2019): one TFRecord file, or one npz file per scene.

A scene has a picture and, for each of its entities, a mask and attributes; entity 0 is the background. A data set of
this kind is a subclass of :class:`MultiObjectSource` in ``data/sources``.
"""

import functools
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from data import resizing
from data.entity_files import Features, Form, Npz, TfRecord
from data.scenes import Scenes
from data.source import DataSource, Found, MissingDataset, local_folder

if TYPE_CHECKING:
    from PIL import Image

_AHEAD = 4  # scenes that are decoded or wait; 3.2 MB each
_BATCH = 64

Result = TypeVar("Result")


@dataclass(frozen=True)
class Layout:
    """What is published."""

    stem: str
    """Of the TFRecord's name, which ends with ``_train.tfrecords``, and the name of the folder of npz files."""
    size: tuple[int, int]
    """(H, W) of pictures and masks, in pixels."""
    entities: int
    """Masks per scene, with the background and padding."""
    splits: Mapping[str, range]
    """Numbers of scenes per split, in the order of the file."""
    crop: float
    """Side of the central square, as a share of the shorter side."""

    @property
    def count(self) -> int:
        """Scenes in all."""
        return sum(map(len, self.splits.values()))

    def splits_of(self, count: int) -> tuple[dict[str, range], list[str]]:
        """Splits of the first ``count`` scenes, and a warning if these are not all.

        By the published bounds, wherever they leave scenes to train on, so that no test scene is trained on; else by
        the published shares of what is there.
        """
        last = list(self.splits)[-1]
        if count > self.splits[last].start:
            splits = {split: numbers[: max(0, count - numbers.start)] for split, numbers in self.splits.items()}
            note = f"{self.stem} is cut short: splits are bounded as published, {last} ends with scene {count - 1:,}"
        else:
            bounds = [count * numbers.start // self.count for numbers in self.splits.values()] + [count]
            splits = {split: range(*bounds[i : i + 2]) for i, split in enumerate(self.splits)}
            note = (
                f"{self.stem} is cut short: its {count:,} scenes leave none to train on by the published bounds, so "
                "splits are shares of what is there, and published test scenes are trained on"
            )
        return splits, [note] if count < self.count else []


class MultiObjectSource(DataSource):
    """A subclass says ``layout``, and may ask for scenes with few entities."""

    layout: Layout
    most: int | None = None
    """Entities that a scene may have at most, with the background; other scenes are left out."""
    takes_crop = True

    def max_objects(self, variant: str) -> int:
        """All entities but the background."""
        return (self.most or self.layout.entities) - 1

    def counts(self, variant: str) -> dict[str, int]:
        """As published; unknown where scenes are left out."""
        return {} if self.most else {split: len(numbers) for split, numbers in self.layout.splits.items()}

    def folder(self, variant: str) -> str:
        """The TFRecord, or the folder of npz files."""
        return f"{self.layout.stem}_train.tfrecords or {self.layout.stem}"

    def fitted(self, picture: "Image.Image", crop: bool, size: tuple[int, int]) -> NDArray[np.uint8]:
        """By torch's filter; without ``crop`` the whole picture, whatever its shape."""
        return _image(np.asarray(picture), self.layout, crop, size)

    def find(self, variant: str, root: str | None) -> Found:
        """The scenes of the TFRecord or, where there is none, of the npz files; its state is names, lengths and times.

        Raises ValueError where there are more scenes than published.
        """
        assert root is not None, "published files need a root"
        form = self._form(Path(local_folder(root)).expanduser())
        if form.count > self.layout.count:
            raise ValueError(f"{form.path} has {form.count:,} scenes, published are {self.layout.count:,}; check it")
        splits, warnings = self.layout.splits_of(form.count)
        counts = {split: len(numbers) for split, numbers in splits.items()}
        reading = Reading(form, self.layout, splits, self.most)
        return Found(
            form.key,
            _Selected(reading) if self.most else counts,
            reading.scenes,
            resizing.FILTERS,
            [*form.warnings, *warnings],
            incomplete=form.count < self.layout.count,
            some=None if form.in_order or self.most else reading.some,
            state=form.state,
        )

    def _form(self, base: Path) -> Form:
        stem = self.layout.stem
        name = f"{stem}_train.tfrecords"
        for file in (base / name, base / stem / name, *[base] * (base.name == name)):
            if file.is_file():
                return TfRecord(file)
        for folder in (base / stem, *[base] * (base.name == stem)):
            if folder.is_dir():
                return Npz(folder)
        raise MissingDataset(
            f"{base} has neither {name} nor a folder {stem} of npz files; give --data-root the folder that holds one"
        )


@dataclass(frozen=True)
class Reading:
    """The scenes of a form, decoded."""

    form: Form
    layout: Layout
    splits: dict[str, range]
    most: int | None

    def scenes(self, split: str, crop: bool, size: tuple[int, int]) -> Iterator[Scenes]:
        """As :attr:`data.source.Found.scenes`. Read in the order of the splits, a TFRecord is passed once."""
        return self.some(split, crop, size, range(len(self.splits[split])))

    def some(self, split: str, crop: bool, size: tuple[int, int], places: range) -> Iterator[Scenes]:
        """The scenes at ``places`` of the published split, but for those that are left out."""

        def decoded(features: Features) -> Scene | None:
            few = self.most is None or _visibility(features, self.layout).sum() <= self.most
            return decode(features, self.layout, crop, size) if few else None

        numbers = self.splits[split][places.start : places.stop]
        kept = ((number, scene) for number, scene in self.mapped(decoded, numbers) if scene)
        while batch := list(islice(kept, _BATCH)):
            images, labels, metadata = zip(*(scene for _, scene in batch), strict=True)
            index = np.array([number for number, _ in batch])
            yield Scenes(index, np.stack(images), np.stack(labels), list(metadata))

    def few(self, split: str) -> int:
        """How many scenes of a split have ``most`` entities or fewer: all are read."""

        def one(features: Features) -> bool:
            return bool(_visibility(features, self.layout).sum() <= (self.most or self.layout.entities))

        return sum(few for _, few in self.mapped(one, self.splits[split]))

    def mapped(self, function: Callable[[Features], Result], numbers: range) -> Iterator[tuple[int, Result]]:
        """(number, ``function`` of the features) for each of ``numbers``, in order; a few are at work at a time."""

        def one(load: Callable[[], Features], number: int) -> Result:
            try:
                return function(load())
            except ValueError as error:
                raise ValueError(f"{self.form.place(number)} is damaged ({error}); {self.form.remedy}") from error

        waiting: deque[tuple[int, Future[Result]]] = deque()
        with ThreadPoolExecutor(_AHEAD) as pool:  # numpy and zlib work without the interpreter's lock
            for number, load in self.form.entries(numbers):
                waiting.append((number, pool.submit(one, load, number)))
                if len(waiting) == _AHEAD:
                    first, scene = waiting.popleft()
                    yield first, scene.result()
            for first, scene in waiting:
                yield first, scene.result()


class _Selected(Mapping[str, int]):
    """Scenes per split after some are left out: all are read, and only if somebody asks."""

    def __init__(self, reading: Reading):
        self._reading = reading

    @functools.cached_property
    def _counts(self) -> dict[str, int]:
        return {split: self._reading.few(split) for split in self._reading.splits}

    def __getitem__(self, split: str) -> int:
        return self._counts[split]

    def __iter__(self) -> Iterator[str]:
        return iter(self._reading.splits)

    def __len__(self) -> int:
        return len(self._reading.splits)


Scene = tuple[NDArray[np.uint8], NDArray[np.uint8], dict[str, Any]]


def _region(size: tuple[int, int], layout: Layout, crop: bool) -> tuple[slice, slice]:
    return resizing.central_square(size, layout.crop) if crop else (slice(size[0]), slice(size[1]))


def _image(picture: NDArray[np.uint8], layout: Layout, crop: bool, size: tuple[int, int]) -> NDArray[np.uint8]:
    """``picture`` (h, w, 3) at ``size`` = (H, W)."""
    rows, columns = _region((picture.shape[0], picture.shape[1]), layout, crop)
    return resizing.bilinear(np.ascontiguousarray(picture[rows, columns]), size)


def decode(features: Features, layout: Layout, crop: bool, size: tuple[int, int]) -> Scene:
    """Image (H, W, 3), label map (H, W) and metadata of a scene; ``size`` = (H, W).

    A pixel has the label of the entity whose mask is highest there: the first of them where masks overlap, 0 where none
    is set. Label k is the k-th visible entity after the background. Of attributes, the published codes are kept, as
    text: what they stand for is not documented. Raises ValueError for features that are missing, of another shape, or
    contradict each other.
    """
    height, width = layout.size
    image = _image(_feature(features, "image", (height, width, 3), "u"), layout, crop, size)

    rows, columns = _region(layout.size, layout, crop)
    masks = _feature(features, "mask", (layout.entities, height, width, 1), "ub")[:, rows, columns, 0]
    at = np.ix_(*(resizing.nearest(*lengths) for lengths in zip(masks.shape[1:], size, strict=True)))
    highest = masks[0][at]
    entity = np.zeros(size, np.uint8)
    for number, mask in enumerate(masks[1:], 1):
        values = mask[at]
        entity[values > highest] = number
        highest = np.maximum(highest, values)
    if not highest.any():
        raise ValueError("no mask is set")

    visible = _visibility(features, layout)[1:]
    objects = np.flatnonzero(visible) + 1
    label = np.zeros(layout.entities, np.uint8)
    label[objects] = np.arange(1, len(objects) + 1)
    for number in np.unique(entity):
        if number and not label[number]:
            raise ValueError(f"entity {number} has pixels, but visibility 0")
    return image, label[entity], {"ground_material": None, "objects": _objects(features, layout, objects)}


def _objects(features: Features, layout: Layout, entities: NDArray[np.int64]) -> list[dict[str, Any]]:
    """Attributes of ``entities``, as shards keep them; a code 0 is none."""
    names = ("shape", "size", "material", "color")
    codes = {name: _feature(features, name, (layout.entities,), "ui")[entities].tolist() for name in names}
    rotation = _feature(features, "rotation", (layout.entities,), "f")[entities]
    if not np.isfinite(rotation).all():
        raise ValueError("rotation is not finite")
    return [
        {name: str(codes[name][i]) if codes[name][i] else None for name in names} | {"rotation": float(rotation[i])}
        for i in range(len(entities))
    ]


def _visibility(features: Features, layout: Layout) -> NDArray[Any]:
    """(entities,), 0 or 1."""
    visibility = _feature(features, "visibility", (layout.entities,), "fub")
    if not np.isin(visibility, (0, 1)).all():
        raise ValueError("visibility is not 0 or 1 everywhere")
    return visibility


def _feature(features: Features, name: str, shape: tuple[int, ...], kinds: str) -> NDArray[Any]:
    """The feature ``name`` in ``shape``; it may come in one row, too. ``kinds`` of numbers are named as in numpy."""
    values = features.get(name)
    if values is None:
        raise ValueError(f"it has no {name}")
    if values.shape not in (shape, (np.prod(shape),)):
        raise ValueError(f"{name} has shape {values.shape}, not {shape}")
    if values.dtype.kind not in kinds or (values.dtype.kind == "u" and values.dtype.itemsize > 1):
        raise ValueError(f"{name} has numbers of type {values.dtype}")
    return values.reshape(shape)
