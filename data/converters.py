"""The processes that convert a large set: one Ray task per shard, on all cores of this machine or of a cluster."""

import collections
import contextlib
import os
import posixpath
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from data import ray_session
from data.pieces import Outcome, Piece, Work
from data.places import filesystem
from data.unchanged import state_of

_STORE = 100 * 2**20  # bytes; only what is to be done passes through it
_ATTEMPTS = 3  # at a piece whose process dies
_PATIENCE = 120.0  # seconds that a node has to say whether it sees the files
_work: dict[str, Work] = {}  # in a worker: what it was sent, to read it once


@contextlib.contextmanager
def connected(address: str | None = None) -> Iterator[None]:
    """Ray, for the length of the block: that of this process if it has one, of ``address``, else one on this machine.

    Raises ValueError if no cluster answers at ``address``, or Ray does not start.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    ray_session.connect(address, object_store_memory=_STORE)
    try:
        yield
    finally:
        ray.shutdown()


def outcomes(work: Work, pieces: Sequence[Piece], state: Sequence[str], say: Any) -> Iterator[tuple[Piece, Outcome]]:
    """Convert ``pieces`` and yield each with what became of it, in the order in which they end.

    Only nodes that see the unfinished folder and the published files, of which ``state`` names some, take part; where
    none does, this process does it. Raises OSError, and ValueError where processes die again and again.
    """
    with connected():
        nodes = _nodes(work.folder, state, say)
        if not nodes:
            yield from ((piece, work.convert(piece)) for piece in pieces)
            return
        holder = [ray.put(work)]
        convert: Any = ray.remote(num_cpus=1, max_retries=0)(_convert)
        waiting = collections.deque(pieces)
        attempts: collections.Counter[Piece] = collections.Counter()
        running: dict[ray.ObjectRef, tuple[Piece, str]] = {}
        try:
            while waiting or running:
                busy = collections.Counter(node for _, node in running.values())
                free = [node for node, cpus in nodes.items() for _ in range(cpus + 1 - busy[node])]
                for node in free[: len(waiting)]:
                    pinned = NodeAffinitySchedulingStrategy(node, soft=False)
                    piece = waiting.popleft()
                    running[convert.options(scheduling_strategy=pinned).remote(holder, piece)] = piece, node
                (ref,), _ = ray.wait(list(running))
                piece, node = running.pop(ref)
                try:
                    yield piece, ray.get(ref)
                except ray.exceptions.RayTaskError as error:
                    if isinstance(error.cause, OSError | ValueError):
                        raise error.cause from None
                    raise
                except ray.exceptions.RayError as error:
                    attempts[piece] += 1
                    if node not in _alive():
                        nodes.pop(node, None)
                    if attempts[piece] == _ATTEMPTS or not nodes:
                        raise ValueError(
                            f"{_ATTEMPTS} processes that converted {piece.name} have died; free some memory, and give "
                            "the same command again"
                        ) from error
                    waiting.append(piece)
        finally:
            for ref in running:
                ray.cancel(ref, force=True)


def _convert(holder: list[ray.ObjectRef], piece: Piece) -> Outcome:
    """In a worker: convert ``piece`` of the work that ``holder`` refers to."""
    key = holder[0].hex()
    if key not in _work:
        _work.clear()
        _work[key] = ray.get(holder[0])
    return _work[key].convert(piece)


def _alive() -> dict[str, int]:
    """CPUs of each node that is up and has some, by its id."""
    nodes = {node["NodeID"]: int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]}
    return {node: cpus for node, cpus in nodes.items() if cpus}


def _nodes(folder: str, state: Sequence[str], say: Any) -> dict[str, int]:
    """CPUs of each node that can take part."""
    nodes = _alive()
    if len(nodes) <= 1:
        return nodes
    files, path = filesystem(folder)
    token = uuid.uuid4().hex
    marker = posixpath.join(path, f"{token}.partial")
    with files.open_output_stream(marker, compression=None) as stream:
        stream.write(token.encode())
    look: Any = ray.remote(num_cpus=0, max_retries=0)(_sees)
    asked = {
        node: look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(
            folder, token, state_of(state)
        )
        for node in nodes
    }
    ray.wait(list(asked.values()), num_returns=len(asked), timeout=_PATIENCE)
    seeing = {}
    for node, ref in asked.items():
        with contextlib.suppress(ray.exceptions.RayError):
            if ray.get(ref, timeout=0):
                seeing[node] = nodes[node]
    files.delete_file(marker)
    others = "; the others see other files" if len(seeing) < len(nodes) else ""
    say(f"{len(seeing)} of {len(nodes)} nodes convert{others}")
    return seeing


def _sees(folder: str, token: str, state: list[list[Any]]) -> bool:
    """On a node: whether it sees the marker file and the published files as the driver does."""
    files, path = filesystem(folder)
    try:
        with files.open_input_stream(posixpath.join(path, f"{token}.partial"), compression=None) as stream:
            return stream.read().decode() == token and state_of([entry[0] for entry in state]) == state
    except OSError:
        return False
