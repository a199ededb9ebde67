"""What a study's final stage scores: the splits test, OOD and CAMO, as far as the data set has them."""

from rich.console import Console

from data.convert import prepare
from data.shards import ShardIndex
from data.source import EVERYTHING, MissingDataset
from data.spec import DataSpec


def final_splits(
    spec: DataSpec,
    index: ShardIndex,
    *,
    root: str | None = None,
    cache: str | None = None,
    console: Console | None = None,
) -> tuple[dict[str, tuple[ShardIndex, str]], list[str]]:
    """Where each final split lies, as (index, its split there), and notices about splits that are not as usual.

    ``index`` has the shards of ``spec``, which was trained on; the data set says where its final splits are. Another
    variant with fewer images than published is scored whole. A variant that is absent is left out; of the one that was
    trained on, only the test split is ever scored. Root, crop and size are the same for all.
    """
    found, notices = {}, []
    for name, split, variant in spec.source.final_splits:
        if variant is None:
            usual = spec.source.counts(spec.variant)
            if index.counts.get(split):
                found[name] = (index, split)
            elif not usual or split in usual:
                notices.append(f"{name} is not scored: {spec} has too few images for a {split} split")
        elif variant == spec.variant:
            if index.counts.get("test"):
                found[name] = (index, "test")
                notices.append(f"{name} is the test split here, and nothing new to models trained on {variant}")
        else:
            try:
                other = prepare(spec.varied(variant), root=root, cache=cache, console=console)
            except MissingDataset as error:
                notices.append(f"{name} is not scored: {error}")
                continue
            found[name] = (other, EVERYTHING if other.incomplete else split)
            if other.incomplete and split != EVERYTHING:
                notices.append(f"{name} is incomplete: all its {other.rows(EVERYTHING):,} images are scored")
    return found, notices
