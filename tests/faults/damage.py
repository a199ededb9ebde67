"""The faults that strike between two runs: what is done to the files of a study, its shards and its surroundings."""

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from data.held_ports import held_ports
from study.search import journal
from tests.faults.chain import Chain, Snapshot
from tests.faults.kinds import KILLED, Fault, Inject, may_mount, reach, small_shared_memory
from tests.faults.session import Session

Damage = Callable[[Chain, random.Random], None]


def goes_on(damage: Damage, says: str = "", *more: str, **environment: str) -> Inject:
    """After the ``damage`` the same command goes on, and says so."""

    def inject(chain: Chain, rng: random.Random) -> None:
        damage(chain, rng)
        chain.met(chain.start(*more, **environment), 0, says=says)

    return inject


def refused(path: str, damage: Damage, says: str, *more: str, **environment: str) -> Inject:
    """After the ``damage`` to the file ``path`` of the study the command is refused; then the file is restored."""

    def inject(chain: Chain, rng: random.Random) -> None:
        with kept(chain.folder / path):
            damage(chain, rng)
            chain.refused(says, *more, **environment)

    return inject


@contextlib.contextmanager
def kept(path: Path) -> Iterator[None]:
    """The file comes back at the end."""
    before = path.read_bytes() if path.is_file() else None
    try:
        yield
    finally:
        if before is not None:
            path.write_bytes(before)


def nothing(chain: Chain, rng: random.Random) -> None:
    """Leave the files as they are."""


def with_journal(change: Callable[[bytes], bytes]) -> Damage:
    """Change the journal's bytes."""

    def damage(chain: Chain, rng: random.Random) -> None:
        path = chain.folder / journal.FILE
        path.write_bytes(change(path.read_bytes()))

    return damage


def torn_after_a_kill(end: bytes, cut: int) -> Inject:
    """The driver is killed while a trial trains, and the end of the journal is torn as well."""

    def inject(chain: Chain, rng: random.Random) -> None:
        session = chain.start()
        reach(session, chain, "training", rng)
        session.send(9)
        late = session.end() == 0
        chain.met(session, KILLED, 0)
        path = chain.folder / journal.FILE
        path.write_bytes((path.read_bytes()[:-cut] if cut and not late else path.read_bytes()) + end)
        chain.met(chain.start(), 0, says="" if late and not end else "are no whole record")

    return inject


