"""One scene: from its three files to pixels, labels and metadata, or to what is wrong with each file."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data.source import Damaged
from data.sources.clevrtex import png
from data.sources.clevrtex.files import ENDINGS, File, spelling

MAX_OBJECTS = 10
SIZE = (320, 240)
"""(W, H) of all published pictures."""
CROP = 0.8
"""Side of the central square, as a share of the image's shorter side."""
PALETTE = (
    *((0, 0, 0), (255, 0, 0), (0, 128, 0), (0, 0, 255), (255, 255, 0), (141, 211, 199), (255, 255, 179)),
    *((190, 186, 218), (251, 128, 114), (128, 177, 211), (253, 180, 98), (179, 222, 105), (252, 205, 229)),
    (217, 217, 217),
)
"""Colours of the background and of objects 1 to 13 in a published mask, whose list repeats them."""

_PALETTE_BYTES = [channel for colour in PALETTE for channel in colour] * 19  # more than a palette can have
_COLOURED = ("vbg", "clevr")  # elsewhere a material hides the colour that the JSON names
_LONGEST = 200  # characters of a name or reason


class SceneFiles(NamedTuple):
    """The files of one scene."""

    image: File
    mask: File
    description: File

    @classmethod
    def beside(cls, image: str | Path) -> "SceneFiles":
        """Those of the unpacked ``image``, by the published names."""
        stem = os.fspath(image).removesuffix(ENDINGS[0])
        return cls(*(File(stem + ending) for ending in ENDINGS))


