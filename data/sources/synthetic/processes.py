"""Many scenes are drawn by all cores: the same scenes, in the same order, as one process draws them."""

import collections
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from data import machine, stop_signals
from data.scenes import Scenes
from data.sources.synthetic import drawing

FEW_PIXELS = 2**23
"""A split of fewer pixels takes a few seconds: processes would hardly have started."""

_PIECE = 8  # batches per task


def batches(
    count: int,
    size: tuple[int, int],
    seed: int,
    split: str,
    strength: float,
    siblings: bool = False,
    processes: int | None = None,
) -> Iterator[Scenes]:
    """What :func:`data.sources.synthetic.drawing.batches` draws, by ``processes`` at a time (default: one per core).

    Little more than what is taken is drawn ahead. Raises ValueError for sizes that are too small, and where a process
    dies.
    """
    piece = _PIECE * drawing.batch_size(size)
    if processes is None:
        processes = 1 if count * size[0] * size[1] < FEW_PIXELS else min(machine.usable_cores(), -(-count // piece))
    if processes == 1:
        yield from drawing.batches(count, size, seed, split, strength, siblings=siblings)
        return
    # A fork of this process, which has threads, might wait for ever for a lock that one of them holds.
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), stop_signals.ignore_in_child)
    ahead: collections.deque[Future[list[Scenes]]] = collections.deque()
    try:
        for start in range(0, count, piece):
            ahead.append(pool.submit(_draw, min(piece, count - start), size, seed, split, strength, start, siblings))
            if len(ahead) > 2 * processes:
                yield from ahead.popleft().result()
        while ahead:
            yield from ahead.popleft().result()
    except BrokenProcessPool as error:
        raise ValueError("a process that drew scenes has died; free some memory, or ask for fewer --scenes") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _draw(*arguments: int | float | str | tuple[int, int]) -> list[Scenes]:
    return list(drawing.batches(*arguments))  # type: ignore[arg-type]
