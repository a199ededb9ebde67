"""``python -m tests.gpu``: see the package's docstring."""

import argparse
import importlib.util
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.gpu import pack
from tests.gpu.running import Ended, Part, run

WHOLE = 480.0
"""Seconds of the whole run."""

PARTS = (
    Part("contract", ("-m", "tests.gpu.contract"), 120),
    Part("agreement", ("-m", "tests.gpu.agreement"), 150),
    Part("waits", ("-m", "tests.gpu.waits"), 120),
    Part("bench", ("-m", "tests.gpu.bench"), 170),
    Part("study", ("-m", "tests.gpu.studies"), 230),
    Part("sharing", ("-m", "tests.gpu.sharing"), 90),
    Part("compiled", ("-m", "tests.gpu.bench", "--compiled"), 200),
)
TOGETHER = ("contract", "agreement", "waits")
"""Parts that measure no time and run side by side."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status: 0 all parts are well, 1 not all, 2 it cannot run here."""
    asked = parse(arguments)
    try:
        if asked.pack:
            pack.build(asked.pack)
            return 0
        if asked.unpack:
            print(pack.unpack(*asked.unpack))
            told_unmet(asked.unpack[1] / "site")
            return 0
        return measure(asked)
    except ValueError as error:
        print(f"tests.gpu: {error}", file=sys.stderr)
        return 2


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(prog="python -m tests.gpu", description="What a GPU says about the project.")
    parser.add_argument("--out", type=Path, default=Path("build/gpu"), metavar="FOLDER", help="where the report goes")
    parser.add_argument("--only", default="", metavar="PART,...", help=f"of {', '.join(part.name for part in PARTS)}")
    parser.add_argument("--seconds", type=float, default=WHOLE, help="time limit of the whole run")
    parser.add_argument("--packed", type=Path, default=Path(".gpu"), metavar="FOLDER", help="where the pack lies")
    parser.add_argument("--pack", type=Path, metavar="FOLDER", help="make a pack of what a bare machine lacks")
    parser.add_argument("--unpack", type=Path, nargs=2, metavar=("PACK", "FOLDER"), help="only unpack; prints a python")
    # The rehearsal: every part's code runs, tiny, so that time on a lent GPU is not spent on a slip of the pen.
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def measure(asked: argparse.Namespace) -> int:
    """Run the parts and write the report. Raises ValueError where that cannot be."""
    chosen = wanted(asked.only)
    if asked.device == "cuda":
        require_gpu()
    with tempfile.TemporaryDirectory(prefix="gpu") as name:
        scratch = Path(name)
        python, files = environment(asked.packed, scratch)
        from tests.gpu import report

        about = report.machine(asked.device, files)
        for place in files:
            told_unmet(Path(place))
        ended: list[Ended] = []

        def told(one: Ended) -> None:
            ended.append(one)
            print(f"{one.name}: {one.status}, {one.seconds:.0f} s", flush=True)
            report.write(asked.out, about, ended)
            page = scratch / "study" / "results" / "shared" / "report.html"
            if one.name == "study" and page.exists():
                shutil.copy(page, asked.out / "study.html")

        run(stages(chosen), python, scratch, asked.device, asked.seconds, told)
        print(report.write(asked.out, about, ended))
    return 0 if all(one.status == "ok" for one in ended) else 1


def told_unmet(files: Path) -> None:
    """Say which needs of the pack in ``files`` this machine does not meet; the run goes on, it may not matter."""
    for line in pack.unmet(files):
        print(f"tests.gpu: {line}", file=sys.stderr)


def wanted(only: str) -> list[Part]:
    """The parts that ``only`` names, or all. Raises ValueError."""
    names = [name.strip() for name in only.split(",") if name.strip()]
    unknown = [name for name in names if name not in {part.name for part in PARTS}]
    if unknown:
        raise ValueError(f"part {unknown[0]!r} is unknown; there are {', '.join(part.name for part in PARTS)}")
    return [part for part in PARTS if not names or part.name in names]


def stages(parts: Sequence[Part]) -> list[list[Part]]:
    """``parts`` in the order in which they run, those of :data:`TOGETHER` side by side."""
    together = [part for part in parts if part.name in TOGETHER]
    return [stage for stage in (together, *([part] for part in parts if part not in together)) if stage]


def require_gpu() -> None:
    """Raise ValueError unless torch sees a GPU."""
    import torch

    if not torch.cuda.is_available():
        raise ValueError("no GPU is visible here; run it on a machine with one")


def environment(packed: Path, scratch: Path) -> tuple[Path, list[str]]:
    """The Python to run the parts with, and where the packed files lie, if Ray has to come from a pack."""
    if importlib.util.find_spec("ray") is not None:
        return Path(sys.executable), []
    place = scratch / "pack"
    return pack.unpack(packed, place), [str(place / "site")]


if __name__ == "__main__":
    sys.exit(main())
