"""The trials of studies, without Ray: ``python study/trials.py list|show|best|export results/<study> ...``."""

import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if __name__ == "__main__":  # Python puts study/ first on the path; the packages are one level up
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from rich.console import Console

from study import command_line

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Flags:
    """The flags of this command."""

    what: Literal["list", "show", "best", "export"]
    """list: a line per trial; show: one trial with its curve; best: the best complete trials; export: all, to a file"""
    folders: list[Path]
    """folders of studies, or folders that hold studies, such as results"""
    trial: int | None = field(default=None, kw_only=True)
    """the trial that show shows [default: the best]"""
    top: int = field(default=5, kw_only=True)
    """how many trials of a study best lists"""
    format: Literal["csv", "json", "parquet"] | None = field(default=None, kw_only=True)
    """of export [default: that of --out's ending, else csv]"""
    out: Path | None = field(default=None, kw_only=True)
    """file that export writes [default: standard output]"""

    storage: str | None = field(default=None, kw_only=True)
    """Optuna storage URL of studies that were run with --storage"""

    def __post_init__(self) -> None:
        if self.top < 1:
            raise ValueError(f"--top is {self.top}; it must be at least 1")
        if self.out is not None and self.format is None and self.out.suffix[1:] not in ("csv", "json", "parquet"):
            raise ValueError(f"--out {self.out} ends in no format; add --format csv, json or parquet")

    @property
    def written_as(self) -> str:
        """The format of an export."""
        return self.format or (self.out.suffix[1:] if self.out is not None else "csv")


@command_line.errors_in_one_line
def main(arguments: Sequence[str] | None = None) -> int:
    """List, show or export trials; returns the exit status, 2 if there is no study."""
    flags = command_line.parse(
        Flags,
        arguments,
        verb="study/trials.py",
        usage="list|show|best|export FOLDER... [OPTIONS]",
        description="The trials of one study or of several, from their results folders.",
    )
    from study.display import trial_lines  # not before the arguments are read: Optuna takes seconds
    from study.scoring import exported_trials

    studies = exported_trials.read_studies(flags.folders, flags.storage)
    if flags.what == "export":
        _export(exported_trials.joined(studies), flags)
        return 0
    console = Console()
    for name, table in studies.items():
        if flags.what == "show":
            trial_lines.show(console, name, table, flags.trial)
        else:
            trial_lines.list_trials(console, name, table, flags.top if flags.what == "best" else None)
    return 0


def _export(table: "pa.Table", flags: Flags) -> None:
    from study.scoring.exported_trials import as_bytes

    content = as_bytes(table, flags.written_as)
    if flags.out is not None:
        flags.out.write_bytes(content)
        print(f"{table.num_rows} trials: {flags.out}", file=sys.stderr)
    elif flags.written_as == "parquet" and sys.stdout.isatty():
        raise ValueError("Parquet is no text; name a file with --out")
    else:
        sys.stdout.flush()
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.buffer.write(content)
        else:  # a notebook's, or a test's
            sys.stdout.write(content.decode())


if __name__ == "__main__":
    sys.exit(main())
