"""Studies in a database: SQLite, and a real PostgreSQL where its server and psycopg are installed."""

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data.held_ports import held_ports
from tests.faults.chain import Chain
from tests.faults.kinds import IN_A_DATABASE, KILLED, Fault, reach, signalled

BIN = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None, key=lambda path: int(path.parent.name))
"""Where Debian's package puts the server's programs."""


def available() -> bool:
    """Whether a PostgreSQL can be started here, and psycopg can reach it."""
    try:
        import psycopg  # noqa: F401
    except ImportError:
        return False
    return BIN is not None


class Server:
    """A PostgreSQL of our own on loopback, which may be killed and started again."""

    def __init__(self) -> None:
        made = subprocess.run(as_nobody("mktemp", "-d"), capture_output=True, text=True, check=True)
        self.folder = Path(made.stdout.strip())
        subprocess.run(self._words("initdb", "-U", "anna", "--auth=trust"), capture_output=True, check=True)
        (self.port,), self._held = held_ports(1)
        self.start()

    @property
    def url(self) -> str:
        """For ``--storage``."""
        return f"postgresql+psycopg://anna@127.0.0.1:{self.port}/postgres"

    def _words(self, program: str, *more: str) -> list[str]:
        assert BIN is not None
        return as_nobody(str(BIN / program), "-D", str(self.folder / "data"), *more)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        (self.folder / "data" / "postmaster.pid").unlink(missing_ok=True)
        where = ["-h", "127.0.0.1", "-p", str(self.port)]
        words = self._words("postgres", *where, "-k", str(self.folder))
        self.process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while subprocess.run([str(BIN / "pg_isready"), *where, "-t", "1"], capture_output=True).returncode:  # type: ignore[operator]
            assert self.process.poll() is None, "PostgreSQL does not start"
            time.sleep(0.1)

    def kill(self) -> None:
        """Kill it and all its processes."""
        children = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True).stdout.split()
        for pid in [self.process.pid, *map(int, children)]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()
        time.sleep(1)

    def close(self) -> None:
        """End it, and delete its files."""
        self.process.send_signal(signal.SIGINT)  # do not wait for open connections
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def as_nobody(*words: str) -> list[str]:
    """The server refuses to run as root."""
    drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    return [*drop, *words]


@contextmanager
def postgresql() -> Iterator[Server]:
    """A server for the length of the block."""
    server = Server()
    try:
        yield server
    finally:
        server.close()


def server_faults(server: Server) -> list[Fault]:
    """What may happen to a database server."""

    def killed(chain: Chain, rng: random.Random) -> None:
        session = chain.start()
        reach(session, chain, "training", rng)
        server.kill()
        late = session.end() == 0
        chain.met(session, 1, 2, 0, says="" if late else "the same command")
        server.start()

    def away(chain: Chain, rng: random.Random) -> None:
        server.kill()
        try:
            chain.refused("cannot be opened")
        finally:
            server.start()

    training = signalled(signal.SIGKILL, "training", KILLED)
    return [
        Fault("driver killed, PostgreSQL", "SIGKILL while a trial trains", training, 1, 2),
        Fault("PostgreSQL killed", "SIGKILL while a trial trains; then started again", killed, 1, 2),
        Fault("PostgreSQL away", "killed before the command", away),
    ]


def chains(place: Path, cache: Path) -> Iterator[tuple[list[Fault], Chain]]:
    """The faults of each database, and a study in it."""
    for name in ("sqlite", "postgresql"):
        (place / name).mkdir()
    url = f"sqlite:///{place / 'sqlite' / 'study.db'}"
    yield IN_A_DATABASE, Chain(place / "sqlite", cache, storage=url)
    if available():
        with postgresql() as server:
            yield server_faults(server), Chain(place / "postgresql", cache, storage=server.url)
