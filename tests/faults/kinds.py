"""The faults that strike while the command runs: signals, kills, servers and disks that go away."""

import os
import pty
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from study.results_folder import ROOT
from tests.faults.chain import Chain
from tests.faults.session import Session, command_line

Inject = Callable[[Chain, random.Random], None]

GOES_ON = "the same command goes on from here"
KILLED = -signal.SIGKILL

OF_RAY = re.compile("ray::(IDLE|DashboardAgent|RuntimeEnvAgent)")
"""Processes of Ray that do no work of ours."""

AGENT = "ray::RuntimeEnvAgent"


@dataclass(frozen=True)
class Fault:
    """A fault: what it is to people, how it is made, and how often."""

    kind: str
    how: str
    inject: Inject
    times: int = 1
    trials: int = 1
    """how many trials more the command asks for"""


def reach(session: Session, chain: Chain, moment: str, rng: random.Random) -> None:
    """Wait for a ``moment`` of the command, and then for a random time within it."""
    first = len(chain.trials()) if moment == "training" else 0
    match moment:
        case "begin":
            time.sleep(rng.uniform(0.7, 2.0))  # Python itself takes the first half second
        case "data":
            session.says("slot_attention on")
            time.sleep(rng.uniform(0, 3))
        case "training":
            last = max((trial.number for trial in chain.trials() if trial.state.is_finished()), default=-1)
            session.until(lambda: len(chain.checkpoints(min(first, last + 1))) > 0)
            time.sleep(rng.uniform(0, 0.3))
        case "scoring":
            session.until(lambda: newer(chain, "finalists.json", session))
            time.sleep(rng.uniform(0, 2))
        case "report":
            session.until(lambda: newer(chain, "best.json", session))
            time.sleep(rng.uniform(0, 0.2))
        case "any":
            time.sleep(rng.uniform(1, 25))


def newer(chain: Chain, name: str, session: Session) -> bool:
    """Whether the session has written a file of the study."""
    path = chain.folder / name
    return path.exists() and path.stat().st_mtime > session.begun


def signalled(number: int, moment: str, *statuses: int, says: str = GOES_ON, group: bool = False) -> Inject:
    """A signal at a moment; where it comes too late, the command is complete."""

    def inject(chain: Chain, rng: random.Random) -> None:
        if moment in ("scoring", "report"):  # else there is nothing to score
            (chain.folder / "evaluation.parquet").unlink(missing_ok=True)
        session = chain.start()
        reach(session, chain, moment, rng)
        session.send(number, group=group)
        late = session.end() == 0
        chain.met(session, *statuses, 0, says="" if late or number == signal.SIGKILL else says)

    return inject


def twice(chain: Chain, rng: random.Random) -> None:
    """Ctrl-C, and again before the first has had its effect."""
    session = chain.start()
    reach(session, chain, "training", rng)
    session.send(signal.SIGINT)
    time.sleep(0.3)
    session.send(signal.SIGINT)
    late = session.end() == 0
    chain.met(session, 130, 0, says="" if late else "interrupted: nothing is lost")


def servant(name: str, moment: str, *statuses: int, says: str = "") -> Inject:
    """SIGKILL to one of Ray's processes."""

    def inject(chain: Chain, rng: random.Random) -> None:
        session = chain.start()
        reach(session, chain, moment, rng)
        found = [pid for pid in session.servants(name) if name == AGENT or not OF_RAY.search(command_line(pid))]
        if found:
            os.kill(rng.choice(found), signal.SIGKILL)
        late = session.end() == 0
        chain.met(session, *statuses, 0, says="" if late else says)

    return inject


def asleep(name: str | None) -> Inject:
    """SIGSTOP to the driver, or to a worker, and SIGCONT after some seconds: a laptop that was closed."""

    def inject(chain: Chain, rng: random.Random) -> None:
        session = chain.start()
        reach(session, chain, "training", rng)
        pids = session.servants(name) if name else [session.pid]
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for pid in pids:
                if command_line(pid):
                    os.kill(pid, number)
            time.sleep(8 if number == signal.SIGSTOP else 0)
        chain.met(session, 0)

    return inject


