"""How the embedded scenes are drawn, by numpy alone.

Every scene is a function of (seed, split, number), its variant and its size: its random numbers are a fixed stretch of
one PCG64 stream, so scenes may be drawn in chunks of any size, or alone, and come out byte for byte the same. Shapes
are signed distances and textures have edges of one pixel, which anti-aliases both without supersampling.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data.scenes import Scenes
from data.sources.synthetic import textures

COUNTS = {"train": 4000, "val": 400, "test": 400, "outd": 400, "camo": 400, "camo_textured": 400}
"""Scenes per split where nothing else is asked for. The two kinds of CAMO are the same scenes: the objects of ``camo``
look like the ground at the strength of the other splits, those of ``camo_textured`` at full strength."""
MAX_OBJECTS = 5
SIZES = {"small": 0.13, "medium": 0.165, "large": 0.2}
"""Radius of a shape, as a share of the image's shorter side; it varies by up to 4 %."""
MIN_VISIBLE = 12 / 32**2
"""Least visible area of an object in squares of the image's shorter side: 12 pixels at 32x32."""

_TRIES = 6  # places tried for an object before it is left out
_SCENE_NUMBERS = 1 + textures.NUMBERS
_OBJECT_NUMBERS = 4 + 2 * _TRIES + textures.NUMBERS
_SHADOW = np.array([0.30, 0.38], np.float32)  # offset right and down, in radii; light comes from the upper left
_REACH = 1.6  # half side of an object's patch, in radii: the shape and its shadow
_CHUNK_PIXELS = 2**16  # drawn at a time: large enough for numpy, small enough for the cache

Array = NDArray[np.floating[Any]]
Shape = Callable[[Array, Array], Array]


def _star(u: Array, v: Array) -> Array:
    """Five points at radius 1, five notches at 0.55."""
    fifth = 2 * np.pi / 5
    angle = np.abs((np.arctan2(v, u) + fifth / 2) % fifth - fifth / 2)
    radius = np.hypot(u, v)
    notch = 0.55 * np.exp(0.5j * fifth)
    normal = np.array([notch.imag, 1 - notch.real]) / abs(1 - notch)
    return (radius * np.cos(angle) - 1) * np.float32(normal[0]) + radius * np.sin(angle) * np.float32(normal[1])


SHAPES: dict[str, Shape] = {
    "disc": lambda u, v: np.hypot(u, v) - 1,
    "square": lambda u, v: np.maximum(abs(u), abs(v)) - 0.75,
    "hexagon": lambda u, v: np.maximum(abs(u), 0.5 * abs(u) + 0.866 * abs(v)) - 0.87,
    "capsule": lambda u, v: np.hypot(np.maximum(abs(u) - 0.5, 0), v) - 0.5,
}
"""(u, v), coordinates in radii -> signed distance to the outline, negative inside. Shapes reach to about radius 1."""

UNSEEN_SHAPES: dict[str, Shape] = {
    "triangle": lambda u, v: np.maximum(v, 0.866 * abs(u) - 0.5 * v) - 0.5,
    "star": _star,
    "ring": lambda u, v: abs(np.hypot(u, v) - 0.7) - 0.3,
    "cross": lambda u, v: np.minimum(
        np.maximum(abs(u) - 0.93, abs(v) - 0.36), np.maximum(abs(v) - 0.93, abs(u) - 0.36)
    ),
}
"""The shapes of ``outd``, in the same form."""


