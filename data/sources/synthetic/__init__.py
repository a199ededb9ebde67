"""The embedded data set: scenes of 2 to 5 textured shapes with occlusion and shadow, drawn in seconds from a seed.

The variant ``textured`` has textured objects on a textured ground, lit from the upper left; ``plain`` has flat colours
on grey. The textures, shapes and flat colours of the split ``outd`` never occur elsewhere; ``camo`` covers ground and
objects of a scene with one texture, under ``plain`` too.
"""

from collections.abc import Iterator

from data.scenes import Scenes
from data.source import DataSource, FinalSplit, Found
from data.sources.synthetic import drawing

SEED = 0
VERSION = 1
"""Raise it when any pixel changes: the shards of another version are not read."""


class Source(DataSource):
    """Five splits in one folder, ``outd`` and ``camo`` among them."""

    drawn = True
    variants = drawing.VARIANTS
    final_splits = tuple(FinalSplit(split, split) for split in ("test", "outd", "camo"))

    def max_objects(self, variant: str) -> int:
        """Five."""
        return drawing.MAX_OBJECTS

    def counts(self, variant: str) -> dict[str, int]:
        """4,000 for train, 400 for each of the others."""
        return drawing.COUNTS

    def find(self, variant: str, root: str | None) -> Found:
        """The scenes, which are always there."""

        def scenes(split: str, crop: bool, size: tuple[int, int]) -> Iterator[Scenes]:
            return drawing.batches(drawing.COUNTS[split], size, SEED, split, variant)

        return Found(f"v{VERSION}", drawing.COUNTS, scenes)
