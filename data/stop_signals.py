"""Ctrl-C, SIGTERM and SIGHUP end every command in the same good order: one line, and status 130.

A job's time is up (SIGTERM), or its terminal closes (SIGHUP): neither is another thing to a study than Ctrl-C.
"""

import contextlib
import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec

P = ParamSpec("P")

STATUS = 130
"""The exit status of a command that was ended by a signal, whichever it was."""

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

ANEW = "interrupted: the same command does it anew"
"""What a command says that leaves nothing half done."""


@contextlib.contextmanager
def calling(first: Callable[[], Any] | None = None) -> Iterator[None]:
    """Within this context the first signal calls ``first``, and each later one raises KeyboardInterrupt.

    Without ``first`` all raise it. What was set before comes back at the end, also what Ray replaces in between. A
    thread that is not the main one changes nothing, and a SIGHUP that is ignored, as under ``nohup``, stays so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    left = [first] if first else []
    terminals = [stream for stream in (1, 2) if _is_terminal(stream)]

    def stop(number: int, frame: Any) -> None:
        _unplug(terminals)
        if not left:
            raise KeyboardInterrupt
        left.pop()()

    before = {number: signal.getsignal(number) for number in NUMBERS}
    try:
        for number in NUMBERS:
            if number != signal.SIGHUP or before[number] != signal.SIG_IGN:
                signal.signal(number, stop)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Signals within this context come after it, to the handlers that were set before it.

    Ray's library sets handlers of its own, which print a stack and end the process.
    """
    before = {number: signal.getsignal(number) for number in NUMBERS}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, NUMBERS)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def obeyed(line: str = ANEW) -> Callable[[Callable[P, int]], Callable[P, int]]:
    """A decorator of a ``main``: a signal that it does not catch itself ends it with ``line`` and :data:`STATUS`."""

    def decorate(main: Callable[P, int]) -> Callable[P, int]:
        @functools.wraps(main)
        def command(*args: P.args, **keywords: P.kwargs) -> int:
            try:
                with calling():
                    return main(*args, **keywords)
            except KeyboardInterrupt:
                print(line, file=sys.stderr)
                return STATUS

        return command

    return decorate


def ignore_in_child() -> None:
    """In a process of a pool: its parent, which a terminal tells as well, ends it."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _is_terminal(stream: int) -> bool:
    try:
        return os.isatty(stream)
    except OSError:
        return False


def _unplug(terminals: list[int]) -> None:
    """Let what is written to a terminal that is closed go nowhere: each line would be an error."""
    for stream in terminals:
        if not _is_terminal(stream):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream)
            os.close(nowhere)