def hole(content: bytes) -> bytes:
    """The content with a torn record in its middle."""
    lines = content.splitlines(keepends=True)
    lines[len(lines) // 2] = lines[len(lines) // 2][:10] + b"\0\0\n"
    return b"".join(lines)


def written(name: str, content: bytes | None) -> Damage:
    """Write another content to a file of the study, or delete it."""

    def damage(chain: Chain, rng: random.Random) -> None:
        path = chain.folder / name
        path.unlink() if content is None else path.write_bytes(content)

    return damage


def flipped(pattern: str, where: Callable[[Chain], Path] = lambda chain: chain.folder) -> Damage:
    """Flip a random bit of the newest file of the ``pattern``."""

    def damage(chain: Chain, rng: random.Random) -> None:
        path = max(where(chain).glob(pattern), key=lambda path: (path.stat().st_mtime, str(path)))
        content = bytearray(path.read_bytes())
        content[rng.randrange(len(content) // 4, 3 * len(content) // 4)] ^= 1 << rng.randrange(8)
        path.write_bytes(content)

    return damage


def of_the_best(change: Callable[[Path], object]) -> Damage:
    """Change the checkpoint of the best trial."""

    def damage(chain: Chain, rng: random.Random) -> None:
        best = json.loads((chain.folder / "best.json").read_text())["trial"]
        (path,) = chain.folder.glob(f"trials/trial_{best:04d}/*/step_000000008.pt")
        change(path)

    return damage


def own_cache(chain: Chain) -> Path:
    """A copy of the cache, which may be damaged."""
    cache = chain.place / "own-cache"
    if not cache.exists():
        shutil.copytree(chain.cache, cache)
    return cache


def shard_flipped(chain: Chain, rng: random.Random) -> None:
    """A bit of a shard is another: the command says which, and goes on once the folder is deleted."""
    cache = own_cache(chain)
    flipped("*/train-00000*.arrow", lambda _: cache)(chain, rng)
    session = chain.start("--cache", str(cache))
    chain.met(session, 2, 0)
    if session.end() == 2:
        shutil.rmtree(cache)
        chain.met(chain.start("--cache", str(cache)), 0)


def shards_deleted(chain: Chain, rng: random.Random) -> None:
    """The cache is emptied."""
    cache = own_cache(chain)
    shutil.rmtree(cache)
    chain.met(chain.start("--cache", str(cache)), 0)


def renamed(chain: Chain, rng: random.Random) -> None:
    """The folder of the study has another name."""
    there = chain.folder.with_name(f"{chain.name}-renamed")
    chain.folder.rename(there)
    chain.name = there.name
    chain.met(chain.start(), 0)


def address(chain: Chain, rng: random.Random) -> None:
    """Nothing is at the address, or something that is no Ray, or something that does not speak."""
    (closed,), _held = held_ports(1)
    chain.refused("nothing answers there", "--address", f"127.0.0.1:{closed}")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        chain.refused("nothing answers there", "--address", f"127.0.0.1:{silent.getsockname()[1]}")
    words = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(chain.place)]
    server = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert server.stdout is not None
        port = server.stdout.readline().split("port ")[1].split()[0]
        chain.refused("what answers there is no Ray", "--address", f"127.0.0.1:{port}")
    finally:
        server.kill()
        server.wait()


def head_killed(chain: Chain, rng: random.Random) -> None:
    """The head of a cluster is killed while a trial trains there."""
    (port,), _held = held_ports(1)
    ray = str(Path(sys.executable).with_name("ray"))
    words = [ray, "start", "--head", "--block", f"--port={port}", "--num-cpus", "2", "--include-dashboard", "false"]
    environment = {**chain.environment, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    head = Session(words, chain.output(), cwd=chain.place, **environment)
    try:
        head.says("Ray runtime started")
        session = chain.start("--address", f"127.0.0.1:{port}", RAY_AUTH_MODE="disabled")
        reach(session, chain, "training", rng)
        for pid in head.servants("gcs_server"):
            os.kill(pid, signal.SIGKILL)
        late = session.end() == 0
        chain.met(session, 1, 0, says="" if late else "stopped: the head of the cluster")
    finally:
        head.send(signal.SIGTERM)
        head.end()
        head.left()


def workers_die(chain: Chain, rng: random.Random) -> None:
    """A package of PYTHONPATH keeps workers from starting, and not the driver."""
    folder = chain.place / "broken"
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(
        "import sys\nif 'default_worker.py' in ' '.join(sys.orig_argv):\n"
        "    print('ImportError: libfoo.so.7: cannot open shared object file', file=sys.stderr, flush=True)\n"
        "    import os\n    os._exit(1)\n"
    )
    chain.refused("the last one said: ImportError: libfoo.so.7", PYTHONPATH=str(folder))


def ray_does_not_start(chain: Chain, rng: random.Random) -> None:
    """Ray's temporary folder cannot be written."""
    chain.refused("Ray did not start on this machine", RAY_TMPDIR="/proc/1/nowhere")


def disk_full(chain: Chain, rng: random.Random) -> None:
    """Another study on a disk of 2 MB, which fills up; then the disk is larger."""
    place = chain.place / "disk"
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1500k", "none", str(place)], check=True)
    try:
        (place / "results").mkdir()
        small = Chain(place, chain.cache, name="full", wanted=3, outputs=chain.place, said=chain.said)
        session = small.start()
        small.met(session, 1, 2)
        subprocess.run(["mount", "-o", "remount,size=100m", str(place)], check=True)
        stored = {trial.number: trial for trial in small.trials()}
        small.met(small.start(), 0)
        small.compare(Snapshot({}, {}), stored)
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        small.wanted += 1  # one that is finished writes nothing
        small.refused("cannot be written")
        chain.problems += small.problems
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
    chain.met(chain.start(), 0)


DAMAGES = [
    Fault("torn journal", "the driver killed, and 20 bytes cut off", torn_after_a_kill(b"", 20), 1, 2),
    Fault("torn journal, NUL bytes", "the driver killed, and 512 NUL bytes added", torn_after_a_kill(bytes(512), 0)),
    Fault("journal not UTF-8", "bytes added", goes_on(with_journal(lambda c: c + b"\xff\xfe{"), "no whole record")),
    Fault("hole in the journal", "a line torn", refused(journal.FILE, with_journal(hole), "line "), 1, 0),
    Fault("journal lost", "deleted", refused(journal.FILE, written(journal.FILE, None), "restore"), 1, 0),
    Fault("journal empty", "0 bytes", refused(journal.FILE, written(journal.FILE, b""), "restore"), 1, 0),
    Fault(
        "journal beheaded",
        "first half cut off",
        refused(journal.FILE, with_journal(lambda c: c[len(c) // 2 :]), "line 1"),
        1,
        0,
    ),
    Fault("study.json lost", "deleted", goes_on(written("study.json", None), "study.json was missing")),
    Fault(
        "study.json lost, other configuration",
        "deleted, then --steps 4",
        refused("study.json", written("study.json", None), "steps is 8 there and 4 here", "--steps", "4"),
        1,
        0,
    ),
    Fault("study.json empty", "0 bytes", refused("study.json", written("study.json", b""), "is damaged"), 1, 0),
    Fault("study.json no mapping", "null", refused("study.json", written("study.json", b"null"), "is damaged"), 1, 0),
    Fault("bit of a checkpoint", "one of the best trial's", goes_on(flipped("trials/*/*/step_000000008.pt")), 2),
    Fault("checkpoint lost", "the best trial's, deleted", goes_on(of_the_best(Path.unlink))),
    Fault(
        "checkpoint cut short",
        "the best trial's",
        goes_on(of_the_best(lambda path: os.truncate(path, path.stat().st_size // 2)), "not scored"),
    ),
    Fault("bit of the scores", "of evaluation.parquet", goes_on(flipped("evaluation.parquet"))),
    Fault("scores lost", "evaluation.parquet deleted", goes_on(written("evaluation.parquet", None))),
    Fault("best.json lost", "deleted", goes_on(written("best.json", None))),
    Fault("finalists.json damaged", "half a file", goes_on(written("finalists.json", b'{"finalists": ['))),
    Fault("bit of the weights", "of best/", goes_on(flipped("best/*.safetensors"))),
    Fault("bit of a shard", "one of the training images", shard_flipped),
    Fault("cache lost", "emptied", shards_deleted),
    Fault("folder renamed", "mv", renamed),
    Fault("locale without UTF-8", "LC_ALL=C, PYTHONUTF8=0", goes_on(nothing, "", LC_ALL="C", PYTHONUTF8="0")),
    Fault("no Ray at the address", "closed, silent, and an HTTP server", address),
    Fault("head of a cluster killed", "SIGKILL to its GCS while a trial trains", head_killed, 1, 2),
    Fault("workers that die at their start", "a package on PYTHONPATH", workers_die),
    Fault("Ray that does not start", "its temporary folder cannot be written", ray_does_not_start),
]

WITH_MOUNTS = [
    Fault("full disk, read-only disk", "a file system of 1.5 MB; then mounted read-only", disk_full),
    Fault("small /dev/shm", "40 MB", small_shared_memory),
]


def damages() -> list[Fault]:
    """All that can be made on this machine."""
    return DAMAGES + (WITH_MOUNTS if may_mount() and os.geteuid() == 0 else [])
