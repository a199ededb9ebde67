"""Before the first trial on several nodes: each is asked whether it can do its part, and those that cannot are named.

A node writes its results, reads its shards and runs its code by itself, so what works on the driver's node proves
nothing. One task per node looks at the folder of the study, the shards, the packages, the sources, the GPUs and the
shared memory; a node that joins later is asked the same. A cluster of one node is the driver's own: nothing is asked.
"""

import contextlib
import hashlib
import os
import platform
import shutil
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from rich.console import Console

from data import shards, store
from data.shards import ShardIndex
from study import results_folder
from study.cluster import ray_runtime
from study.results_folder import ROOT, StudyFolder

SOURCES = ("data", "search_spaces", "study", "trainables")
"""The packages whose files must be the same on all nodes."""

PATIENCE = 660.0
"""Seconds that a node has for its answer: Ray gives the packages of a job 600 to be installed there first."""

MARKER = ".preflight-"
"""How the folders begin in which nodes leave their marks."""

LOOK_EVERY = 5.0
"""Seconds between two looks for nodes that have joined."""

_DRIVER = "driver"


@dataclass(frozen=True)
class Findings:
    """What a process says of the node that it runs on."""

    versions: dict[str, str]
    """Python's, and those of the packages that results depend on."""
    sources: str
    """Hash of the program's own files."""
    folder: str | None
    """Why the study's folder cannot be used from here."""
    data: list[str]
    """Why shards cannot be read here, one line per data set."""
    gpus: int
    """GPUs that torch sees."""
    shared_memory: int
    """Size of /dev/shm in bytes."""


def look(marker: str, token: str, name: str, indexes: Sequence[ShardIndex]) -> Findings:
    """Look at this node: in ``marker`` leave ``token`` under ``name``, and find the driver's there."""
    import torch

    memory = os.statvfs("/dev/shm")
    versions = {"python": platform.python_version(), **_public(results_folder.versions())}
    del versions["clevrtune"]  # its sources say more, and need not be installed
    return Findings(
        versions,
        sources_digest(ROOT),
        _folder_fault(Path(marker), token, name),
        [fault for index in indexes if (fault := _data_fault(index))],
        torch.cuda.device_count(),
        memory.f_frsize * memory.f_blocks,
    )


def _public(versions: Mapping[str, str]) -> dict[str, str]:
    """Versions without what follows ``+``: a head without GPUs may well have torch's CPU build."""
    return {package: version.partition("+")[0] for package, version in versions.items()}


def sources_digest(root: Path) -> str:
    """Hash of the Python files of our packages in the checkout ``root``."""
    digest = hashlib.sha256()
    for path in sorted(path for package in SOURCES for path in (root / package).rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _folder_fault(marker: Path, token: str, name: str) -> str | None:
    share = "give --results a folder that all nodes share"
    try:
        seen = (marker / _DRIVER).read_text() == token
    except OSError:
        seen = False
    if not seen:
        return f"does not see what the driver writes to {marker.parent}, which may be a disk of its host only; {share}"
    try:
        (marker / name).write_text(token)
    except OSError as error:
        return f"cannot write to {marker.parent} ({error.strerror}); let the user that runs Ray there do so, or {share}"
    return None


def _data_fault(index: ShardIndex) -> str | None:
    try:
        if ShardIndex.load(index.folder).fingerprint != index.fingerprint:
            return f"has other images in {index.folder} than the driver; give --cache a folder that all nodes share"
        index.verify(deep=False)
        files, path = shards.filesystem(index.folder)
        with files.open_input_file(f"{path}/{index.shards(shards.EVERYTHING)[0].name}") as stream:
            stream.read(1)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0].partition(";")[0]
        if "://" in index.folder:
            return f"cannot read shards: {reason}; give this node the credentials and the way to {index.folder}"
        return f"cannot read shards: {reason}; give --cache a folder that all nodes share, or one on s3:// or gs://"
    return None