def read(
    files: SceneFiles, crop: bool, size: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], dict[str, Any]]:
    """Image (H, W, 3), label map (H, W) and metadata of a scene; ``size`` = (H, W).

    Metadata has ``ground_material`` and, in label order, ``objects`` with shape, size, material, color (None where a
    material hides it) and rotation in degrees. Raises Damaged with all files that are not what they should be.
    """
    wrong: list[tuple[str, str]] = []

    def part(file: File, how: Callable[[File], Any]) -> Any:
        try:
            return how(file)
        except _Mistake as error:
            wrong.append((str(file), str(error)))
        except (OSError, SyntaxError, ValueError, RecursionError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            wrong.append((str(file), f"is damaged ({reason[:_LONGEST]})"))

    image = part(files.image, _image)
    labels = part(files.mask, _labels)
    metadata = part(files.description, _metadata)
    if labels is not None and metadata is not None:
        highest, objects = _highest(labels), len(metadata["objects"])
        if highest > objects:
            wrong.append((str(files.mask), f"has label {highest}, above {objects}, the number of objects"))
        if highest == 0:
            wrong.append((str(files.mask), f"shows none of the {objects} objects"))
    if wrong:
        raise Damaged(wrong, files.image.remedy)
    return (
        np.asarray(resized(image, crop, size, Image.Resampling.BILINEAR)),
        np.asarray(resized(labels, crop, size, Image.Resampling.NEAREST)),
        metadata,
    )


class _Mistake(ValueError):
    """What a file is or has, as the rest of a sentence that begins with its name."""


def _image(file: File) -> Image.Image:
    """The colours."""
    picture = _decoded(file)
    if picture.mode not in ("RGB", "RGBA"):
        raise _Mistake(f"has mode {picture.mode}, not RGB or RGBA")
    return picture.convert("RGB")


def _labels(file: File) -> Image.Image:
    """The objects' numbers, by the colours of the published palette where the mask's own is in another order."""
    mask = _decoded(file)
    if mask.mode != "P":
        raise _Mistake(f"has mode {mask.mode}, not P (palette)")
    highest, palette = _highest(mask), mask.getpalette() or []
    if highest >= len(palette) // 3:
        raise _Mistake(f"has index {highest} and a palette of {len(palette) // 3} colours")
    if palette == _PALETTE_BYTES[: len(palette)]:
        return mask
    indices = np.asarray(mask)
    used = np.flatnonzero(np.bincount(indices.ravel()))
    shown = [tuple(palette[3 * index : 3 * index + 3]) for index in used]
    if all(colour == PALETTE[index % len(PALETTE)] for index, colour in zip(used, shown, strict=True)):
        return mask
    if not set(shown) <= set(PALETTE) or len(set(shown)) < len(shown):
        raise _Mistake("has another palette than the published one, so that its objects cannot be told")
    numbers = np.zeros(256, np.uint8)
    numbers[used] = [PALETTE.index(colour) for colour in shown]
    return Image.fromarray(numbers[indices])


def _highest(labels: Image.Image) -> int:
    extrema: Any = labels.getextrema()  # of a picture with one channel
    return int(extrema[1])


def _decoded(file: File) -> Image.Image:
    return png.decoded(file.read(), SIZE)


def resized(picture: Image.Image, crop: bool, size: tuple[int, int], how: Image.Resampling) -> Image.Image:
    """``picture`` at ``size`` = (H, W), by the published loading recipe."""
    if crop:
        width, height = picture.size
        side = int(CROP * float(min(width, height)))
        left, upper = (width - side) // 2, (height - side) // 2
        picture = picture.crop((left, upper, (width + side) // 2, (height + side) // 2))
    return picture.resize((size[1], size[0]), how)


def _metadata(file: File) -> dict[str, Any]:
    """What a shard keeps of a scene's JSON; not pixel coordinates, which a crop makes wrong."""
    scene = json.loads(file.read().decode(), parse_constant=_refuse_constant, object_pairs_hook=_unrepeated)
    if not isinstance(scene, dict):
        raise ValueError(f"it is of type {type(scene).__name__}, not a scene")
    stem = file.base[: -len(ENDINGS[2])]
    named = re.fullmatch(r"clevrtex_?([a-z]+)_?(\d{6})", stem, re.I)
    assert named, "files are found by their names"
    variant, number = named.groups()
    things = _of(scene, "objects", list)
    if not 1 <= len(things) <= MAX_OBJECTS:
        raise ValueError(f"it has {len(things)} objects, not 1 to {MAX_OBJECTS}")
    told = {"image_index": int(number), "num_objects": len(things)}
    for key, value in told.items():
        if _of(scene, key, int) != value:
            raise ValueError(f"its {key} is {scene[key]}, not {value}")
    if not re.fullmatch(spelling(variant.lower()), _of(scene, "split", str), re.I):
        raise ValueError(f"its split is {scene['split']}, not {variant}")
    if _of(scene, "image_filename", str).lower() != f"{stem}.png".lower():
        raise ValueError(f"its image_filename is {scene['image_filename']}")
    coloured = variant.lower() in _COLOURED
    return {
        "ground_material": _of(scene, "ground_material", str),
        "objects": [_thing(thing, label, coloured) for label, thing in enumerate(things, 1)],
    }


def _thing(thing: Any, label: int, coloured: bool) -> dict[str, Any]:
    """What is kept of the object ``label``."""
    if not isinstance(thing, dict):
        raise ValueError(f"object {label} is of type {type(thing).__name__}")
    if "index" in thing and _of(thing, "index", int) != label:
        raise ValueError(f"object {label} has index {thing['index']}")
    rotation = _of(thing, "rotation", int, float)
    if not -360 <= rotation <= 360:  # NaN is nowhere
        raise ValueError(f"object {label} has a rotation of {rotation} degrees")
    return {
        "shape": _of(thing, "shape", str),
        "size": _of(thing, "size", str),
        "material": _of(thing, "material", str),
        "color": _of(thing, "color", str) if coloured else None,
        "rotation": float(rotation),
    }


def _of(holder: dict[str, Any], key: str, *kinds: type) -> Any:
    """``holder[key]``, one of ``kinds``; a text is short and can be printed. Raises ValueError."""
    value = holder.get(key)
    if type(value) not in kinds:
        raise ValueError(f"its {key} is {'missing' if key not in holder else f'of type {type(value).__name__}'}")
    if isinstance(value, str) and not (0 < len(value) <= _LONGEST and value.isprintable()):
        raise ValueError(f"its {key} is no name")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"it has {name} for a number")


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is in it twice")
    return found
