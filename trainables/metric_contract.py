"""What a metric of one's own promises, as checks: ``clevrtune check NAME`` and the tests run these."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainables import own_metrics
from trainables.contract import SIZE, require, scenes

IMAGES = 6


@dataclass(frozen=True)
class Promise:
    """One promise."""

    name: str
    """a word for tests"""
    says: str
    """what is promised, as a person reads it"""
    check: Callable[[str], None]
    """takes the metric's name; raises Broken, or what the metric raises"""


def has_direction_and_score(name: str) -> None:
    """The file has DIRECTION and a function score."""
    own_metrics.load(name)


def one_number_per_image(name: str) -> None:
    """Floats (B,), finite or NaN, also for a batch of one and for an image without objects."""
    predicted, true, reconstruction, image = _batch()
    empty = _scored(name, predicted, np.zeros_like(true), reconstruction, image)
    for values, count in ((_scores(name, slice(0, IMAGES)), IMAGES), (_scores(name, slice(0, 1)), 1), (empty, IMAGES)):
        require(values.shape == (count,), f"score returned {values.shape} for {count} images; return one per image")
        where = "an image without objects" if values is empty else "an image"
        require(not np.isinf(values).any(), f"score is infinite for {where}; return NaN where it is undefined")


def images_alone(name: str) -> None:
    """An image's score does not depend on the others of its batch."""
    together = _scores(name, slice(0, IMAGES))
    alone = np.concatenate([_scores(name, slice(i, i + 1)) for i in range(IMAGES)])
    same = np.allclose(together, alone, equal_nan=True)
    require(same, f"the same images score {together.round(4)} together and {alone.round(4)} alone; use no batch means")


def arguments_stay(name: str) -> None:
    """The arrays that it gets stay as they are."""
    batch = _batch()
    _scored(name, *batch)
    changed = any(bool((batch[i] != before).any()) for i, before in enumerate(_batch()))
    require(not changed, "score changes an array that it is given, and other metrics get the same; copy it first")


def _batch() -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
    """A batch of which about half of the pixels are labelled well: predicted, true, reconstruction, image."""
    images, labels = scenes(IMAGES, SIZE).gather(np.arange(IMAGES))
    image = (images.transpose(0, 3, 1, 2) / np.float32(255)).astype(np.float32)  # (B, 3, H, W)
    true = labels.astype(np.int64)
    predicted = true.copy()
    predicted[:, :, SIZE // 2 :] = 0
    return predicted, true, np.flip(image, 3).copy(), image


def _scores(name: str, some: slice) -> NDArray[np.float64]:
    return _scored(name, *(array[some] for array in _batch()))


def _scored(name: str, *arrays: NDArray[np.generic]) -> NDArray[np.float64]:
    return np.asarray(own_metrics.load(name).score(*arrays), np.float64)


PROMISES = (
    Promise("file", "a DIRECTION, max or min, and a function score", has_direction_and_score),
    Promise("numbers", "one number per image, finite or NaN", one_number_per_image),
    Promise("alone", "an image's score does not depend on the others", images_alone),
    Promise("arguments", "score leaves its arguments as they are", arguments_stay),
)
"""What a metric promises."""
