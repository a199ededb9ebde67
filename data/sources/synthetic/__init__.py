"""The embedded data set: scenes of 2 to 5 shapes with occlusion and shadow, drawn in seconds from a seed.

The variant is the strength of texture, a number from 0 to 1: at 0, also called ``plain``, surfaces have flat colours
on a grey ground; at 1, ``textured``, objects and ground have textures at full contrast and are lit from the upper left;
between, every colour and all light is a mixture of the two in this ratio. The scenes are the same at all strengths.
With ``+siblings`` all objects of a scene share one flat colour, else no two do: among siblings, colour does not tell
objects apart. The textures, shapes and flat colours of the split ``outd`` never occur elsewhere; in ``camo`` one
surface covers the ground and all objects of a scene, at the strength of the variant, in full light. ``plain`` also has
``camo_textured``, where that surface has full texture. There may be any number of scenes to train on; those of the
other splits stay the same.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple, Self

from data.scenes import Scenes
from data.source import DataSource, FinalSplit, Found
from data.sources.synthetic import drawing, processes

SEED = 0
VERSION = 2
"""Raise it when any pixel changes: the shards of another version are not read."""

SIBLINGS = "siblings"
"""What a variant says, after a plus sign, of scenes whose objects share a colour."""

DEFAULT = "0.2+siblings"
"""The variant of a spec that names none: chosen so that small models find objects where untrained ones do not
(docs/models.md)."""

NAMED = {0.0: "plain", 1.0: "textured"}
"""Strengths that have a name."""


class Source(DataSource):
    """Five or six splits in one folder; all but train and val are scored by the final stage."""

    drawn = True
    version = VERSION
    variants = (DEFAULT, "textured", "plain")
    curve_axis = "strength of texture"
    final_splits = tuple(FinalSplit(split, split) for split in ("test", "outd", "camo", "camo_textured"))

    def variant(self, text: str) -> str:
        """``plain``, ``textured`` or a strength between, to a thousandth; ``+siblings``; ``-Nscenes`` if not as usual.

        Raises ValueError.
        """
        return str(_Drawn.read(text))

    def with_scenes(self, variant: str, scenes: int) -> str:
        """The same strength with ``scenes`` scenes to train on. Raises ValueError."""
        drawn = _Drawn.read(variant)
        if scenes < 1:
            raise ValueError(f"{scenes} scenes to train on are too few; ask for 1 or more")
        if drawn.scenes not in (scenes, drawing.COUNTS["train"]):
            raise ValueError(f"{self.name} is asked for {drawn.scenes} and for {scenes} scenes to train on; keep one")
        return str(drawn._replace(scenes=scenes))

    def max_objects(self, variant: str) -> int:
        """Five."""
        return drawing.MAX_OBJECTS

    def counts(self, variant: str) -> dict[str, int]:
        """What the variant asks for to train on, 400 for each of the other splits."""
        drawn = _Drawn.read(variant)
        counts = drawing.COUNTS | {"train": drawn.scenes}
        return counts if drawn.strength == 0 else {split: counts[split] for split in counts if split != "camo_textured"}

    def curve(self, variant: str) -> tuple[FinalSplit, ...]:
        """The test split at strengths 0, 0.2, ... 1, and at its own: the same scenes."""
        own = _Drawn.read(variant)
        usual = own._replace(scenes=drawing.COUNTS["train"])
        return tuple(
            FinalSplit(f"{strength:g}", "test", None if strength == own.strength else str(usual.at(strength)))
            for strength in sorted({0.0, 0.2, 0.4, 0.6, 0.8, 1.0, own.strength})
        )

    def find(self, variant: str, root: str | None) -> Found:
        """The scenes, which are always there."""
        drawn = _Drawn.read(variant)
        counts = self.counts(variant)

        def scenes(split: str, crop: bool, size: tuple[int, int]) -> Iterator[Scenes]:
            return processes.batches(counts[split], size, SEED, split, drawn.strength, drawn.siblings)

        return Found(f"v{VERSION}", counts, scenes)


class _Drawn(NamedTuple):
    """What a variant says."""

    strength: float
    siblings: bool
    scenes: int
    """to train on"""

    @classmethod
    def read(cls, variant: str) -> Self:
        """Raises ValueError."""
        match = re.fullmatch(rf"(.*?)(\+{SIBLINGS})?(?:-(\d+)scenes)?", variant, re.DOTALL)
        assert match, variant
        named = {name: strength for strength, name in NAMED.items()}
        try:
            strength = named[match[1]] if match[1] in named else round(float(match[1]), 3)
        except ValueError:
            strength = float("nan")
        if not 0 <= strength <= 1:
            raise ValueError(
                f"variant {variant!r} is unknown; synthetic has plain, textured, or a strength of texture from 0 to "
                f"1, such as 0.4, and +{SIBLINGS} behind it"
            )
        return cls(0.0, bool(match[2]), int(match[3] or drawing.COUNTS["train"])).at(strength)

    def at(self, strength: float) -> Self:
        """The same scenes at another strength; at full strength no flat colour shows, and siblings are like others."""
        return self._replace(strength=strength, siblings=self.siblings and strength < 1)

    def __str__(self) -> str:
        """The variant that :meth:`read` reads, in its canonical form."""
        usual = self.scenes == drawing.COUNTS["train"]
        style = f"+{SIBLINGS}" if self.siblings else ""
        return NAMED.get(self.strength, f"{self.strength:g}") + style + ("" if usual else f"-{self.scenes}scenes")