def reader_gone(chain: Chain, rng: random.Random) -> None:
    """What reads the output ends: ``| head -1``."""
    session = Session(
        ["bash", "-c", '"$@" 2>&1 | head -1; exit ${PIPESTATUS[0]}', "bash", *chain.words()],
        chain.output(),
        cwd=chain.place,
        **chain.environment,
    )
    chain.met(session, 0)


def terminal_closed(chain: Chain, rng: random.Random) -> None:
    """The terminal that the command runs in is closed."""
    ours, its = pty.openpty()
    output = chain.output()
    seen: list[bytes] = []

    def read() -> None:
        try:
            while part := os.read(ours, 4096):
                seen.append(part)
        except OSError:
            return

    session = Session(
        [sys.executable, "-c", OWN_TERMINAL, os.ttyname(its), *chain.words()],
        output,
        cwd=chain.place,
        **chain.environment,
    )
    os.close(its)
    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reach(session, chain, "training", rng)
    session._known |= set(session.servants(""))
    os.close(ours)  # the last reader: the kernel sends SIGHUP
    chain.met(session, 130, 0)


OWN_TERMINAL = """
import os, sys, fcntl, termios
terminal = os.open(sys.argv[1], os.O_RDWR)
fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
for stream in (0, 1, 2):
    os.dup2(terminal, stream)
os.execv(sys.argv[2], sys.argv[2:])
"""
"""Makes a terminal the controlling one, and becomes the command."""


def time_is_up(chain: Chain, rng: random.Random) -> None:
    """``timeout``, which sends SIGTERM to the whole group, as batch systems do."""
    session = chain.start(before=("timeout", str(round(rng.uniform(10, 25)))))
    chain.met(session, 124, 0)


def second_process(chain: Chain, rng: random.Random) -> None:
    """The same command is typed twice."""
    session = chain.start()
    session.says("slot_attention on")
    time.sleep(1)
    chain.refused("is being run by another process")
    chain.met(session, 0)


def sqlite_held(chain: Chain, rng: random.Random) -> None:
    """Another program holds the SQLite file for twelve seconds."""
    session = chain.start()
    reach(session, chain, "training", rng)
    path = (chain.storage or "").removeprefix("sqlite:///")
    with sqlite3.connect(path, timeout=60) as other:
        other.execute("BEGIN EXCLUSIVE")
        time.sleep(12)
        other.rollback()
    chain.met(session, 0)


def conversion_killed(number: int) -> Inject:
    """A signal while the shards are made, in a cache of its own."""

    def inject(chain: Chain, rng: random.Random) -> None:
        cache = chain.place / "another-cache"
        shutil.rmtree(cache, ignore_errors=True)
        words = [sys.executable, str(ROOT / "data" / "convert.py"), "synthetic:plain-(32,32)", "--cache", str(cache)]
        session = Session(words, chain.output(), cwd=chain.place)
        session.until(lambda: any(cache.glob("*.part/*")))
        time.sleep(rng.uniform(0, 1))
        session.send(number)
        late = session.end() == 0
        chain.met(session, KILLED if number == signal.SIGKILL else 130, 0)
        if number != signal.SIGKILL and not late and "the same command goes on" not in session.output:
            chain.problems.append("no line for people")
        chain.met(chain.start("--cache", str(cache)), 0)

    return inject


def fresh_killed(chain: Chain, rng: random.Random) -> None:
    """``--fresh`` is killed before its first report: the old study is still there."""
    session = chain.start("--fresh")
    session.says("slot_attention on")
    time.sleep(rng.uniform(0, 4))
    session.send(signal.SIGKILL)
    chain.met(session, KILLED)
    if (aside := chain.folder.with_name(f".{chain.name}.before-fresh")).is_dir() and chain.checkpoints(0):
        shutil.rmtree(chain.folder)  # the new one had begun: what the docs say to go back
        aside.rename(chain.folder)


def verb_ended(chain: Chain, rng: random.Random) -> None:
    """SIGTERM to the verbs that only read."""
    for verb in ("report", "compare", "predict"):
        words = {"report": [str(chain.folder)], "compare": [str(chain.folder)] * 2}.get(verb)
        picture = next(chain.folder.glob("pictures/*.png"))
        words = words or [str(chain.folder), str(picture), "--out", str(chain.place / "seen")]
        output = chain.output()
        line = [sys.executable, str(ROOT / "study" / f"{verb}.py"), *words]
        session = Session(line, output, cwd=chain.place, **chain.environment)
        time.sleep(rng.uniform(0.8, 1.5))
        session.send(signal.SIGTERM)
        late = session.end() == 0
        chain.met(session, 130, 0, -signal.SIGTERM, says="" if late else "interrupted: the same command")


