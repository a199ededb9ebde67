"""Tune a model, score the best trials on test, OOD and CAMO, and report: ``python study/run.py --model space``."""

import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":  # Python puts study/ first on the path; the packages are one level up
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from rich.console import Console

from data import stop_signals
from study import command_line
from study.config import StudyConfig
from study.search import finished


@stop_signals.output_may_end(pipes=True)  # a study goes on when the `tee` that keeps its lines has ended
@command_line.errors_in_one_line
def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status: 0 complete, 1 stopped, 2 bad input, 130 interrupted by a signal."""
    studies = command_line.studies(arguments)
    try:
        return _run(studies)
    except KeyboardInterrupt as signal:
        again = str(signal) or studies[0].again
        print(f"interrupted: nothing is lost; {again} goes on from here", file=sys.stderr)
        return stop_signals.STATUS


def _run(studies: Sequence[StudyConfig]) -> int:
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
    return 0


if __name__ == "__main__":
    sys.exit(main())
