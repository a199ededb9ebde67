"""The embedded data set: scenes of 2 to 5 shapes with occlusion and shadow, drawn in seconds from a seed.

The variant is the strength of texture, a number from 0 to 1: at 0, also called ``plain``, surfaces have flat colours
on a grey ground; at 1, ``textured``, objects and ground have textures at full contrast and are lit from the upper left;
between, every colour and all light is a mixture of the two in this ratio. The scenes are the same at all strengths. The
textures, shapes and flat colours of the split ``outd`` never occur elsewhere; in ``camo`` one surface covers the ground
and all objects of a scene, at the strength of the variant, in full light. ``plain`` also has ``camo_textured``, where
that surface has full texture. There may be any number of scenes to train on; those of the other splits stay the same.
"""

import re
from collections.abc import Iterator

from data.scenes import Scenes
from data.source import DataSource, FinalSplit, Found
from data.sources.synthetic import drawing, processes

SEED = 0
VERSION = 2
"""Raise it when any pixel changes: the shards of another version are not read."""

DEFAULT_STRENGTH = 1.0
"""Strength of texture where a spec names none."""

NAMED = {0.0: "plain", 1.0: "textured"}
"""Strengths that have a name."""


class Source(DataSource):
    """Five or six splits in one folder; all but train and val are scored by the final stage."""

    drawn = True
    version = VERSION
    variants = tuple(dict.fromkeys([NAMED.get(DEFAULT_STRENGTH, f"{DEFAULT_STRENGTH:g}"), "textured", "plain"]))
    curve_axis = "strength of texture"
    final_splits = tuple(FinalSplit(split, split) for split in ("test", "outd", "camo", "camo_textured"))

    def variant(self, text: str) -> str:
        """``plain``, ``textured`` or a strength between, to a thousandth, then ``-Nscenes`` where that is not usual.

        Raises ValueError.
        """
        return _written(*self._read(text))

    def with_scenes(self, variant: str, scenes: int) -> str:
        """The same strength with ``scenes`` scenes to train on. Raises ValueError."""
        strength, asked = self._read(variant)
        if scenes < 1:
            raise ValueError(f"{scenes} scenes to train on are too few; ask for 1 or more")
        if asked not in (scenes, drawing.COUNTS["train"]):
            raise ValueError(f"{self.name} is asked for {asked} and for {scenes} scenes to train on; keep one")
        return _written(strength, scenes)

    def max_objects(self, variant: str) -> int:
        """Five."""
        return drawing.MAX_OBJECTS

    def counts(self, variant: str) -> dict[str, int]:
        """What the variant asks for to train on, 400 for each of the other splits."""
        strength, scenes = self._read(variant)
        counts = drawing.COUNTS | {"train": scenes}
        return counts if strength == 0 else {split: counts[split] for split in counts if split != "camo_textured"}

    def curve(self, variant: str) -> tuple[FinalSplit, ...]:
        """The test split at strengths 0, 0.2, ... 1, and at its own: the same scenes."""
        own, _ = self._read(variant)
        usual = drawing.COUNTS["train"]
        return tuple(
            FinalSplit(f"{strength:g}", "test", None if strength == own else _written(strength, usual))
            for strength in sorted({0.0, 0.2, 0.4, 0.6, 0.8, 1.0, own})
        )

    def find(self, variant: str, root: str | None) -> Found:
        """The scenes, which are always there."""
        strength, _ = self._read(variant)
        counts = self.counts(variant)

        def scenes(split: str, crop: bool, size: tuple[int, int]) -> Iterator[Scenes]:
            return processes.batches(counts[split], size, SEED, split, strength)

        return Found(f"v{VERSION}", counts, scenes)

    def _read(self, variant: str) -> tuple[float, int]:
        """Strength of texture, and scenes to train on. Raises ValueError."""
        match = re.fullmatch(r"(.*?)(?:-(\d+)scenes)?", variant, re.DOTALL)
        assert match, variant
        named = {name: strength for strength, name in NAMED.items()}
        try:
            strength = named[match[1]] if match[1] in named else round(float(match[1]), 3)
        except ValueError:
            strength = float("nan")
        if not 0 <= strength <= 1:
            raise ValueError(
                f"variant {variant!r} is unknown; {self.name} has plain, textured, or a strength of texture from 0 to "
                "1, such as 0.4"
            )
        return strength, int(match[2] or drawing.COUNTS["train"])


def _written(strength: float, scenes: int) -> str:
    """The variant that :meth:`Source._read` reads."""
    usual = scenes == drawing.COUNTS["train"]
    return NAMED.get(strength, f"{strength:g}") + ("" if usual else f"-{scenes}scenes")
