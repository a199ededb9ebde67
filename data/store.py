"""Shards in the Ray object store: loaded once per study, seen by all trials of a node as one copy."""

from collections.abc import Sequence
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from data.loader import Split
from data.shards import Shard, ShardIndex

_AT_ONCE = 4  # loading tasks; they ask for no CPU, as a lost shard is rebuilt while trials hold all of them


def _read(index: ShardIndex, shard: Shard) -> tuple[Any, None]:
    """A shard as a table, and nothing: a small second result to wait for."""
    return index.read(shard), None


def load(index: ShardIndex, splits: Sequence[str]) -> dict[str, list[ray.ObjectRef]]:
    """One reference per shard of each of ``splits``, to tables that the caller owns.

    Tasks make them, so that Ray can make them again after a node is lost. Pass the references on in a list or
    dict, not bare: a task then gets them as they are. Raises ValueError for a missing or damaged shard, and
    where the shards exceed the object store.
    """
    shards = {shard.name: shard for split in splits for shard in index.shards(split)}
    needed = sum(shard.bytes for shard in shards.values())
    available = ray.cluster_resources().get("object_store_memory", 0)
    if needed > available:
        raise ValueError(
            f"{index.spec} takes {needed / 2**20:.0f} MiB of the Ray object store, which has "
            f"{available / 2**20:.0f} MiB; start Ray with a larger object_store_memory or use smaller images"
        )
    index.verify(deep=False)
    read: Any = ray.remote(num_cpus=0, num_returns=2)(_read)
    if "://" not in index.folder:  # other nodes may lack this disk
        here = ray.get_runtime_context().get_node_id()
        read = read.options(scheduling_strategy=NodeAffinitySchedulingStrategy(here, soft=True))
    tables: dict[str, ray.ObjectRef] = {}
    done: list[ray.ObjectRef] = []
    for name, shard in shards.items():
        if len(done) >= _AT_ONCE:
            _wait(done[-_AT_ONCE])
        tables[name], finished = read.remote(index, shard)
        done.append(finished)
    for finished in done:
        _wait(finished)
    return {split: [tables[shard.name] for shard in index.shards(split)] for split in splits}


def _wait(finished: ray.ObjectRef) -> None:
    """Waits for a loading task. Raises its ValueError without Ray's traceback."""
    try:
        ray.get(finished)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ValueError):
            raise error.cause from None
        raise


def open_split(refs: Sequence[ray.ObjectRef]) -> Split:
    """The split whose shards are ``refs``, as views of shared memory."""
    return Split(ray.get(list(refs)))
