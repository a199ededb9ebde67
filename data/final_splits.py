"""What a study's final stage scores: the splits test, OOD and CAMO, and those of its curve, where they are there."""

import contextlib
from collections.abc import Sequence

from rich.console import Console

from data import source
from data.convert import prepare
from data.shards import ShardIndex, Unwritable
from data.source import EVERYTHING, FinalSplit, MissingDataset
from data.spec import DataSpec

Splits = dict[str, tuple[ShardIndex, str]]
"""Name of a final split -> the index that has it, and its split there."""


def final_splits(
    spec: DataSpec,
    index: ShardIndex,
    *,
    root: str | None = None,
    cache: str | None = None,
    console: Console | None = None,
) -> tuple[Splits, list[str]]:
    """Where each final split lies, and notices about splits that are not as usual.

    ``index`` has the shards of ``spec``, which was trained on; the data set says where its final splits are. Another
    variant with fewer images than published is scored whole. A variant that is absent is left out; of the one that was
    trained on, only the test split is ever scored. Root, crop and size are the same for all.
    """
    return _find(spec.source.final_splits, False, spec, index, root, cache, console)


def curve_splits(
    spec: DataSpec,
    index: ShardIndex,
    *,
    root: str | None = None,
    cache: str | None = None,
    console: Console | None = None,
) -> tuple[Splits, list[str]]:
    """Where the splits of the data set's curve lie, in order, and notices, by the rules of :func:`final_splits`.

    Of a variant that is not in the cache yet, only the split in question is converted. Where the cache takes no more,
    it is left out: nothing depends on the curve.
    """
    return _find(spec.source.curve(spec.variant), True, spec, index, root, cache, console)


def _find(
    wanted: Sequence[FinalSplit],
    alone: bool,
    spec: DataSpec,
    index: ShardIndex,
    root: str | None,
    cache: str | None,
    console: Console | None,
) -> tuple[Splits, list[str]]:
    """Where each of ``wanted`` lies, and notices; ``alone``: a variant's other splits need not be converted."""
    found: Splits = {}
    notices = []
    trained = [(part.name, part.variant) for part in spec.parts]
    for name, split, variant, data in wanted:
        if variant is None:
            usual = spec.source.counts(spec.variant)
            if index.counts.get(split):
                found[name] = (index, split)
            elif split in (usual or index.counts):
                notices.append(f"{name} is not scored: {spec} has too few images for a {split} split")
            continue
        other = spec.of(source.load(data), variant) if data else spec.varied(variant)
        if other == spec:
            if index.counts.get("test"):
                found[name] = (index, "test")
                notices.append(f"{name} is the test split here, and nothing new to models trained on {variant}")
            continue
        seen = (other.name, other.variant) in trained
        only = split if alone and split != EVERYTHING else None
        try:
            place = _prepare(other, bool(data), root, cache, console, only)
        except (MissingDataset, Unwritable) as error:
            if isinstance(error, Unwritable) and not alone:
                raise
            notices.append(f"{name} is not scored: {error}")
            continue
        if seen:
            split = "test"
            notices.append(f"{name} is a test split of what was trained on, and nothing new to these models")
        if split != EVERYTHING and (seen or not place.incomplete) and not place.counts.get(split):
            notices.append(f"{name} is not scored: {place.spec} has too few images for a {split} split")
            continue
        whole = place.incomplete and not seen and split != EVERYTHING
        found[name] = (place, EVERYTHING if whole else split)
        if whole:
            notices.append(f"{name} is incomplete: all its {place.rows(EVERYTHING):,} images are scored")
    return found, notices


def _prepare(
    spec: DataSpec, elsewhere: bool, root: str | None, cache: str | None, console: Console | None, only: str | None
) -> ShardIndex:
    """Its shards; those of another data set may also lie in the cache alone: ``elsewhere``. Raises as ``prepare``."""
    try:
        return prepare(spec, root=root, cache=cache, console=console, only=only)
    except MissingDataset:
        if not (elsewhere and root):
            raise
        with contextlib.suppress(MissingDataset):
            return prepare(spec, cache=cache, console=console, only=only)
        raise
