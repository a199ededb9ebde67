"""Data spec strings: ``clevrtex:full-crop-(128,128)``, ``synthetic:plain-(32,32)`` and friends."""

import dataclasses
import re
from dataclasses import dataclass

VARIANTS = {
    "synthetic": ("textured", "plain"),
    "clevrtex": ("full", "pbg", "vbg", "grassbg", "camo", "outd", "clevr"),
}
"""Data sets and their variants, the default first. ``clevr`` has CLEVR's looks in ClevrTex's layout."""

MAX_OBJECTS = {"synthetic": 5, "clevrtex": 10}
"""Most objects that a scene of a data set can have."""

CROPS = ("crop", "crop_c", "c", "cc")
SIZES = {"tiny": (48, 64), "small": (96, 128), "medium": (144, 192), "large": (192, 256), "huge": (240, 320)}
"""Named sizes, (H, W) in pixels."""


@dataclass(frozen=True)
class DataSpec:
    """One data set as a user asks for it."""

    name: str
    """``synthetic`` or ``clevrtex``."""
    variant: str
    """One of ``VARIANTS[name]``."""
    crop: bool = False
    """Take the central square of 0.8 times the shorter side before resizing, as the benchmark does."""
    size: tuple[int, int] | None = None
    """(H, W) in pixels; None leaves it to the preset."""

    @property
    def max_objects(self) -> int:
        """Most objects that one of its scenes can have; the scenes at hand may have fewer."""
        return MAX_OBJECTS[self.name]

    def __str__(self) -> str:
        parts = [f"{self.name}:{self.variant}"]
        if self.crop:
            parts.append("crop")
        if self.size:
            parts.append(f"({self.size[0]},{self.size[1]})")
        return "-".join(parts)

    def sized(self, size: tuple[int, int]) -> "DataSpec":
        """The same data at ``size`` = (H, W) pixels."""
        return dataclasses.replace(self, size=size)

    def varied(self, variant: str) -> "DataSpec":
        """Another variant of the same data set, crop and size."""
        assert variant in VARIANTS[self.name], variant
        return dataclasses.replace(self, variant=variant)


def parse(text: str) -> DataSpec:
    """The spec that ``NAME[:VARIANT][-crop][-(H,W)]`` means; case, blanks and repeated parts do not matter.

    Raises ValueError that names the part in question and lists the valid ones.
    """
    if "://" in text:
        raise ValueError(f"data set {text!r} is a place; --data names a data set, and --cache is where its shards lie")
    data, *flags = (part.strip() for part in text.lower().split("-"))
    name, colon, variant = (part.strip() for part in data.partition(":"))
    if name not in VARIANTS:
        raise ValueError(f"data set {name!r} in {text!r} is unknown; valid are {', '.join(VARIANTS)}")
    variants = VARIANTS[name]
    if colon and variant not in variants:
        raise ValueError(f"variant {variant!r} in {text!r} is unknown; {name} has {', '.join(variants)}")
    crop, sizes = False, set()
    for flag in flags:
        pair = re.fullmatch(r"\(\s*(\d+)\s*,\s*(\d+)\s*\)", flag)
        if pair:
            sizes.add((int(pair[1]), int(pair[2])))
        elif flag in SIZES:
            sizes.add(SIZES[flag])
        elif flag in CROPS and name == "clevrtex":
            crop = True
        else:
            crops = "crop, " if name == "clevrtex" else ""
            raise ValueError(
                f"part {flag!r} in {text!r} is unknown; {name} takes {crops}(H,W) such as (128,128), "
                f"or {', '.join(SIZES)}"
            )
    if len(sizes) > 1:
        raise ValueError(f"{text!r} asks for {len(sizes)} sizes; keep one")
    size = sizes.pop() if sizes else None
    if size and min(size) < 1:
        raise ValueError(f"size {size} in {text!r} must be above zero")
    return DataSpec(name, variant or variants[0], crop, size)
