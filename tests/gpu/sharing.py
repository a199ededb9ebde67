"""Several trials on one GPU: images a second of 1, 2 and 4 processes that train SPACE or Slot Attention at a time."""

import multiprocessing
import time
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from typing import Any

import torch

from tests.gpu.rows import Rows, Setting, each, setting
from tests.gpu.trials import tf32, trial

MODELS = ("space", "slot_attention")
AT_A_TIME = (1, 2, 4)
SECONDS = 6.0


def main() -> None:
    """A row per model and number of trials."""
    given = setting()
    names = [f"{model} x {count}" for model in MODELS for count in AT_A_TIME]
    alone: dict[str, float] = {}

    def measure(name: str) -> dict[str, Any]:
        model, _, count = name.partition(" x ")
        rate = together(model, int(count), given)
        alone.setdefault(model, rate)
        return {"images/s": rate, "of one alone": f"{rate / alone[model]:.0%}"}

    each(names[:2] if given.small else names, Rows(given.rows), given.until, measure)


def together(model: str, count: int, given: Setting) -> float:
    """Images a second of ``count`` processes that begin at the same time."""
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(count), context.Queue()
    processes = [context.Process(target=train, args=(model, given, barrier, answers)) for _ in range(count)]
    for process in processes:
        process.start()
    try:
        answered = [answers.get(timeout=120) for _ in processes]
    finally:
        for process in processes:
            process.terminate()
            process.join()
    failures = [answer for answer in answered if isinstance(answer, str)]
    if failures:
        raise RuntimeError(failures[0])
    return sum(answered)


def train(model: str, given: Setting, barrier: Barrier, answers: "Queue[float | str]") -> None:
    """Put the images a second of one trial into ``answers``, or why there are none."""
    try:
        tf32(True)
        torch.set_num_threads(1)
        trained = trial(model, given)
        trained.advance(3)
        barrier.wait(120)
        started, steps = time.perf_counter(), 0
        while time.perf_counter() - started < (1.0 if given.small else SECONDS):
            trained.advance(5)
            steps += 5
        answers.put(steps * trained.model.config.batch_size / (time.perf_counter() - started))
    except Exception as error:
        barrier.abort()
        answers.put(f"{type(error).__name__}: {error}")
        raise


if __name__ == "__main__":
    main()
