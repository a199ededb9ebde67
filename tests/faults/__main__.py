"""``python -m tests.faults [--seed N] [--only PATTERN] [--part K/N] [--messages FILE]``: inject all faults.

Prints a table of what was lost and repeated, and of the verdicts. Status 1 if a study did not survive. ``--part`` runs
every N-th fault only, on a study of its own, so that several processes share the work; ``--messages`` collects all
lines that were printed.
"""

import argparse
import contextlib
import random
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from data import stop_signals
from tests.faults import databases, kinds
from tests.faults.chain import Chain
from tests.faults.damage import damages
from tests.faults.kinds import Fault


@dataclass
class Row:
    """What became of a fault."""

    fault: Fault
    times: int = 0
    lost: int = 0
    repeated: int = 0
    problems: list[str] = field(default_factory=list)


def strike(chain: Chain, row: Row, rng: random.Random) -> None:
    """Inject a fault into the study of ``chain`` once, look at it afterwards, and add to its ``row``."""
    fault, begun = row.fault, time.monotonic()
    before = chain.snapshot()
    chain.wanted += fault.trials
    chain.problems.clear()
    lost = repeated = 0
    try:
        fault.inject(chain, rng)
        stored = {trial.number: trial for trial in chain.trials()}
        if fault.trials and not chain.complete:
            chain.met(chain.start(), 0, says="report: ")
        lost, repeated = chain.compare(before, stored)
    except Exception as error:  # the next fault has a study of its own
        chain.problems.append(f"{type(error).__name__}: {error}")
    row.times += 1
    row.lost += lost
    row.repeated += repeated
    row.problems += chain.problems
    print(
        f"{time.strftime('%H:%M:%S')}  {fault.kind}: {lost} lost, {repeated} trained twice, "
        f"{time.monotonic() - begun:.0f} s",
        *(f"\n    {problem}" for problem in chain.problems),
        file=sys.stderr,
        flush=True,
    )
    if any(not text.startswith(("status", "'", "processes")) for text in chain.problems):
        begin_again(chain)


def begin_again(chain: Chain) -> None:
    """A new study: what is wrong with the old one is no fault of the next."""
    shutil.rmtree(chain.folder, ignore_errors=True)
    chain.wanted = 1
    chain.met(chain.start("--fresh"), 0)


def run(rows: Sequence[Row], chain: Chain, rng: random.Random) -> None:
    """Strike ``chain`` with one fault after the other, and again with those that are to be made more often."""
    chain.met(chain.start(), 0, says="report: ")
    assert not chain.problems, f"{chain.problems}\n{chain.said[-1]}"
    for time_ in range(max(row.fault.times for row in rows)):
        for row in rows:
            if time_ < row.fault.times:
                strike(chain, row, rng)


def table(rows: Iterable[Row]) -> str:
    """The rows in Markdown."""
    lines = [
        "| fault | how it is made | times | reports lost | trained twice | verdict |",
        "|---|---|---:|---:|---:|---|",
    ]
    for row in rows:
        verdict = "; ".join(dict.fromkeys(row.problems)) or "survived"
        words = f"| {row.fault.kind} | {row.fault.how} | {row.times} | {row.lost} | {row.repeated} | {verdict} |"
        lines += [words] if row.times else []
    return "\n".join(lines)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="a regular expression that the fault's name has")
    parser.add_argument("--part", default="1/1", metavar="K/N")
    parser.add_argument("--messages", type=Path)
    parser.add_argument("--cache", type=Path, help="a folder for shards that is kept")
    asked = parser.parse_args()
    part, parts = map(int, asked.part.split("/"))
    rng = random.Random(asked.seed)

    def chosen(faults: Iterable[Fault]) -> list[Row]:
        return [Row(fault) for fault in faults if re.search(asked.only, fault.kind)]

    rows = chosen([*kinds.STRIKES, *damages()])[part - 1 :: parts]
    said: list[list[str]] = []
    # Ctrl-C ends the run; the table has what was made until then.
    with contextlib.suppress(KeyboardInterrupt), stop_signals.calling(), tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        cache = asked.cache or place / "cache"
        (place / "files").mkdir()
        if rows:
            chain = Chain(place / "files", cache)
            said.append(chain.said)
            run(rows, chain, rng)
        if part == parts:
            for faults, chain in databases.chains(place, cache):
                if more := chosen(faults):
                    rows += more
                    said.append(chain.said)
                    run(more, chain, rng)
    if asked.messages:
        asked.messages.write_text("\n".join(text for each in said for text in each), encoding="utf-8")
    print(table(rows))
    bad = sum(bool(row.problems) for row in rows)
    print(
        f"\n{sum(row.times for row in rows)} faults of {len(rows)} kinds, seed {asked.seed}: {bad} kinds not survived"
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
