"""Shards in the Ray object store: loaded once per study, seen by all trials of a node as one copy."""

import time
from collections.abc import Sequence
from typing import Any

import ray
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from data.loader import Split
from data.shards import Shard, ShardIndex

USABLE = 0.8
"""Share of a node's object store above which Ray moves objects to disk (its object_spilling_threshold)."""

_AT_ONCE = 4  # loading tasks per node; they ask for no CPU, since trials may hold all when a lost shard is loaded again
_REPORTED = 0.2  # seconds; raylets report every 0.1 s what they hold


def _read(index: ShardIndex, shard: Shard) -> tuple[Any, None]:
    """A shard as a table, and None: a second result, which one can wait for without fetching the table."""
    return index.read(shard), None


def load(index: ShardIndex, splits: Sequence[str], *, console: Console | None = None) -> dict[str, list[ray.ObjectRef]]:
    """One reference per shard of each of ``splits``, to tables that the caller owns; ``console`` shows a bar.

    Tasks on all nodes load the shards, each node its share. The node of a trial copies the shards that it lacks from
    other nodes, and after the loss of a node Ray runs its tasks again. Pass the references to a task in a list or dict:
    bare ones it would get as tables. Raises ValueError for a missing or damaged shard, and where the shards would not
    fit into a node's object store beside what Ray holds already.
    """
    shards = {shard.name: shard for split in splits for shard in index.shards(split)}
    needed = sum(shard.bytes for shard in shards.values())
    _check_room(index.spec, needed)
    index.verify(deep=False)
    # Retries without a limit: loading a shard again after the loss of a node counts as one.
    read: Any = ray.remote(num_cpus=0, num_returns=2, max_retries=-1, scheduling_strategy="SPREAD")(_read)
    at_once = _AT_ONCE * sum(node["Alive"] for node in ray.nodes())
    tables: dict[str, ray.ObjectRef] = {}
    loading: list[tuple[ray.ObjectRef, int]] = []
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    hidden = console is None or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
        bar = progress.add_task(f"loading {index.spec}", total=needed)

        def wait() -> None:
            finished, size = loading.pop(0)
            result_of(finished)
            progress.advance(bar, size)

        for name, shard in shards.items():
            if len(loading) == at_once:
                wait()
            tables[name], finished = read.remote(index, shard)
            loading.append((finished, shard.bytes))
        while loading:
            wait()
    return {split: [tables[shard.name] for shard in index.shards(split)] for split in splits}


def _check_room(spec: str, needed: int) -> None:
    """Raise ValueError unless every node has room for ``needed`` bytes and a copy of all that Ray holds.

    Trials may run on any node, and each node where they do gets its own copy: the smallest store is the bound.
    """
    time.sleep(_REPORTED)
    total, free = (
        each.get("object_store_memory", 0.0) for each in (ray.cluster_resources(), ray.available_resources())
    )
    held = total - free
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    readers = [resources for resources in alive if resources.get("CPU")] or alive  # a head may hold the driver only
    usable = USABLE * min(resources.get("object_store_memory", 0.0) for resources in readers)
    if held + needed > usable:
        large = int((held + needed) / USABLE * 1.05)
        raise ValueError(
            f"{spec} takes {needed / 2**20:.0f} MiB of each node's Ray object store, where {held / 2**20:.0f} of "
            f"{usable / 2**20:.0f} usable MiB are taken; use smaller images, or start Ray with "
            f"`ray start --head --object-store-memory {large}` and add --address auto"
        )


def result_of(ref: ray.ObjectRef) -> Any:
    """The result of a task, once it is there. Raises the task's own ValueError, without Ray's traceback."""
    try:
        return ray.get(ref)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ValueError):
            raise error.cause from None
        raise


def open_split(refs: Sequence[ray.ObjectRef]) -> Split:
    """The split whose shards are ``refs``, as views of shared memory."""
    return Split(ray.get(list(refs)))
