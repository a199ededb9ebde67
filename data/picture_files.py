"""Pictures of any kind, from anywhere: files -> RGB -> the central region at a size."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

CROP = 0.8
"""The share of the shorter side that ``-crop`` keeps."""


def opened(path: Path) -> Image.Image:
    """The decoded picture, turned as its EXIF says. Raises ValueError, without the file's name, for what is none."""
    try:
        if not path.is_file():
            raise ValueError("is no file")
        with Image.open(path) as picture:
            turned = ImageOps.exif_transpose(picture)
            turned.load()
            return turned
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"is no picture that Pillow reads ({error})") from error


def eight_bit(picture: Image.Image) -> Image.Image:
    """Any picture as RGB: of 16-bit grey the highest byte counts, and transparency is dropped.

    Raises ValueError for fractions beyond [0, 1].
    """
    if picture.mode.startswith("I"):
        values = np.clip(np.asarray(picture).astype(np.int64), 0, 65535) >> 8
        picture = Image.fromarray(values.astype(np.uint8))
    elif picture.mode == "F":
        fractions = np.asarray(picture)
        if not (0 <= fractions.min() and fractions.max() <= 1):
            raise ValueError("has fractions beyond [0, 1]")
        picture = Image.fromarray((fractions * 255).round().astype(np.uint8))
    return picture.convert("RGB")


def central(picture: Image.Image, crop: bool, size: tuple[int, int], how: Image.Resampling) -> Image.Image:
    """The central region with the shape of ``size`` = (H, W), 0.8 of it with ``crop``, at that size."""
    (height, width), share = size, CROP if crop else 1.0
    scale = share * min(picture.width / width, picture.height / height)
    w, h = max(1, int(scale * width)), max(1, int(scale * height))
    left, upper = (picture.width - w) // 2, (picture.height - h) // 2
    return picture.crop((left, upper, left + w, upper + h)).resize((width, height), how)
