"""Trials on two processes over gloo, beside the same trials alone: what tests and the benchmark compare."""

import multiprocessing
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.trainables import scenes
from tests.trainables.test_contract import tiny
from trainables import parallel
from trainables.parallel import ALONE, Team
from trainables.training import Task, Training

SIZE = 32
BATCH = 5
"""Images of a batch: three for one process, two for the other."""

STATEFUL: dict[str, dict[str, Any]] = {
    "dti_sprites": {"freeze_frac": 0.0, "reassign_every": 2},
    "efficient_morl": {"use_geco": True, "geco_warmup_frac": 0.0},
    "genesis_v2": {"kl_mode": "geco"},
}
"""Hyperparameters under which models change their buffers after every step."""

Step = dict[str, dict[str, Tensor]]
"""``gradients`` by parameter, ``terms`` (with the loss) and ``buffers`` after the step."""


def trial(name: str, team: Team = ALONE, micro_batch: int | None = None, batch: int = BATCH) -> Training:
    """A trial of the CPU preset, with state where there can be any, whose every batch holds the same images."""
    task = Task(name, SIZE, steps=1000, reports=10, seed=0, metric="mIoU_fg", micro_batch=micro_batch)
    config = tiny(name, batch_size=batch, **STATEFUL.get(name, {}))
    return Training(task, config, 0, scenes.split(batch, SIZE), torch.device("cpu"), team)


def one_step(name: str, late: bool, team: Team = ALONE, micro_batch: int | None = None) -> Step:
    """The first step of a trial, or with ``late`` one past all milestones. BatchNorm is in evaluation mode."""
    run = trial(name, team, micro_batch)
    for module in run.model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
            module.train = lambda mode=True, norm=module: norm  # type: ignore[method-assign, misc]
    if late:
        run.step = run.model.config.steps
    terms = run.advance(1)
    return {
        "gradients": {path: p.grad for path, p in run.model.named_parameters() if p.grad is not None},
        "terms": {key: torch.tensor(value) for key, value in terms.items()},
        "buffers": {path: buffer.float() for path, buffer in run.model.named_buffers()},
    }


def together(work: Callable[[Team, Path], None], folder: Path) -> None:
    """Call ``work`` on two processes at once. Raises RuntimeError if one of them fails."""
    meeting_point = parallel.open_meeting_point(Team(0, 2), "127.0.0.1")
    context = multiprocessing.get_context("spawn")
    done = context.Barrier(2)
    processes = [
        context.Process(target=_member, args=(work, Team(rank, 2), meeting_point.port, folder, done))
        for rank in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    codes = [process.exitcode for process in processes]
    if any(codes):
        raise RuntimeError(f"two processes ended with status {codes}")


def _member(work: Callable[[Team, Path], None], team: Team, port: int, folder: Path, done: Barrier) -> None:
    torch.set_num_threads(1)
    parallel.join(team, torch.device("cpu"), ("127.0.0.1", port))
    try:
        work(team, folder)
        done.wait()  # one that leaves first can end the other by SIGABRT, in gloo's own thread
    except BaseException:
        done.abort()
        raise
    finally:
        parallel.leave()


def relative_error(found: dict[str, Tensor], true: dict[str, Tensor]) -> float:
    """Norm of the difference of all tensors over the norm of the ``true`` ones."""
    assert found.keys() == true.keys(), found.keys() ^ true.keys()
    difference = sum(float((found[key] - true[key]).double().square().sum()) for key in true)
    return (difference / sum(float(true[key].double().square().sum()) for key in true)) ** 0.5