def batches(
    count: int,
    size: tuple[int, int],
    seed: int,
    split: str = "train",
    strength: float = 1.0,
    start: int = 0,
    siblings: bool = False,
) -> Iterator[Scenes]:
    """Scenes number ``start`` to ``start + count - 1`` of a split at ``size`` = (H, W) pixels, in order.

    ``strength`` says how much texture surfaces have, from 0 (flat colours on grey) to 1 (textures at full contrast);
    layouts and labels do not depend on it. With ``siblings`` all objects of a scene have one flat colour, else no two
    have the same. Scenes come in batches of a size that suits the processor's cache. Splits
    of one ``seed`` share no scene, but for the two kinds of CAMO. Raises ValueError for sizes below 16 pixels, where
    shapes vanish.
    """
    if min(size) < 16:
        raise ValueError(f"synthetic scenes of {size[0]}x{size[1]} pixels are too small; use 16x16 or more")
    assert split in COUNTS and 0 <= strength <= 1, (split, strength)
    if split == "camo_textured":
        split, strength = "camo", 1.0
    numbers = _SCENE_NUMBERS + MAX_OBJECTS * _OBJECT_NUMBERS
    bits = np.random.PCG64([seed, list(COUNTS).index(split)])
    random = np.random.Generator(bits.advance(start * numbers))
    step = batch_size(size)
    for first in range(0, count, step):
        drawn = random.random((min(step, count - first), numbers))  # one 64-bit draw per number: see ``advance``
        yield Scenes(np.arange(len(drawn)) + start + first, *_draw(drawn, size, split, strength, siblings))


