"""Signals that end a command: real ones, sent to real processes."""

import os
import pty
import signal
import subprocess
import sys
import threading

import pytest

from data import stop_signals
from study.results_folder import ROOT

WAITS = """
import sys, time
from data import stop_signals

@stop_signals.obeyed("ended in good order")
def main():
    print("ready", flush=True)
    time.sleep(60)
    return 0

sys.exit(main())
"""


PRINTS = """
import sys, time
from data import stop_signals

@stop_signals.obeyed()
def main():
    time.sleep(1)
    print("a line")
    return 0

sys.exit(main())
"""

WRITES = """
import signal, sys, time
from data import stop_signals

@stop_signals.obeyed()
def main():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    print("ready", flush=True)
    with stop_signals.output_may_end(pipes={pipes}):
        for stream in 100 * [sys.stdout, sys.stderr]:
            print("a line that may be lost", file=stream, flush=True)
            time.sleep(0.001)
    open("{done}", "w").write("goes on")
    return 7

sys.exit(main())
"""


def start(*before: str, script: str = WAITS, **streams: int) -> subprocess.Popen[str]:
    words = [*before, sys.executable, "-c", script]
    return subprocess.Popen(
        words, cwd=ROOT, text=True, **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    )


@pytest.mark.parametrize("number", stop_signals.NUMBERS)
def test_each_signal_ends_a_command_in_one_line(number):
    process = start()
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == stop_signals.STATUS and said == "ended in good order\n"


def test_nohup_is_left_alone():
    process = start("nohup")
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=1)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == stop_signals.STATUS


def test_a_terminal_that_is_closed_is_no_error():
    """Its lines go nowhere; each would be an OSError."""
    ours, its = pty.openpty()
    process = start(stdout=its, stderr=its)
    os.close(its)
    assert b"ready" in os.read(ours, 100)
    os.close(ours)
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=60) == stop_signals.STATUS


def test_what_is_written_before_the_signal_of_a_closed_terminal_is_no_error_either(tmp_path):
    """A bar is drawn at any time, by a thread of its own, too."""
    ours, its = pty.openpty()
    done = tmp_path / "done"
    process = start(stdout=its, stderr=its, script=WRITES.format(done=str(done), pipes=False))
    os.close(its)
    assert b"ready" in os.read(ours, 100)
    os.close(ours)
    assert process.wait(timeout=60) == 7 and done.read_text() == "goes on"


@pytest.mark.parametrize("pipes", [True, False])
def test_a_reader_that_has_ended_is_an_error_or_none(tmp_path, pipes):
    """``tee`` is killed: a study goes on; a verb that only prints has nobody to print for."""
    done = tmp_path / "done"
    process = start(stderr=subprocess.DEVNULL, script=WRITES.format(done=str(done), pipes=pipes))
    assert process.stdout.readline() == "ready\n"
    process.stdout.close()
    assert process.wait(timeout=60) == (7 if pipes else stop_signals.UNREAD) and done.exists() == pipes


@pytest.mark.parametrize(
    ("shell", "status"), [('"$@" | true; exit ${PIPESTATUS[0]}', 141), ('"$@" >&-', 2), ('"$@" 2>&-', 2)]
)
def test_no_reader_is_no_traceback(shell, status):
    """A verb whose output is small meets the reader that has gone when it flushes; a closed stream is no stream."""
    verb = [sys.executable, ROOT / "study" / "run.py", "--model", "nothing"]
    if status == 141:
        verb = [sys.executable, "-c", PRINTS]
    words = ["bash", "-c", shell, "bash", *verb]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    run = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert run.returncode == status and "Traceback" not in run.stdout + run.stderr, run


def test_the_first_signal_is_told_and_the_second_interrupts():
    told = []
    before = [signal.getsignal(number) for number in stop_signals.NUMBERS]
    with stop_signals.calling(lambda: told.append("first")):
        os.kill(os.getpid(), signal.SIGHUP)
        assert told == ["first"]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    assert told == ["first"]
    assert [signal.getsignal(number) for number in stop_signals.NUMBERS] == before


def test_what_another_library_sets_in_between_does_not_stay():
    with stop_signals.calling():
        ours = signal.getsignal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt), stop_signals.kept():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.pthread_kill(threading.get_ident(), signal.SIGTERM)  # another thread would take it
        assert signal.getsignal(signal.SIGTERM) is ours
