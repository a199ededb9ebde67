"""Trials on two processes compared with trials on one: ``python -m tests.benchmarks.parallel``.

First the gradient of a batch of five images, three in one process and two in the other, and that of micro-batches of
two, both against the gradient of one process; BatchNorm in evaluation mode, the CPU preset at 32x32, gloo, one thread
each. Then the CPU time of a training step on 32 images in one process and in each of two. The ratio of these times is
the speed-up on two idle cores, except for the time in which one process waits for the other.
"""

import tempfile
from functools import partial
from pathlib import Path

import torch

import trainables
from tests.benchmarks.yardstick import median_seconds
from tests.trainables.two_processes import one_step, relative_error, together, trial
from trainables.parallel import ALONE, Team


def measure(team: Team, folder: Path) -> None:
    """Write the gradients and step times of all models, as this process of ``team`` sees them, to ``folder``."""
    for name in trainables.names():
        for late in (False, True):
            torch.save(one_step(name, late, team)["gradients"], folder / f"{name}_{late}_{team.size}_{team.rank}.pt")
        run = trial(name, team, batch=32)
        seconds, _ = median_seconds(partial(run.advance, 1))
        torch.save(seconds, folder / f"{name}_seconds_{team.size}_{team.rank}.pt")


def main() -> None:
    """Print both tables as one."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        measure(ALONE, folder)
        together(measure, folder)
        print("                relative error of the gradient            CPU ms per step")
        print("model           two, first   two, late    micro-batches   alone    of two   ratio")
        for name in trainables.names():
            alone = {late: torch.load(folder / f"{name}_{late}_1_0.pt") for late in (False, True)}
            two = [relative_error(torch.load(folder / f"{name}_{late}_2_0.pt"), alone[late]) for late in (False, True)]
            micro = relative_error(one_step(name, False, micro_batch=2)["gradients"], alone[False])
            one, half = (1000 * torch.load(folder / f"{name}_seconds_{size}_0.pt") for size in (1, 2))
            print(
                f"{name:<16}{two[0]:<13.1e}{two[1]:<13.1e}{micro:<16.1e}{one:<9.0f}{half:<9.0f}{one / half:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
