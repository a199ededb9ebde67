"""Runs the parts of the GPU run: each a process of its own, killed with its children when its time is up."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.gpu import rows

GRACE = 5.0
"""Seconds between the time that a part is told and the end of it."""


@dataclass(frozen=True)
class Part:
    """A part of the run."""

    name: str
    command: tuple[str, ...]
    """what follows ``python``; the arguments of tests.gpu.rows are added"""
    seconds: float
    """its time limit"""


@dataclass
class Ended:
    """How a part went."""

    name: str
    status: str
    """ok, failed, or what stopped it"""
    seconds: float
    rows: list[dict[str, Any]] = field(default_factory=list)
    log: str = ""


@dataclass
class _Running:
    part: Part
    process: subprocess.Popen[bytes]
    limit: float
    started: float
    rows: Path
    log: Path


def run(
    stages: Sequence[Sequence[Part]],
    python: Path,
    scratch: Path,
    device: str,
    seconds: float,
    told: Callable[[Ended], None],
) -> None:
    """Run ``stages`` one after the other, the parts of a stage at the same time, in ``seconds`` altogether.

    ``told`` hears of each part when it has ended. ``scratch`` gets a folder per part, where it also may write.
    """
    deadline = time.monotonic() + seconds
    for stage in stages:
        left = deadline - time.monotonic()
        going = [_start(part, python, scratch, device, min(part.seconds, left)) for part in stage if left > GRACE]
        for part in stage if left <= GRACE else []:
            told(Ended(part.name, "skipped: the time of the whole run was up", 0.0))
        try:
            while going:
                for one in list(going):
                    if one.process.poll() is not None or time.monotonic() > one.started + one.limit:
                        going.remove(one)
                        told(_end(one))
                time.sleep(0.1)
        finally:
            for one in going:
                _kill(one.process)


def _start(part: Part, python: Path, scratch: Path, device: str, limit: float) -> _Running:
    folder = scratch / part.name
    folder.mkdir(parents=True)
    rows_path, log = folder / "rows.jsonl", folder / "log.txt"
    command = [str(python), *part.command, "--rows", str(rows_path), "--device", device]
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*command, "--seconds", str(limit - GRACE)],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    return _Running(part, process, limit, time.monotonic(), rows_path, log)


def _end(one: _Running) -> Ended:
    seconds = time.monotonic() - one.started
    code = one.process.poll()
    _kill(one.process)  # with it whatever it has left running
    found = rows.read(one.rows)
    if code is None:
        status = f"stopped after {one.limit:.0f} s"
    elif code:
        status = f"failed with status {code}"
    elif any(row["verdict"] not in ("ok", "skipped") for row in found):
        status = "failed"
    else:
        status = "ok" if found else "failed without a row"
    return Ended(one.part.name, status, seconds, found, one.log.read_text(errors="replace"))


def _kill(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
