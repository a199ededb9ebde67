"""The filters of torchvision 0.9.1 on tensors, in numpy: what data sets are resized with whose recipe is not Pillow's.

Both equal ``torch.nn.functional.interpolate`` (tests/data/test_resizing.py) but need no torch.
"""

import numpy as np
from numpy.typing import NDArray

FILTERS = {"image": "torch bilinear, not antialiased", "label": "torch nearest"}


def central_square(size: tuple[int, int], share: float) -> tuple[slice, slice]:
    """Rows and columns of the central square of a picture of ``size`` = (H, W); its side is ``share`` of the shorter.

    Where the margins cannot be equal, the lower and the right one are larger.
    """
    side = int(share * float(min(size)))
    first = [(length - side) // 2 for length in size]
    return slice(first[0], first[0] + side), slice(first[1], first[1] + side)


def nearest(length: int, wanted: int) -> NDArray[np.int64]:
    """(wanted,), which of ``length`` pixels each of ``wanted`` is: floor(i length / wanted), in single precision."""
    scale = np.float32(length) / np.float32(wanted)
    return np.minimum(np.floor(np.arange(wanted, dtype=np.float32) * scale).astype(np.int64), length - 1)


def bilinear(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """``image`` (h, w, C) at ``size`` = (H, W).

    Each pixel is a mean of at most four, also where the picture shrinks. Rounded to whole numbers, halves to even ones.
    """
    rows, columns = (_between(*lengths) for lengths in zip(image.shape, size, strict=False))
    across = _mean(np.take(image, columns[0], 1), np.take(image, columns[1], 1), columns[2][:, None])
    return np.rint(_mean(across[rows[0]], across[rows[1]], rows[2][:, None, None])).astype(np.uint8)


def _between(length: int, wanted: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """For each of ``wanted`` pixels: the two of ``length`` that it lies between, and the weight of the second."""
    scale = np.float32(length) / np.float32(wanted)
    place = np.maximum(scale * (np.arange(wanted, dtype=np.float32) + np.float32(0.5)) - np.float32(0.5), 0)
    first = np.minimum(place.astype(np.int64), length - 1)
    return first, np.minimum(first + 1, length - 1), (place - first).astype(np.float32)


def _mean(
    one: NDArray[np.uint8 | np.float32], other: NDArray[np.uint8 | np.float32], weight: NDArray[np.float32]
) -> NDArray[np.float32]:
    return one * (1 - weight) + other * weight