def batch_size(size: tuple[int, int]) -> int:
    """Scenes of ``size`` = (H, W) pixels that are drawn at a time: their number does not change them."""
    return max(1, _CHUNK_PIXELS // (size[0] * size[1]))


class _Layout(NamedTuple):
    """The objects of n scenes, from back to front; N = MAX_OBJECTS."""

    present: NDArray[np.bool_]  # (n, N)
    clear: NDArray[np.bool_]  # (n, N), the two that do not touch each other
    shape: NDArray[np.int64]  # (n, N), index into the split's shapes
    size: NDArray[np.int64]  # (n, N), index into SIZES
    radius: Array  # (n, N), pixels
    centre: Array  # (n, N, 2), pixels, x and y
    rotation: Array  # (n, N), radians
    surface: NDArray[np.float64]  # (n, N, textures.NUMBERS), uniform numbers


def _draw(
    drawn: NDArray[np.float64], size: tuple[int, int], split: str, strength: float, siblings: bool
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], list[dict[str, Any]]]:
    """Images, labels and metadata of n scenes from their uniform numbers ``drawn``, (n, numbers)."""
    unseen, alike = split == "outd", split == "camo"
    # Where all surfaces are alike, light and shadow are what tells objects from the ground: they are never weaker.
    light = 1.0 if alike else strength
    shapes = UNSEEN_SHAPES if unseen else SHAPES
    layout = _place(drawn, size, len(shapes))
    radius = layout.radius[..., None, None]  # (n, N, 1, 1)

    reach = int(np.ceil(_REACH * 1.04 * max(SIZES.values()) * min(size)))
    corner = np.floor(layout.centre).astype(np.int64) - reach  # (n, N, 2)
    pixel = np.arange(2 * reach + 1, dtype=np.float32) + 0.5 - reach  # (P,)
    fraction = layout.centre % 1
    x = (pixel - fraction[..., 0, None])[..., None, :]  # (n, N, 1, P), pixels right of the centre
    y = (pixel - fraction[..., 1, None])[..., :, None]  # (n, N, P, 1), pixels below the centre
    distance = _distances(layout, x, y, shapes)  # (n, N, P, P)
    cover = np.clip(0.5 - distance, 0, 1)
    present = _visible(layout, cover > 0.5, corner, size)

    ground_numbers = drawn[:, 1:_SCENE_NUMBERS]
    object_numbers = np.repeat(ground_numbers[:, None], MAX_OBJECTS, axis=1) if alike else layout.surface
    flat = textures.plain_ground(object_numbers) if alike else textures.flat(object_numbers, unseen, siblings)
    ground = textures.Blend(textures.plain_ground(ground_numbers), textures.textured(ground_numbers, unseen), strength)
    surfaces = textures.Blend(flat, textures.textured(object_numbers, unseen), strength)
    cosine, sine = np.cos(layout.rotation)[..., None, None], np.sin(layout.rotation)[..., None, None]
    colours = surfaces.colours(x * cosine + y * sine, y * cosine - x * sine, min(size))  # (n, N, P, P, 3)
    dx, dy = _SHADOW[0] * radius, _SHADOW[1] * radius
    blur = _between(light, 0.4, 0.6) * radius
    shadow = np.clip(0.5 - _distances(layout, x - dx, y - dy, shapes) / blur, 0, 1)
    shadow *= _between(light, 0.2, 0.6)

    height, width = size
    across = np.arange(width, dtype=np.float32)[None, None, :] + 0.5  # (1, 1, W)
    down = np.arange(height, dtype=np.float32)[None, :, None] + 0.5  # (1, H, 1)
    backdrop = ground.colours(across, down, min(size))  # (n, H, W, 3)
    colours *= _between(light, 1, _cushion(x, y, distance, radius))[..., None]
    backdrop *= _between(light, 1, 1.06 - 0.16 * (across / width + down / height))[..., None]  # towards the light
    images = np.pad(backdrop, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
    for j in range(MAX_OBJECTS):
        scene = np.flatnonzero(present[:, j])
        where = _window(scene, corner[scene, j] + reach, len(pixel))
        under = images[where] * (1 - shadow[scene, j, :, :, None])
        images[where] = under + cover[scene, j, :, :, None] * (colours[scene, j] - under)
    images = images[:, reach : reach + height, reach : reach + width]
    metadata = [
        {
            "ground_material": str(ground.material[i]),
            "objects": [
                {
                    "shape": list(shapes)[layout.shape[i, j]],
                    "size": list(SIZES)[layout.size[i, j]],
                    "material": str(surfaces.material[i, j]),
                    "color": surfaces.color[i, j],
                    "rotation": float(np.degrees(layout.rotation[i, j])),
                }
                for j in np.flatnonzero(present[i])
            ],
        }
        for i in range(len(drawn))
    ]
    return (np.clip(images, 0, 1) * 255 + 0.5).astype(np.uint8), _labels(present, cover > 0.5, corner, size), metadata


def _place(drawn: NDArray[np.float64], size: tuple[int, int], shapes: int) -> _Layout:
    """Objects that may partly cover each other; the first two of a scene are kept apart."""
    n, side = len(drawn), min(size)
    numbers = drawn[:, _SCENE_NUMBERS:].reshape(n, MAX_OBJECTS, _OBJECT_NUMBERS)
    kind = (numbers[..., 1] * len(SIZES)).astype(np.int64)
    radius = np.array(list(SIZES.values()))[kind] * (0.96 + 0.08 * numbers[..., 2]) * side  # (n, N)
    extent = np.array([size[1], size[0]])
    tries = numbers[..., 4 : 4 + 2 * _TRIES].reshape(n, MAX_OBJECTS, _TRIES, 2)
    tries = radius[..., None, None] + tries * (extent - 2 * radius[..., None])[:, :, None]
    present = np.arange(MAX_OBJECTS) < 2 + (drawn[:, :1] * (MAX_OBJECTS - 1)).astype(np.int64)
    centre = tries[:, :, 0].copy()  # (n, N, 2)
    for j in range(1, MAX_OBJECTS):
        apart = np.linalg.norm(tries[:, j, :, None] - centre[:, None, :j], axis=-1)  # (n, tries, j)
        apart /= (radius[:, j, None] + radius[:, :j])[:, None]  # 1 where the circles around two objects touch
        nearest = np.where(present[:, None, :j], apart, np.inf).min(axis=-1)  # (n, tries)
        nearest[nearest < (1.1 if j == 1 else 0.5)] = np.inf
        best = nearest.argmin(axis=1) if j % 2 == 0 else np.isfinite(nearest).argmax(axis=1)  # even ones cover others
        centre[:, j] = tries[np.arange(n), j, best]
        free = np.isfinite(nearest[np.arange(n), best])  # (n,)
        if j == 1:  # else it goes to the corner farthest from the first object, where it fits
            corner = np.where(centre[:, 0] < extent / 2, extent - radius[:, 1, None], radius[:, 1, None])
            centre[:, 1] = np.where(free[:, None], centre[:, 1], corner)
        else:
            present[:, j] &= free
    order = np.argsort(centre[..., 1], axis=1)  # lower in the picture is nearer
    rows = np.arange(n)[:, None]
    return _Layout(
        present[rows, order],
        order < 2,
        (numbers[..., 0] * shapes).astype(np.int64)[rows, order],
        kind[rows, order],
        radius[rows, order].astype(np.float32),
        centre[rows, order].astype(np.float32),
        (numbers[..., 3] * 2 * np.pi)[rows, order].astype(np.float32),
        numbers[rows, order, 4 + 2 * _TRIES :],
    )


def _visible(
    layout: _Layout, inside: NDArray[np.bool_], corner: NDArray[np.int64], size: tuple[int, int]
) -> NDArray[np.bool_]:
    """Which objects stay, (n, N): those of which at least MIN_VISIBLE shows; without the others no less of them shows.

    Where fewer than two would stay, the two that do not touch each other are kept instead.
    """
    labels = _labels(layout.present, inside, corner, size)
    shown = np.stack([(labels == label).sum(axis=(1, 2)) for label in range(1, MAX_OBJECTS + 1)], axis=1)  # (n, N)
    enough = np.pad(shown >= MIN_VISIBLE * min(size) ** 2, ((0, 0), (1, 0)))
    stays = layout.present & np.take_along_axis(enough, np.cumsum(layout.present, axis=1), axis=1)
    return np.where(stays.sum(axis=1, keepdims=True) < 2, layout.clear, stays)


def _labels(
    present: NDArray[np.bool_], inside: NDArray[np.bool_], corner: NDArray[np.int64], size: tuple[int, int]
) -> NDArray[np.uint8]:
    """Label maps (n, H, W) of the ``present`` objects, (n, N), from back to front, as 1, 2, ...

    ``inside`` (n, N, P, P) marks an object's pixels in its patch, ``corner`` (n, N, 2) the patch's x and y.
    """
    patch = inside.shape[-1]
    maps = np.zeros((len(present), size[0] + 2 * patch, size[1] + 2 * patch), np.uint8)
    numbers = np.cumsum(present, axis=1).astype(np.uint8)
    for j in range(present.shape[1]):
        scene = np.flatnonzero(present[:, j])
        where = _window(scene, corner[scene, j] + patch, patch)
        maps[where] = np.where(inside[scene, j], numbers[scene, j, None, None], maps[where])
    return np.ascontiguousarray(maps[:, patch : patch + size[0], patch : patch + size[1]])


def _distances(layout: _Layout, x: Array, y: Array, shapes: dict[str, Shape]) -> Array:
    """Signed distance of every patch pixel to its object's outline in pixels, (n, N, P, P)."""
    radius = layout.radius[..., None, None]
    cosine, sine = (
        np.cos(layout.rotation)[..., None, None] / radius,
        np.sin(layout.rotation)[..., None, None] / radius,
    )
    u, v = x * cosine + y * sine, y * cosine - x * sine  # (n, N, P, P), radii
    distance = np.empty_like(u)
    for number, shape in enumerate(shapes.values()):
        chosen = layout.shape == number
        distance[chosen] = shape(u[chosen], v[chosen])
    return distance * radius


def _cushion(x: Array, y: Array, distance: Array, radius: Array) -> Array:
    """Brightness of a cushion lit from the upper left, (n, N, P, P)."""
    height = np.sqrt(np.clip(-2 * distance / radius, 0, 1))
    return (1 - 0.26 * (x + y) / radius) * (0.68 + 0.36 * height)


def _between(light: float, least: Array | float, most: Array | float) -> Any:
    """``least`` where ``light`` is 0, ``most`` where it is 1, both to the last bit, and a mixture between."""
    return np.float32(1 - light) * least + np.float32(light) * most


def _window(scene: NDArray[np.int64], corner: NDArray[np.int64], patch: int) -> tuple[NDArray[np.int64], ...]:
    """Index of one (patch, patch) square per scene, given its corner's x and y, (k, 2)."""
    span = np.arange(patch)
    return (
        scene[:, None, None],
        (corner[:, 1, None] + span)[:, :, None],
        (corner[:, 0, None] + span)[:, None, :],
    )
