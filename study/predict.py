"""Segment pictures with the best model of a study: ``python study/predict.py results/<study> PICTURE... --out DIR``."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

if __name__ == "__main__":  # Python puts study/ first on the path; the packages are one level up
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from study import command_line


@dataclass(frozen=True)
class Flags:
    """The flags of this command."""

    folder: Path
    """folder of a study, below results/"""
    pictures: list[Path]
    """files, or folders of files, of any size and mode"""
    out: Path = field(kw_only=True)
    """folder for label maps, overlays and a contact sheet"""


@command_line.errors_in_one_line
def main(arguments: Sequence[str] | None = None) -> int:
    """Write what the model sees; returns the exit status, 2 for a folder without a best model or no picture."""
    flags = command_line.parse(
        Flags,
        arguments,
        verb="study/predict.py",
        usage="STUDY PICTURE... --out DIR",
        description="Segment pictures with the best model of a study; they are cropped and resized as in training.",
    )
    from data.spec import parse  # not before the arguments are read: torch takes seconds
    from study.results_folder import read_record
    from study.scoring import prediction
    from study.scoring.evaluation import load_best

    record = read_record(flags.folder)
    paths = prediction.files(flags.pictures)
    model = load_best(flags.folder)
    made = list(prediction.predict(model, paths, parse(record["config"]["data"]), model.config.steps))
    *_, sheet = prediction.write(made, flags.out)
    print(f"{len(made)} pictures: labels and overlays in {flags.out}, all of them in {sheet}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