def on_one_core(chain: Chain, rng: random.Random) -> None:
    """The command may use one core only."""
    core = min(os.sched_getaffinity(0))
    chain.met(chain.start(before=("taskset", "-c", str(core))), 0)


def small_shared_memory(chain: Chain, rng: random.Random) -> None:
    """A container whose /dev/shm has 40 MB."""
    script = 'mount -t tmpfs -o size=40m none /dev/shm && exec "$@"'
    session = chain.start(before=("unshare", "-m", "bash", "-c", script, "bash"))
    chain.met(session, 0, says="note: /dev/shm is small, so Ray's object store lies in")


def may_mount() -> bool:
    """Whether this process may mount file systems for itself."""
    return subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0


STRIKES = [
    Fault("Ctrl-C", "SIGINT while a trial trains", signalled(signal.SIGINT, "training", 130), 2, 2),
    Fault("Ctrl-C twice", "a second SIGINT 0.3 s after the first", twice, 1, 2),
    Fault("SIGTERM, at the start", "flags and imports", signalled(signal.SIGTERM, "begin", 130, says="interrupted")),
    Fault("SIGTERM, before the first trial", "Ray starts, data load", signalled(signal.SIGTERM, "data", 130)),
    Fault("SIGTERM in training", "while a trial trains", signalled(signal.SIGTERM, "training", 130), 1, 2),
    Fault("SIGTERM in the final stage", "while images are scored", signalled(signal.SIGTERM, "scoring", 130), 2),
    Fault("SIGTERM in the report", "after best.json is written", signalled(signal.SIGTERM, "report", 130)),
    Fault("SIGHUP", "while a trial trains", signalled(signal.SIGHUP, "training", 130), 1, 2),
    Fault("SIGHUP in the final stage", "while images are scored", signalled(signal.SIGHUP, "scoring", 130)),
    Fault("terminal closed", "a real pseudo-terminal, closed while a trial trains", terminal_closed, 1, 2),
    Fault("time is up", "`timeout`: SIGTERM to the whole group, at a random second", time_is_up, 2),
    Fault("driver killed in training", "SIGKILL", signalled(signal.SIGKILL, "training", KILLED), 3, 2),
    Fault("driver killed in the final stage", "SIGKILL", signalled(signal.SIGKILL, "scoring", KILLED), 1),
    Fault("driver killed at any moment", "SIGKILL at a random second", signalled(signal.SIGKILL, "any", KILLED), 4),
    Fault("worker killed", "SIGKILL to a trial's process at a random moment", servant("ray::", "training", 0), 3, 2),
    Fault("raylet killed", "SIGKILL", servant("raylet/raylet", "training", 1, says="stopped: "), 1, 2),
    Fault("GCS killed", "SIGKILL", servant("gcs_server", "training", 1, says="stopped: "), 1, 2),
    Fault("Ray's agent killed", "SIGKILL", servant(AGENT, "training", 1, says="stopped: "), 1, 2),
    Fault("driver asleep", "SIGSTOP for 8 s", asleep(None), 1, 2),
    Fault("worker asleep", "SIGSTOP for 8 s", asleep("ray::"), 1, 2),
    Fault("reader of the output gone", "`| head -1`", reader_gone),
    Fault("two processes on one study", "the command typed twice", second_process),
    Fault("conversion killed", "SIGKILL, then a study on that cache", conversion_killed(signal.SIGKILL)),
    Fault("conversion told to end", "SIGTERM, then a study on that cache", conversion_killed(signal.SIGTERM)),
    Fault("--fresh killed", "SIGKILL before its first report", fresh_killed),
    Fault("report, compare, predict told to end", "SIGTERM at a random moment", verb_ended),
    Fault("one core", "taskset -c", on_one_core),
]

IN_A_DATABASE = [
    Fault("driver killed, SQLite", "SIGKILL while a trial trains", signalled(signal.SIGKILL, "training", KILLED), 2, 2),
    Fault("SQLite held by another program", "BEGIN EXCLUSIVE for 12 s", sqlite_held, 1, 2),
]
