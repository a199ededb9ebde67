"""Tune a model, score the best trials on test, OOD and CAMO, and report: ``python study/run.py --model space``."""

import sys
from collections.abc import Sequence
from pathlib import Path

# Run as a script, Python puts study/ first on the path; the packages live one level up.
ROOT = Path(__file__).resolve().parents[1]
if sys.path[0] == str(ROOT / "study"):
    sys.path[0] = str(ROOT)

from rich.console import Console

from study import config, stages
from study.search.stopping import StudyStopped
from study.stages import say


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status: 0 done, 1 stopped early, 2 bad input, 130 interrupted."""
    console, errors = Console(), Console(stderr=True)
    again = "the same command"
    try:
        studies = config.from_command_line(arguments)
        again = studies[0].again
        if len(studies) == 1:
            stages.run(studies[0], console)
        else:
            stages.run_all(studies, console)
    except ValueError as error:
        say(errors, f"error: {error}")
        return 2
    except OSError as error:
        say(errors, f"error: {error.filename or 'a file'}: {error.strerror or error}")
        return 2
    except StudyStopped as error:
        say(errors, f"stopped: {error}")
        return 1
    except KeyboardInterrupt:
        say(errors, f"interrupted: nothing is lost; {again} goes on from here")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
