"""Several data sets as one: ``concat(clevrtex:full,clevrtex:pbg)``."""

import dataclasses
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from data.source import DataSource, FinalSplit, Found

if TYPE_CHECKING:  # takes numpy
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from data.scenes import Scenes

NAME = "concat"
"""Stands before the parts in a spec; no data set has this name."""


class Concatenated(DataSource):
    """Each split is that of the first part, then that of the second, and so on.

    The final stage scores this test split, and what that of any part scores beside its own.
    """

    def __init__(self, parts: tuple[tuple[DataSource, str], ...]):
        self.parts = parts
        """Each data set with its variant."""
        self.variants = (",".join(f"{part.name}:{variant}" if variant else part.name for part, variant in parts),)
        self.drawn = all(part.drawn for part, _ in parts)
        self.takes_crop = all(part.takes_crop for part, _ in parts)
        others = (
            split if split.data else split._replace(data=part.name)
            for part, _ in parts
            for split in part.final_splits
            if split.variant
        )
        self.final_splits = (FinalSplit("test", "test"), *dict.fromkeys(others))

    @property
    def name(self) -> str:
        """``concat``."""
        return NAME

    def counts(self, variant: str) -> Mapping[str, int]:
        """The sums; empty where those of a part are not known."""
        each = [part.counts(variant) for part, variant in self.parts]
        return {split: sum(counts[split] for counts in each) for split in _shared(each)} if all(each) else {}

    def folder(self, variant: str) -> str:
        """Those of all parts."""
        return " and ".join(dict.fromkeys(part.folder(variant) for part, variant in self.parts if not part.drawn))

    def max_objects(self, variant: str) -> int:
        """The most of any part."""
        return max(part.max_objects(variant) for part, variant in self.parts)

    def fitted(self, picture: "Image.Image", crop: bool, size: tuple[int, int]) -> "NDArray[np.uint8]":
        """As the first part does it."""
        return self.parts[0][0].fitted(picture, crop, size)

    def find(self, variant: str, root: str | None) -> Found:
        """The splits that all parts have; a scene's number is its place in the split."""
        found = [part.find(variant, None if part.drawn else root) for part, variant in self.parts]
        counts = [dict(each.counts) for each in found]

        def scenes(split: str, crop: bool, size: tuple[int, int]) -> Iterator["Scenes"]:
            return _Numbered(itertools.chain.from_iterable(each.scenes(split, crop, size) for each in found), 0)

        def some(split: str, crop: bool, size: tuple[int, int], places: range) -> Iterator["Scenes"]:
            def parts() -> Iterator["Scenes"]:
                first = 0
                for each, count in zip(found, counts, strict=True):
                    inside = range(max(places.start - first, 0), min(places.stop - first, count[split]))
                    if inside and each.some:
                        yield from each.some(split, crop, size, inside)
                    first += count[split]

            return _Numbered(parts(), places.start)

        names = self.variants[0].split(",")
        short = [
            sum(each.values()) < sum(part.counts(own).values())
            for each, (part, own) in zip(counts, self.parts, strict=True)
        ]
        filters = {str(sorted(each.filters.items())): each.filters for each in found if each.filters}
        published = [each.state for each, (part, _) in zip(found, self.parts, strict=True) if not part.drawn]
        return Found(
            hashlib.sha256(" ".join(each.key for each in found).encode()).hexdigest()[:12],
            {split: sum(each[split] for each in counts) for split in _shared(counts)},
            scenes,
            next(iter(filters.values()), {}) if len(filters) < 2 else _named(names, found),
            [f"{name}: {warning}" for name, each in zip(names, found, strict=True) for warning in each.warnings],
            some=some if all(each.some for each in found) else None,
            state=[path for each in found for path in each.state] if all(published) else (),
            incomplete=any(short) or any(each.incomplete for each in found),
        )


class _Numbered(Iterator["Scenes"]):
    """The same scenes, numbered from ``first``; it goes on where ``batches`` do after an error."""

    def __init__(self, batches: Iterable["Scenes"], first: int):
        self._batches, self._first = iter(batches), first

    def __next__(self) -> "Scenes":
        import numpy as np  # late: specs are cheap to import

        batch = next(self._batches)
        numbers = np.arange(self._first, self._first + len(batch.index))
        self._first += len(batch.index)
        return dataclasses.replace(batch, index=numbers)


def _shared(counts: list[Mapping[str, int]] | list[dict[str, int]]) -> list[str]:
    """Splits that all have, in the order of the first."""
    return [split for split in counts[0] if all(split in each for each in counts)]


def _named(names: list[str], found: list[Found]) -> dict[str, str]:
    """Filters that differ between parts, each with the part's name."""
    both = list(zip(names, found, strict=True))
    keys = dict.fromkeys(key for each in found for key in each.filters)
    return {
        key: "; ".join(f"{name}: {each.filters[key]}" for name, each in both if key in each.filters) for key in keys
    }
