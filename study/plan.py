"""What a study would take on a cluster that is not here: time, devices' hours, memory, and what will limit it.

python study/plan.py --model iodine --trials 200 --gpus 64

One training step is measured on this machine; everything else is arithmetic and a simulation of early stopping.
"""

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

if __name__ == "__main__":  # Python puts study/ first on the path; the packages are one level up
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from rich.console import Console

from study import command_line
from study.cluster.estimate import Machines
from study.command_line import FLAT, HIDDEN, NAMES, Asked
from study.display import plan_table
from study.display.plain_lines import say


@dataclass(frozen=True, kw_only=True)
class AskedHere(Asked):
    """The study; ``--gpus`` and ``--cpus`` are the cluster's here."""

    gpus: Annotated[float | None, HIDDEN] = None
    cpus: Annotated[float, HIDDEN] = 1.0


@dataclass(frozen=True, kw_only=True)
class Flags:
    """The flags of this command."""

    study: Annotated[AskedHere, FLAT]
    machines: Annotated[Machines, FLAT] = dataclasses.field(default_factory=Machines)
    gpus_per_trial: float = 1.0
    """GPUs per worker of a trial; fractions allowed"""

    def __post_init__(self) -> None:
        if not self.gpus_per_trial > 0:
            raise ValueError(f"--gpus-per-trial is {self.gpus_per_trial}; it must be above zero")


@command_line.errors_in_one_line
def main(arguments: Sequence[str] | None = None) -> int:
    """Print a plan; returns the exit status, 2 for bad input."""
    flags = command_line.parse(
        Flags,
        arguments,
        verb="study/plan.py",
        description="Estimate time, cost and bottleneck of a study on a cluster, from one training step.",
        more="All flags of study/run.py say what the study is, but --gpus and --cpus, which are the cluster's here: "
        f"its --gpus is called --gpus-per-trial, and its --cpus is 1. {NAMES}",
    )
    machines, console = flags.machines, Console()
    try:
        studies = dataclasses.replace(flags.study, gpus=flags.gpus_per_trial if machines.gpus else 0.0).studies()
        from study import presets  # not before the arguments are read: torch takes seconds
        from study.cluster import planning

        for i, study in enumerate(studies):
            if i:
                console.print()
            resolved = presets.resolve(study, has_gpu=machines.gpus > 0)
            if machines.seconds_per_step is None:
                say(console, f"measuring one training step of {study.model} on this machine, {resolved.preset} preset")
            step, plan = planning.plan(resolved, machines)
            plan_table.show(resolved, machines, step, plan, console)
    except ValueError as error:  # in the words of study/run.py
        raise ValueError(str(error).replace("--gpus ", "--gpus-per-trial ")) from error
    return 0


if __name__ == "__main__":
    sys.exit(main())
