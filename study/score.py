"""More splits in the table of a study that has ended: ``python study/score.py results/<study> --split pbg``."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

if __name__ == "__main__":  # Python puts study/ first on the path; the packages are one level up
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from rich.console import Console

from study import command_line


@dataclass(frozen=True)
class Flags:
    """The flags of this command."""

    folder: Path
    """folder of a study, e.g. results/space-synthetic-tiny"""
    split: str = field(kw_only=True)
    """what tables call the new split; without --data a variant of the study's data, such as pbg or 0.8"""
    data: str | None = field(default=None, kw_only=True)
    """data set with the images, NAME[:VARIANT]; crop and size are those of the training"""
    part: str = field(default="test", kw_only=True)
    """split of the data set; all: all its images"""
    data_root: str | None = field(default=None, kw_only=True)
    """folder that holds the published files"""
    cache: str | None = field(default=None, kw_only=True)
    """folder for converted shards [default: ~/.cache/clevrtune]"""
    draws: int | None = field(default=None, kw_only=True)
    """draws of noise over which models that draw it are scored [default: as in the study's final stage]"""
    cpus: float = field(default=1.0, kw_only=True)
    """CPU cores per model"""
    gpus: float | None = field(default=None, kw_only=True)
    """GPUs per model [default: 1 with the paper preset and a GPU, else 0]"""
    address: str | None = field(default=None, kw_only=True)
    """address of a running Ray cluster, or auto [default: a Ray of its own on this machine]"""
    storage: str | None = field(default=None, kw_only=True)
    """Optuna storage URL of a study that was run with --storage, for its report"""

    def __post_init__(self) -> None:
        for key in ("draws", "cpus"):
            value = getattr(self, key)
            if value is not None and not value > 0:
                raise ValueError(f"--{key} is {value}; it must be above zero")
        if self.gpus is not None and self.gpus < 0:
            raise ValueError(f"--gpus is {self.gpus}; it must be zero or more")


@command_line.errors_in_one_line
def main(arguments: Sequence[str] | None = None) -> int:
    """Score, and write the report anew; returns the exit status, 2 for bad input, 130 if interrupted."""
    flags = command_line.parse(
        Flags,
        arguments,
        verb="study/score.py",
        description="Score the finalists and baselines of a study on further images, without training anything.",
    )
    from study.cluster import ray_runtime  # not before the arguments are read: torch, Ray and Optuna take seconds
    from study.display import study_page
    from study.results_folder import read_record
    from study.scoring import added
    from study.search import storage

    console, folder = Console(), flags.folder.resolve()
    preset = read_record(folder)["config"].get("preset")
    storage.load_study(folder, flags.storage)  # for the report; what it lacks is said before hours of scoring
    gpus = flags.gpus
    if gpus is None:
        gpus = float(preset == "paper" and ray_runtime.has_gpu(flags.address))
    try:
        addition = added.prepare(
            folder,
            flags.split,
            flags.data,
            flags.part,
            root=flags.data_root,
            cache=flags.cache,
            draws=flags.draws,
            cpus=flags.cpus,
            gpus=gpus,
            console=console,
        )
        report = folder / "report.html"
        if not addition.missing and added.reported(folder):
            print(f"{flags.split} is scored already; report: {report}", file=sys.stderr)
            return 0
        ray_runtime.start(flags.address)
        addition.score(console)
    except KeyboardInterrupt:
        print("interrupted: what is scored is kept; the same command goes on from here", file=sys.stderr)
        return 130
    study_page.write(folder, console, flags.storage)
    print(f"report: {report}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
