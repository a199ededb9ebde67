"""What a study's final stage scores: the splits ``test``, ``outd`` and ``camo`` of one data set."""

from rich.console import Console

from data.clevrtex import MissingDataset
from data.convert import prepare
from data.shards import EVERYTHING, ShardIndex
from data.spec import DataSpec


def final_splits(
    spec: DataSpec,
    index: ShardIndex,
    *,
    root: str | None = None,
    cache: str | None = None,
    console: Console | None = None,
) -> tuple[dict[str, tuple[ShardIndex, str]], list[str]]:
    """Where each final split lies, as (index, its split there), and a notice for all that is not as usual.

    ``index`` has the shards of ``spec``, which was trained on. ClevrTex's ``outd`` is scored whole; ``camo``
    on its test split, or whole where images are lacking. A variant that is absent is left out; the one that
    was trained on is never scored but on its test split. Same root, crop and size throughout.
    """
    if spec.name == "synthetic":
        return {split: (index, split) for split in ("test", "outd", "camo")}, []
    found, notices = {}, []
    if index.counts.get("test"):
        found["test"] = (index, "test")
    else:
        notices.append(f"test is not scored: {spec} has too few images for a test split")
    for variant in ("outd", "camo"):
        if variant == spec.variant:
            if "test" in found:
                found[variant] = found["test"]
                notices.append(f"{variant} is the test split here, and nothing new to models trained on {variant}")
            continue
        try:
            other = prepare(spec.varied(variant), root=root, cache=cache, console=console)
        except MissingDataset as error:
            notices.append(f"{variant} is not scored: {error}")
            continue
        whole = variant == "outd" or other.incomplete
        found[variant] = (other, EVERYTHING if whole else "test")
        if variant == "camo" and whole:
            notices.append(f"camo is incomplete: all its {other.rows(EVERYTHING):,} images are scored")
    return found, notices