def faults(theirs: Findings, ours: Findings, node: Mapping[str, Any], needed: int, gpus: float) -> list[str]:
    """What keeps a node from taking part, each with its remedy; empty if nothing does.

    ``theirs`` are the node's findings and ``ours`` the driver's, ``node`` is its row of ``ray.nodes()``, ``needed``
    the bytes of all shards of the study, and ``gpus`` what each worker of a trial asks for.
    """
    found = [theirs.folder] if theirs.folder else []
    found += theirs.data
    other = [
        f"{package} {theirs.versions.get(package, 'missing')} (driver: {version})"
        for package, version in ours.versions.items()
        if theirs.versions.get(package) != version
    ]
    if other:
        found.append(f"has {', '.join(other)}; install there what the driver has")
    if theirs.sources != ours.sources:
        found.append(
            f"has other files of this program in {ROOT}; bring that checkout to the driver's state, "
            "or send the study with study/submit.py, which takes them along"
        )
    promised = node["Resources"].get("GPU", 0.0)
    if gpus > 0 and theirs.gpus < promised:  # fewer than there are may be promised on purpose
        found.append(
            f"offers {promised:g} GPUs of which torch sees {theirs.gpus}; mend its driver or its torch, "
            f"or start its Ray with --num-gpus {theirs.gpus}"
        )
    if not node["Resources"].get("CPU"):
        return found  # a head that holds the driver only: no trial reads there, and what it loads it may spill
    room = node["Resources"].get("object_store_memory", 0.0)
    large = int(needed / store.USABLE * 1.05)
    if theirs.shared_memory * store.USABLE < needed:
        found.append(
            f"has {theirs.shared_memory >> 20} MiB of shared memory for {_mib(needed)} MiB of shards; "
            f"start its container with --shm-size {_mib(large)}m or more"
        )
    elif room * store.USABLE < needed:
        found.append(
            f"has an object store of {_mib(room)} MiB for {_mib(needed)} MiB of shards, and at most "
            f"{store.USABLE:.0%} may be used; start its Ray with --object-store-memory {large}"
        )
    return found


def _mib(size: float) -> str:
    return f"{size / 2**20:.0f}"


class Round:
    """One question to some nodes, all at a time."""

    def __init__(self, folder: StudyFolder, indexes: Sequence[ShardIndex], nodes: Sequence[Mapping[str, Any]]):
        self._token = uuid.uuid4().hex
        self._marker = folder.path.resolve() / f"{MARKER}{self._token[:8]}"
        self._deadline = time.monotonic() + PATIENCE
        self._marker.mkdir()
        (self._marker / _DRIVER).write_text(self._token)
        self._nodes = {}
        self._indexes = indexes
        for node in nodes:
            pinned = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            asked = ray.remote(num_cpus=0, max_retries=0)(look).options(scheduling_strategy=pinned)
            self._nodes[asked.remote(str(self._marker), self._token, node["NodeID"], indexes)] = node

    def over(self, wait: float = 0.0) -> bool:
        """Whether all have answered, or have had their time; waits for at most ``wait`` seconds."""
        _, silent = ray.wait(list(self._nodes), num_returns=len(self._nodes), timeout=wait)
        return not silent or time.monotonic() > self._deadline

    def faults(self, needed: int, gpus: float) -> list[str]:
        """One line per node that cannot take part; to be called once, when the round is over."""
        ours = look(str(self._marker), self._token, "ours", [])
        lines = []
        for ref, node in self._nodes.items():
            if found := self._faults_of(ref, node, ours, needed, gpus):
                lines.append(f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']}) {'; it '.join(found)}")
        self.close()
        return lines

    def close(self) -> None:
        """Remove the marks."""
        shutil.rmtree(self._marker, ignore_errors=True)

    def _faults_of(
        self, ref: ray.ObjectRef, node: Mapping[str, Any], ours: Findings, needed: int, gpus: float
    ) -> list[str]:
        try:
            theirs = ray.get(ref, timeout=0)
        except ray.exceptions.GetTimeoutError:
            ray.cancel(ref, force=True)
            return [f"has not answered for {PATIENCE:.0f} s; see whether its disks hang, or its packages are too slow"]
        except ray.exceptions.RayError as error:
            if node["NodeID"] not in {other["NodeID"] for other in ray_runtime.alive()}:
                return []  # it has left, and takes no part
            return [
                f"cannot run this program ({_last_line(error)}); it needs the packages of setup.cfg, and the checkout "
                f"at {ROOT} unless the study is sent with study/submit.py"
            ]
        found = faults(theirs, ours, node, needed, gpus)
        if not theirs.folder:
            written = None
            with contextlib.suppress(OSError):  # by its name: what a network disk lists may be some seconds old
                written = (self._marker / node["NodeID"]).read_text()
            if written != self._token:
                here = f"writes to a folder of its own where the driver has {self._marker.parent}"
                found.insert(0, f"{here}; give --results a folder that all nodes share")
        return found


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].strip()[:200] if lines else type(error).__name__


