"""Procedural textures of the synthetic scenes: two colours mixed by a pattern, anti-aliased at one pixel."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

NUMBERS = 9
"""Uniform random numbers that one surface takes."""

Array = NDArray[np.floating[Any]]
Pattern = Callable[[Array, Array, Array], Array]


def _step(distance: Array, pixel: Array) -> Array:
    """0 left and 1 right of ``distance`` = 0, over one ``pixel``; all in cells."""
    return np.clip(distance / pixel + 0.5, 0, 1)


def _fold(p: Array) -> Array:
    """Triangle wave of period 1 in [-0.25, 0.25]: the distance to the nearest half cell's border, signed."""
    return abs(p - np.floor(p) - 0.5) - 0.25


def _hash(i: Array, j: Array) -> Array:
    """A number in [0, 1) per integer point, the same on every machine."""
    h = i.astype(np.int64).astype(np.uint32) * np.uint32(374761393) + j.astype(np.int64).astype(np.uint32) * np.uint32(
        668265263
    )
    h = (h ^ (h >> np.uint32(13))) * np.uint32(1274126177)
    return ((h ^ (h >> np.uint32(16))) >> np.uint32(8)).astype(np.float32) * np.float32(2**-24)


def _stripes(p: Array, q: Array, pixel: Array) -> Array:
    return _step(_fold(p), pixel)


def _checks(p: Array, q: Array, pixel: Array) -> Array:
    return 2 * (_step(_fold(p), pixel) - 0.5) * (_step(_fold(q), pixel) - 0.5) + 0.5


def _dots(p: Array, q: Array, pixel: Array) -> Array:
    return _step(0.31 - np.hypot(p - np.floor(p) - 0.5, q - np.floor(q) - 0.5), pixel)


def _bricks(p: Array, q: Array, pixel: Array) -> Array:
    course = np.floor(q)
    p = p / 2 + course / 2
    joint = np.maximum(2 * abs(p - np.floor(p) - 0.5) - 0.86, abs(q - course - 0.5) - 0.38)
    return _step(-joint, pixel) * (0.7 + 0.3 * _hash(np.floor(p), course))


def _noise(p: Array, q: Array, pixel: Array) -> Array:
    i, j = np.floor(p), np.floor(q)
    s, t = p - i, q - j
    s, t = s * s * (3 - 2 * s), t * t * (3 - 2 * t)
    upper = _hash(i, j) * (1 - s) + _hash(i + 1, j) * s
    lower = _hash(i, j + 1) * (1 - s) + _hash(i + 1, j + 1) * s
    return np.clip(1.6 * (upper * (1 - t) + lower * t) - 0.3, 0, 1)


def _gradient(p: Array, q: Array, pixel: Array) -> Array:
    return 0.5 + 0.5 * np.sin(1.3 * p)


def _zigzag(p: Array, q: Array, pixel: Array) -> Array:
    return _step(_fold(p + 1.6 * _fold(q)), 1.5 * pixel)


def _rings(p: Array, q: Array, pixel: Array) -> Array:
    i, j = p / 3 - np.floor(p / 3) - 0.5, q / 3 - np.floor(q / 3) - 0.5
    return _step(_fold(3 * np.hypot(i, j)), pixel)


def _grid(p: Array, q: Array, pixel: Array) -> Array:
    return _step(np.maximum(abs(p - np.floor(p) - 0.5), abs(q - np.floor(q) - 0.5)) - 0.36, pixel)


def _marble(p: Array, q: Array, pixel: Array) -> Array:
    return 0.5 + 0.5 * np.sin(3 * p + 2.4 * np.sin(1.4 * q + 1.2 * np.sin(1.1 * p)))


def _mosaic(p: Array, q: Array, pixel: Array) -> Array:
    return _hash(np.floor(p), np.floor(q))


TEXTURES: dict[str, Pattern] = {
    "stripes": _stripes,
    "checks": _checks,
    "dots": _dots,
    "bricks": _bricks,
    "noise": _noise,
    "gradient": _gradient,
}
"""(p, q, width of a pixel), all in cells -> share of the second colour."""

UNSEEN_TEXTURES: dict[str, Pattern] = {
    "zigzag": _zigzag,
    "rings": _rings,
    "grid": _grid,
    "marble": _marble,
    "mosaic": _mosaic,
}
"""The textures of ``outd``, in the same form."""

COLOURS = {
    "gray": (87, 87, 87),
    "red": (173, 35, 35),
    "blue": (42, 75, 215),
    "green": (29, 105, 20),
    "brown": (129, 74, 25),
    "purple": (129, 38, 192),
    "cyan": (41, 208, 208),
    "yellow": (255, 238, 51),
}
"""The flat colours of ``plain``: CLEVR's eight (Johnson et al. 2017), RGB."""

UNSEEN_COLOURS = {
    "orange": (245, 130, 30),
    "pink": (250, 140, 190),
    "navy": (15, 20, 90),
    "lime": (140, 225, 60),
    "white": (250, 250, 250),
    "black": (15, 15, 15),
}
"""The flat colours of ``outd`` under ``plain``, RGB."""


