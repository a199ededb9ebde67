"""Shards in the Ray object store: loaded once per study, seen by all trials of a node as one copy.

Where they do not fit, trials map the files instead: one copy per node as well, of which memory holds what it can.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from data import memory_monitor, subset
from data.loader import Split
from data.machine import free_memory
from data.reading import MappedShard, into_memory, to_be_mapped
from data.shards import ShardIndex

USABLE = 0.8
"""Share of a node's object store above which Ray moves objects to disk (its object_spilling_threshold); no more than
this share of a node's free memory is taken either."""

BESIDE = 0.5
"""What a study puts into the store beside a split, at most, as a share of it: in its final stage label maps of k-means,
a byte for each pixel's four, and scores."""

_AT_ONCE = 4  # loading tasks per node; they ask for no CPU, since trials may hold all when a lost shard is loaded again
_REPORTED = 0.2  # seconds; raylets report every 0.1 s what they hold
_PATIENCE = 30.0  # seconds that a node has to say how much memory is free
_SHORT = (5.0, 10.0, 20.0, 30.0)  # seconds between two looks at nodes that are short of memory, before giving up


def load(
    index: ShardIndex, splits: Sequence[str], *, fraction: float | None = None, console: Console | None = None
) -> dict[str, list[ray.ObjectRef]]:
    """One reference per shard of each of ``splits``, to tables that the caller owns; ``console`` shows a bar.

    Of the first of ``splits`` only ``fraction`` is loaded, see :mod:`data.subset`; it shares no shard with the others.

    Tasks on all nodes load the shards, each node its share. The node of a trial copies the shards that it lacks from
    other nodes, and after the loss of a node Ray runs its tasks again. Pass the references to a task in a list or dict:
    bare ones it would get as tables. Where the shards would not fit into a node's object store beside what Ray holds
    already, or into its free memory, the references are to files that :func:`open_split` maps, and ``console`` gets a
    line. Raises ValueError for a missing or damaged shard, and where a node is short of memory for a minute: there Ray
    would end each loading task and begin it again, for ever.
    """
    shards = {shard.name: shard for split in splits for shard in index.shards(split)}
    some = {} if fraction is None else subset.rows(index, splits[0], fraction)
    if fraction is not None:
        for shard in index.shards(splits[0]):
            if shard.name not in some:
                del shards[shard.name]
    sizes = {name: shard.bytes * len(some.get(name, range(shard.rows))) // shard.rows for name, shard in shards.items()}
    needed = sum(sizes.values())
    _wait_for_memory(console)
    crowded = _crowded(needed)
    if crowded and console is not None:
        line = f"{index.spec} takes {needed / 2**20:.0f} MiB, and {crowded}: trials read it from mapped files"
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    index.verify(deep=False)
    # Retries without a limit: loading a shard again after the loss of a node counts as one.
    read: Any = ray.remote(num_cpus=0, num_returns=2, max_retries=-1, scheduling_strategy="SPREAD")(
        to_be_mapped if crowded else into_memory
    )
    at_once = _AT_ONCE * sum(node["Alive"] for node in ray.nodes())
    tables: dict[str, ray.ObjectRef] = {}
    loading: list[tuple[ray.ObjectRef, int]] = []
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    hidden = console is None or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
        bar = progress.add_task(f"{'checking' if crowded else 'loading'} {index.spec}", total=needed)

        def wait() -> None:
            finished, size = loading.pop(0)
            while not ray.wait([finished], timeout=sum(_SHORT))[0]:
                _wait_for_memory(console)
            result_of(finished)
            progress.advance(bar, size)

        for name, shard in shards.items():
            if len(loading) == at_once:
                wait()
            tables[name], finished = read.remote(index, shard, some.get(name))
            loading.append((finished, sizes[name]))
        while loading:
            wait()
    return {split: [tables[each.name] for each in index.shards(split) if each.name in tables] for split in splits}


def _crowded(needed: int) -> str | None:
    """Why not every node has room for ``needed`` bytes, those :data:`BESIDE` them and a copy of all that Ray holds.

    None if all have. Trials may run on any node, and each node where they do gets its own copy: the smallest node is
    the bound.
    """
    time.sleep(_REPORTED)
    total, free = (
        each.get("object_store_memory", 0.0) for each in (ray.cluster_resources(), ray.available_resources())
    )
    held = total - free
    usable = USABLE * min(node["Resources"].get("object_store_memory", 0.0) for node in _readers())
    if held + needed * (1 + BESIDE) > usable:
        return f"a node's Ray object store has {max(0.0, usable - held) / (1 + BESIDE) / 2**20:.0f} MiB for it"
    memory = min((result_of(answer) for answer in _ask(free_memory)), default=None)
    if memory is not None and needed > USABLE * memory:
        return f"a node has {USABLE * memory / 2**20:.0f} MiB of free memory for it"
    return None


def _readers() -> list[dict[str, Any]]:
    """The rows of ``ray.nodes()`` where trials may run: a head may hold the driver only."""
    alive = [node for node in ray.nodes() if node["Alive"]]
    return [node for node in alive if node["Resources"].get("CPU")] or alive


def _ask(question: Callable[[], Any]) -> dict[ray.ObjectRef, str]:
    """References to the answers of the nodes that answer ``question`` in time, and these nodes' addresses.

    The question should be of a module that imports little: a worker that has just begun must import it.
    """
    ask: Any = ray.remote(num_cpus=0, max_retries=0)(question)
    asked = {
        ask.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=True)).remote(): node
        for node in _readers()
    }
    answered, _ = ray.wait(list(asked), num_returns=len(asked), timeout=_PATIENCE)
    return {answer: asked[answer]["NodeManagerAddress"] for answer in answered}


def _wait_for_memory(console: Console | None) -> None:
    """Wait until no node is short of memory. Raises ValueError if that takes longer than :data:`_SHORT`."""
    for pause in (*_SHORT, None):
        short = _short_of_memory()
        if short is None:
            return
        if pause is None:
            raise ValueError(
                f"{short}, and Ray ends workers there; end other programs, and type the same command again"
            )
        if console is not None:
            console.print(f"note: {short}; the data are loaded when there is room", highlight=False, markup=False)
        time.sleep(pause)


def _short_of_memory() -> str | None:
    """A line about a node where Ray's memory monitor would end the workers of a task; None if there is none."""
    for answer, address in _ask(memory_monitor.room_and_free).items():
        try:
            room, free = ray.get(answer)
        except ray.exceptions.OutOfMemoryError as error:
            return memory_monitor.told(str(error))[1]
        except ray.exceptions.RayError:
            continue  # a node that has just gone
        if room <= 0:
            return f"the node {address} has only {free / 2**20:.0f} MiB of memory free"
    return None


def result_of(ref: ray.ObjectRef) -> Any:
    """The result of a task, once it is there. Raises the task's own ValueError, without Ray's traceback."""
    try:
        return ray.get(ref)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ValueError):
            raise error.cause from None
        raise


def open_split(refs: Sequence[ray.ObjectRef]) -> Split:
    """The split whose shards are ``refs``, as views of shared memory or of mapped files. Raises ValueError."""
    found = ray.get(list(refs))
    tables = [each.table() if isinstance(each, MappedShard) else each for each in found]
    return Split(tables, [each.rows if isinstance(each, MappedShard) else None for each in found])