class Preflight:
    """What all nodes of a study are asked: about its folder, its ``data`` (index, splits) and ``gpus`` per worker."""

    def __init__(self, folder: StudyFolder, data: Sequence[tuple[ShardIndex, Sequence[str]]], gpus: float):
        self._folder = folder
        self._indexes = list({index.folder: index for index, _ in data}.values())
        distinct = {
            (index.folder, shard.name): shard.bytes
            for index, splits in data
            for split in splits
            for shard in index.shards(split)
        }
        self._needed = sum(distinct.values())
        self._gpus = gpus
        self.known: set[str] = set()
        """Ids of the nodes that were there at the beginning."""

    def check(self, console: Console) -> None:
        """Ask all nodes, unless there is one only. Raises ValueError with a line for each that cannot take part."""
        for left_over in self._folder.path.glob(f"{MARKER}*"):  # by a study that was killed meanwhile
            shutil.rmtree(left_over, ignore_errors=True)
        nodes = ray_runtime.alive()
        self.known = {node["NodeID"] for node in nodes}
        if len(nodes) == 1:
            return
        console.print(f"asking {len(nodes)} nodes whether they can take part", highlight=False)
        asked = self.ask(nodes)
        while not asked.over(wait=1.0):
            pass
        if lines := self.misfits(asked):
            raise ValueError("\n  ".join([f"{len(lines)} of {len(nodes)} nodes cannot take part:", *lines]))

    def ask(self, nodes: Sequence[Mapping[str, Any]]) -> Round:
        """Begin to ask ``nodes``, rows of ``ray.nodes()``."""
        return Round(self._folder, self._indexes, nodes)

    def misfits(self, asked: Round) -> list[str]:
        """One line per node that cannot take part, when the round is over."""
        return asked.faults(self._needed, self._gpus)


class Newcomers(tune.Callback):
    """Asks the nodes that join while trials run, without waiting for their answers.

    One that cannot take part would lose its trials' work or compute something else, without a word: ``stop`` is
    called with the reason, for the study to end in good order.
    """

    def __init__(self, preflight: Preflight, stop: Callable[[str], None]):
        self._preflight = preflight
        self._stop = stop
        self._known = set(preflight.known)  # loading the data took its time, and nodes may have come meanwhile
        self._round: Round | None = None
        self._looked = time.monotonic()

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_step_begin(self, iteration: int, trials: list, **info: Any) -> None:
        """Ask nodes that have joined, or read their answers; every few seconds."""
        if time.monotonic() - self._looked < LOOK_EVERY:
            return
        self._looked = time.monotonic()
        if self._round is None:
            new = [node for node in ray_runtime.alive() if node["NodeID"] not in self._known]
            if new:
                with contextlib.suppress(OSError):  # a network disk's bad moment must not end a study: the next look
                    self._round = self._preflight.ask(new)
                    self._known |= {node["NodeID"] for node in new}
        elif self._round.over():
            lines, self._round = self._preflight.misfits(self._round), None
            if lines:
                remedy = "take it out of the cluster or mend it; the same command goes on"
                self._stop(f"a node that joined cannot take part: {', and '.join(lines)}; {remedy}")

    def on_experiment_end(self, trials: list, **info: Any) -> None:
        """Leave no marks behind."""
        if self._round is not None:
            self._round.close()