class Surfaces(NamedTuple):
    """How n surfaces look; the leading axes (...) are those of the random numbers."""

    patterns: list[Pattern]
    pattern: NDArray[np.int64]  # (...), index into ``patterns``
    pair: Array  # (..., 2, 3), the two colours mixed, RGB in [0, 1]
    angle: Array  # (...), radians
    cells: Array  # (...), pattern cells along the image's shorter side
    phase: Array  # (..., 2), cells
    material: NDArray[np.str_]  # (...)
    color: NDArray[np.object_]  # (...), name of a flat colour or None

    def colours(self, x: Array, y: Array, side: int) -> Array:
        """RGB at pixel coordinates ``x`` and ``y``, (..., P, Q, 3); ``side``: the image's shorter side."""
        cosine, sine = np.cos(self.angle)[..., None, None], np.sin(self.angle)[..., None, None]
        scale = (self.cells / side)[..., None, None]
        p = (x * cosine + y * sine) * scale + self.phase[..., 0, None, None]  # (..., P, Q)
        q = (y * cosine - x * sine) * scale + self.phase[..., 1, None, None]
        mix = np.zeros_like(p)
        for number, pattern in enumerate(self.patterns):
            chosen = self.pattern == number
            mix[chosen] = pattern(p[chosen], q[chosen], scale[chosen])
        first, second = self.pair[..., None, None, 0, :], self.pair[..., None, None, 1, :]
        return first + mix[..., None] * (second - first)


class Blend(NamedTuple):
    """Surfaces between flat colours and textures: their colours and their contrast are those of a mixture."""

    flat: Surfaces
    textured: Surfaces
    strength: float
    """share of the textured ones, 0 to 1"""

    @property
    def material(self) -> NDArray[np.str_]:
        """Name of the texture; of flat surfaces ``plain``."""
        return self.textured.material if self.strength else self.flat.material

    @property
    def color(self) -> NDArray[np.object_]:
        """Name of the flat colour; None where it does not show."""
        return self.flat.color if self.strength < 1 else self.textured.color

    def colours(self, x: Array, y: Array, side: int) -> Array:
        """RGB at pixel coordinates, as :meth:`Surfaces.colours`; at strength 0 and 1 exactly those of one kind."""
        if self.strength in (0, 1):
            return (self.textured if self.strength else self.flat).colours(x, y, side)
        share = np.float32(self.strength)
        return (1 - share) * self.flat.colours(x, y, side) + share * self.textured.colours(x, y, side)


def textured(numbers: NDArray[np.float64], unseen: bool) -> Surfaces:
    """Surfaces in two random colours from uniform ``numbers``, (..., NUMBERS)."""
    textures = UNSEEN_TEXTURES if unseen else TEXTURES
    pattern = (numbers[..., 0] * len(textures)).astype(np.int64)
    hue, saturation, value = numbers[..., 1], 0.25 + 0.6 * numbers[..., 2], 0.6 + 0.38 * numbers[..., 3]
    other = hue + 0.08 + 0.5 * (numbers[..., 4] - 0.5)
    darker = np.stack([other, 0.9 * saturation, value * (0.35 + 0.3 * numbers[..., 5])], -1)
    return Surfaces(
        list(textures.values()),
        pattern,
        _rgb(np.stack([np.stack([hue, saturation, value], -1), darker], -2)),
        (numbers[..., 6] * np.pi).astype(np.float32),
        (7 + 5 * numbers[..., 7]).astype(np.float32),
        (32 + numbers[..., [8, 4]] * 7).astype(np.float32),
        np.array(list(textures))[pattern],
        np.full(pattern.shape, None),
    )


def flat(numbers: NDArray[np.float64], unseen: bool, siblings: bool) -> Surfaces:
    """Surfaces of one colour each from uniform ``numbers``, (n, N, NUMBERS): all alike in a scene, or no two."""
    colours = UNSEEN_COLOURS if unseen else COLOURS
    chosen = numbers[:, 0, : len(colours)].argsort(axis=-1)[:, : numbers.shape[1]]  # (n, N)
    if siblings:
        chosen = np.repeat(chosen[:, :1], chosen.shape[1], axis=1)
    rgb = np.array(list(colours.values()), np.float32)[chosen] / 255
    return _even(rgb, np.array(list(colours), object)[chosen])


def plain_ground(numbers: NDArray[np.float64]) -> Surfaces:
    """Light grey grounds from uniform ``numbers``, (..., NUMBERS)."""
    grey = (0.66 + 0.1 * numbers[..., :1]).astype(np.float32)
    return _even(np.repeat(grey, 3, -1), np.full(grey.shape[:-1], None))


def _even(rgb: Array, color: NDArray[np.object_]) -> Surfaces:
    """Surfaces without a pattern of colours ``rgb``, (..., 3), and their names ``color``, (...)."""
    nothing = np.zeros(color.shape, np.float32)
    return Surfaces(
        [],
        nothing.astype(np.int64),
        np.repeat(rgb[..., None, :], 2, -2),
        nothing,
        nothing,
        np.repeat(nothing[..., None], 2, -1),
        np.full(color.shape, "plain"),
        color,
    )


def _rgb(hsv: NDArray[np.float64]) -> Array:
    """Colours (..., 3) from hue (any real number), saturation and value."""
    hue, saturation, value = np.moveaxis(hsv, -1, 0)
    sextant = (np.array([5, 3, 1]) + hue[..., None] % 1 * 6) % 6  # (..., 3)
    chroma = np.clip(np.minimum(sextant, 4 - sextant), 0, 1)
    return (value[..., None] * (1 - saturation[..., None] * chroma)).astype(np.float32)
