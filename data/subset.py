"""A part of a split to train on: the same scenes for every model and seed, and a smaller part lies in a larger one."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from data.shards import ShardIndex

_SEED = 0  # fixed: studies with other seeds are compared on the same images


def count(scenes: int, fraction: float | None) -> int:
    """How many of ``scenes`` are ``fraction`` of them, one at least; all if that is None."""
    return scenes if fraction is None else max(1, round(scenes * fraction))


def rows(index: ShardIndex, split: str, fraction: float) -> dict[str, NDArray[np.int64]]:
    """Rows of each shard of ``split``, (n,), in order, that are in the part; a shard without any is left out."""
    scenes = index.rows(split)
    chosen = np.sort(np.random.default_rng(_SEED).permutation(scenes)[: count(scenes, fraction)])
    first, found = 0, {}
    for shard in index.shards(split):
        inside = chosen[(chosen >= first) & (chosen < first + shard.rows)] - first
        if len(inside):
            found[shard.name] = inside
        first += shard.rows
    return found


def said(counts: Mapping[str, int], fraction: float | None) -> str:
    """What a study with ``counts`` of scenes per split trains on, for people; ``counts`` may be unknown, and empty."""
    if not counts:
        return "all images of the training split" if fraction is None else f"{fraction:.3g} of the training split"
    used = f"{count(counts['train'], fraction):,}"
    whole = "" if fraction is None else f" of {counts['train']:,} (--data-fraction {fraction:g})"
    return ", ".join([f"train {used}{whole}", *(f"{split} {n:,}" for split, n in counts.items() if split != "train")])
