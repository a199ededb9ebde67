"""One run of a real command, as a shell starts it: what it says, how it ends, which processes it leaves."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

PATIENCE = 900.0
"""Seconds after which a command, or a moment in it, is waited for no longer."""


class Session:
    """A command in a process group of its own; its output is collected in a file."""

    def __init__(self, words: Sequence[str], output: Path, *, cwd: Path, **environment: str):
        self.begun = time.time()
        self._output = output
        with output.open("wb") as stream:
            self.process = subprocess.Popen(
                words, stdout=stream, stderr=stream, cwd=cwd, start_new_session=True, env=os.environ | environment
            )
        self._known: set[int] = set()

    @property
    def pid(self) -> int:
        """The driver's."""
        return self.process.pid

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self._output.read_text(encoding="utf-8", errors="replace")

    def until(self, happened: Callable[[], object]) -> bool:
        """Wait until ``happened``; False if the command ended before, or it took too long."""
        deadline, looked = time.monotonic() + PATIENCE, 0.0
        while not happened():
            if time.monotonic() - looked > 1:
                self._known |= below(self.pid)
                looked = time.monotonic()
            if self.process.poll() is not None or time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def says(self, words: str) -> bool:
        """Wait until it has printed ``words``."""
        return self.until(lambda: words in self.output)

    def servants(self, name: str) -> list[int]:
        """Its processes whose command line contains ``name``."""
        return [pid for pid in below(self.pid) if name in command_line(pid)]

    def send(self, number: int, *, group: bool = False) -> None:
        """Send the signal ``number`` to the command, or to its process group."""
        self._known |= below(self.pid)
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(self.pid, number)

    def end(self) -> int:
        """Wait for the end; the exit status, negative for a signal that nothing caught."""
        self.until(lambda: self.process.poll() is not None)
        if self.process.poll() is None:
            self.send(signal.SIGKILL)
            self.process.wait()
            return 124
        return self.process.returncode

    def left(self, seconds: float = 120.0) -> list[str]:
        """Its processes that live ``seconds`` after its end; they are killed."""
        deadline = time.monotonic() + seconds
        while (alive := [pid for pid in self._known if command_line(pid)]) and time.monotonic() < deadline:
            time.sleep(0.1)
        lines = [command_line(pid) for pid in alive]
        for pid in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return lines


def below(pid: int) -> set[int]:
    """The processes that ``pid`` has started, and those that they have."""
    found: set[int] = set()
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, path.read_text().split()):
                found |= {child} | below(child)
    return found


def command_line(pid: int) -> str:
    """The words of a process that lives; empty for one that has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""
