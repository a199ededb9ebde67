"""Data spec strings: ``DATA[-Nscenes][-crop][-(H,W)]``, such as ``clevrtex:full-crop-(128,128)``.

``DATA`` is ``NAME[:VARIANT]``, or several of these as one: ``concat(NAME[:VARIANT],...)``.
"""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass

from data import concatenated, source
from data.concatenated import Concatenated
from data.source import DataSource

CROPS = ("crop", "crop_c", "c", "cc")
SIZES = {"tiny": (48, 64), "small": (96, 128), "medium": (144, 192), "large": (192, 256), "huge": (240, 320)}
"""Named sizes, (H, W) in pixels."""

_DASH = re.compile(r"(?:(?<!:)-|-(?![\d.]))(?![^()]*\))")
"""Between parts: no minus before a number that is a variant, and nothing in the brackets of several data sets."""


@dataclass(frozen=True)
class DataSpec:
    """One data set as a user asks for it."""

    name: str
    """One of :func:`data.source.names`, or ``concat``."""
    variant: str
    """In the data set's canonical form, with the number of scenes if one was asked for; empty where it has none. Of
    several data sets, all their names and variants."""
    crop: bool = False
    """Take the central square before resizing, by the data set's recipe."""
    size: tuple[int, int] | None = None
    """(H, W) in pixels; None leaves it to the preset."""

    @property
    def source(self) -> DataSource:
        """What the data set says about itself."""
        return _concatenated(self.variant) if self.name == concatenated.NAME else source.load(self.name)

    @property
    def parts(self) -> "tuple[DataSpec, ...]":
        """The data sets of which these are the scenes, one each, with the same crop and size."""
        if self.name != concatenated.NAME:
            return (self,)
        return tuple(self.of(*_named(part)) for part in self.variant.split(","))

    @property
    def max_objects(self) -> int:
        """Most objects that one of its scenes can have; the scenes at hand may have fewer."""
        return self.source.max_objects(self.variant)

    def __str__(self) -> str:
        parts = [f"{self.name}:{self.variant}" if self.variant else self.name]
        if self.name == concatenated.NAME:
            parts = [f"{self.name}({self.variant})"]
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
        return dataclasses.replace(self, variant=self.source.variant(variant))

    def of(self, data: DataSource, variant: str) -> "DataSpec":
        """``variant`` of another data set, at the same crop, where it takes one, and size."""
        return DataSpec(data.name, data.variant(variant), self.crop and data.takes_crop, self.size)

    def with_scenes(self, scenes: int) -> "DataSpec":
        """The same data with ``scenes`` scenes to train on. Raises ValueError where there is nothing to choose."""
        return dataclasses.replace(self, variant=self.source.with_scenes(self.variant, scenes))

    def official_counts(self) -> Mapping[str, int]:
        """Scenes per split as published, known without the files. Raises ValueError where they are not."""
        counts = self.source.counts(self.variant)
        if not counts:
            images = {variant: sum(self.source.counts(variant).values()) for variant in self.source.variants}
            largest = max(images, key=lambda variant: images[variant])
            remedy = f"{self.name}:{largest}, the largest" if images[largest] else "a data set of about its size"
            raise ValueError(
                f"--data {self}: how many images it has is not known here; give --data-root, or plan with {remedy}"
            )
        return counts


def parse(text: str) -> DataSpec:
    """The spec that ``DATA[-Nscenes][-crop][-(H,W)]`` means; case, blanks and repeated parts do not matter.

    Raises ValueError that names the part in question and lists the valid ones.
    """
    if "://" in text:
        raise ValueError(f"data set {text!r} is a place; --data names a data set, and --cache is where its shards lie")
    data, *flags = (part.strip() for part in _DASH.split(re.sub(r":\s+", ":", text.lower())))
    named: DataSource
    if joined := re.fullmatch(rf"{concatenated.NAME}\s*\((.*)\)", data):
        named = _concatenated(joined[1])
        variant = named.variants[0]
        if len(named.parts) == 1:
            ((named, variant),) = named.parts
    elif data.startswith(concatenated.NAME):
        raise ValueError(f"{text!r} is cut short; several data sets are {concatenated.NAME}(NAME:VARIANT,NAME:VARIANT)")
    else:
        named, variant = _named(data)
    crop, sizes = False, set()
    for flag in flags:
        pair = re.fullmatch(r"\(\s*(\d+)\s*,\s*(\d+)\s*\)", flag)
        scenes = re.fullmatch(r"(\d+)\s*scenes", flag)
        if pair:
            sizes.add((int(pair[1]), int(pair[2])))
        elif scenes:
            variant = named.with_scenes(variant, int(scenes[1]))
        elif flag in SIZES:
            sizes.add(SIZES[flag])
        elif flag in CROPS and named.takes_crop:
            crop = True
        else:
            crops = "crop, " if named.takes_crop else ""
            raise ValueError(
                f"part {flag!r} in {text!r} is unknown; {named.name} takes {crops}(H,W) such as (128,128), "
                f"or {', '.join(SIZES)}"
            )
    if len(sizes) > 1:
        raise ValueError(f"{text!r} asks for {len(sizes)} sizes; keep one")
    size = sizes.pop() if sizes else None
    if size and min(size) < 1:
        raise ValueError(f"size {size} in {text!r} must be above zero")
    return DataSpec(named.name, variant, crop, size)


def _named(text: str) -> tuple[DataSource, str]:
    """The data set and variant that ``NAME[:VARIANT]`` means. Raises ValueError."""
    name, colon, variant = (part.strip() for part in text.partition(":"))
    named = source.load(name)
    return named, named.variant(variant if colon else named.variants[0])


def _concatenated(text: str) -> Concatenated:
    """The data set that ``NAME[:VARIANT],...`` means. Raises ValueError."""
    parts = tuple(_named(part) for part in text.split(","))
    names = [(part.name, variant) for part, variant in parts]
    if twice := next((each for each in names if names.count(each) > 1), None):
        raise ValueError(f"{concatenated.NAME}({text}) has {':'.join(filter(None, twice))} twice; name each part once")
    return Concatenated(parts)


def is_drawn(text: str) -> bool:
    """Whether each machine draws the scenes of the spec ``text`` itself; not those of a data set unknown here."""
    try:
        return parse(text).source.drawn
    except ValueError:
        return False
