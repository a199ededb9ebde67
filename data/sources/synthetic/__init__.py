"""The embedded data set: scenes of 2 to 5 shapes with occlusion and shadow, drawn in seconds from a seed.

The variant is the strength of texture, a number from 0 to 1: at 0, also called ``plain``, surfaces have flat colours
on a grey ground; at 1, ``textured``, objects and ground have textures at full contrast and are lit from the upper left;
between, every colour and all light is a mixture of the two in this ratio. The scenes are the same at all strengths. The
textures, shapes and flat colours of the split ``outd`` never occur elsewhere; in ``camo`` one surface covers the ground
and all objects of a scene, at the strength of the variant, and in ``camo_textured`` at full strength.
"""

from collections.abc import Iterator

from data.scenes import Scenes
from data.source import DataSource, FinalSplit, Found
from data.sources.synthetic import drawing

SEED = 0
VERSION = 2
"""Raise it when any pixel changes: the shards of another version are not read."""

NAMED = {0.0: "plain", 1.0: "textured"}
"""Strengths that have a name."""


class Source(DataSource):
    """Six splits in one folder, three of them out of the ordinary."""

    drawn = True
    variants = ("textured", "plain")
    final_splits = tuple(FinalSplit(split, split) for split in ("test", "outd", "camo"))

    def variant(self, text: str) -> str:
        """``plain``, ``textured``, or a strength between with no more digits than it needs. Raises ValueError."""
        if text in NAMED.values():
            return text
        try:
            strength = float(text)
        except ValueError:
            strength = float("nan")
        if not 0 <= strength <= 1:
            raise ValueError(
                f"variant {text!r} is unknown; {self.name} has plain, textured, or a strength of texture from 0 to 1, "
                "such as 0.4"
            )
        return NAMED.get(strength, f"{strength:g}")

    def max_objects(self, variant: str) -> int:
        """Five."""
        return drawing.MAX_OBJECTS

    def counts(self, variant: str) -> dict[str, int]:
        """4,000 for train, 400 for each of the others."""
        return drawing.COUNTS

    def find(self, variant: str, root: str | None) -> Found:
        """The scenes, which are always there."""
        strength = {name: strength for strength, name in NAMED.items()}.get(variant)
        if strength is None:
            strength = float(variant)

        def scenes(split: str, crop: bool, size: tuple[int, int]) -> Iterator[Scenes]:
            return drawing.batches(drawing.COUNTS[split], size, SEED, split, strength)

        return Found(f"v{VERSION}", drawing.COUNTS, scenes)
