"""Tune a model, score the best trials on test, OOD and CAMO, and report: ``python study/run.py --model space``."""

import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":  # Python puts study/ first on the path; the packages are one level up
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from rich.console import Console

from study import command_line
from study.search import finished


@command_line.errors_in_one_line
def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status: 0 complete, 1 stopped, 2 bad input, 130 interrupted."""
    studies = command_line.studies(arguments)
    console = Console()
    if len(studies) == 1 and finished.say_again(studies[0], console) is not None:
        return 0
    from study import stages  # not before the arguments are read: torch, Ray and Optuna take seconds

    try:
        if len(studies) == 1:
            stages.run(studies[0], console)
        else:
            stages.run_all(studies, console)
    except stages.StudyStopped as error:
        print(f"stopped: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"interrupted: nothing is lost; {studies[0].again} goes on from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
