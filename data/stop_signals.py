"""Ctrl-C, SIGTERM and SIGHUP end every command in the same good order: one line, and status 130.

A job's time is up (SIGTERM), or its terminal closes (SIGHUP): neither is another thing to a study than Ctrl-C.
"""

import contextlib
import errno
import functools
import io
import os
import signal
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TextIO

P = ParamSpec("P")

STATUS = 130
"""The exit status of a command that was ended by a signal, whichever it was."""

UNREAD = 141
"""The exit status of a command whose output nobody reads, as a shell has it: 128 + SIGPIPE."""

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

    def stop(number: int, frame: Any) -> None:
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
                with output_may_end():
                    try:
                        with calling():
                            return main(*args, **keywords)
                    except KeyboardInterrupt:
                        print(line, file=sys.stderr)
                        return STATUS
            except BrokenPipeError:  # as of `| head`: nobody reads the output
                nowhere = os.open(os.devnull, os.O_WRONLY)
                for stream in (1, 2):
                    os.dup2(nowhere, stream)
                return UNREAD

        return command

    return decorate


def ignore_in_child() -> None:
    """In a process of a pool: its parent, which a terminal tells as well, ends it."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def output_may_end(*, pipes: bool = False) -> Iterator[None]:
    """Within this context what is written to a terminal after it was closed is lost, and no error.

    SIGHUP comes as well, but a thread may write before its handler runs. With ``pipes`` the same goes for a pipe whose
    reader has ended.
    """
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (_outliving(stream, pipes) for stream in before)
    try:
        yield
    finally:
        for stream in filter(None, (sys.stdout, sys.stderr)):  # None where a shell has closed it
            stream.flush()
        sys.stdout, sys.stderr = before


class _Outliving(io.FileIO):
    """A terminal or a pipe, which loses what is written to it once nobody is at its other end."""

    def write(self, text: Any, /) -> int:
        try:
            return super().write(text)
        except OSError as error:
            if error.errno not in (errno.EIO, errno.EPIPE):
                raise
            return len(text)


def _outliving(stream: TextIO, pipes: bool) -> TextIO:
    if not isinstance(stream, io.TextIOWrapper) or not (stream.isatty() or (pipes and _is_pipe(stream))):
        return stream
    stream.flush()
    raw = io.BufferedWriter(_Outliving(stream.fileno(), "w", closefd=False))
    lines = stream.isatty() or stream.line_buffering
    return io.TextIOWrapper(raw, encoding=stream.encoding, errors=stream.errors, line_buffering=lines)


def _is_pipe(stream: TextIO) -> bool:
    try:
        mode = os.fstat(stream.fileno()).st_mode
    except OSError:  # a stream that is no file
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
