"""Checks of all nodes before the first trial: can each run trials of this study?

Each node writes results, reads shards and runs code itself, so what works on the driver's node proves nothing for
others. One task per node checks the study's folder, the shards, the packages, the sources, the GPUs and the shared
memory. Nodes that join later are checked too. A cluster of one node is the driver's own and is not checked.
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

from data import places, plugins, shards, store
from data.shards import ShardIndex
from study import results_folder
from study.cluster import ray_runtime
from study.display.error_lines import first_line, last_line
from study.display.plain_lines import say
from study.results_folder import PACKAGES, ROOT, StudyFolder

PATIENCE = 660.0
"""Seconds that a node has to answer. Ray may first install a job's packages there, for up to 600 s."""

MARKER = ".preflight-"
"""Prefix of the folders in which nodes write marker files."""

LOOK_EVERY = 5.0
"""Seconds between two checks for nodes that have joined."""

_DRIVER = "driver"


@dataclass(frozen=True)
class Findings:
    """What a process finds out about its node."""

    versions: dict[str, str]
    """Versions of Python and of the packages that results depend on."""
    sources: str
    """Hash of our Python files."""
    folder: str | None
    """Why the study's folder cannot be used from this node, or None."""
    data: list[str]
    """Why shards cannot be read on this node; one line per data set that cannot."""
    gpus: int
    """GPUs that torch sees."""
    shared_memory: int
    """Size of /dev/shm in bytes."""
    own: dict[str, str]
    """Files of --plugins, or of a folder on PYTHONPATH that does the same: path -> hash."""


def look(marker: str, token: str, name: str, indexes: Sequence[ShardIndex], folders: Sequence[Path] = ()) -> Findings:
    """Check this node: find the driver's ``token`` in the folder ``marker``, and write it there to ``name``.

    ``folders`` are those of --plugins.
    """
    import torch

    memory = os.statvfs("/dev/shm")
    versions = {"python": platform.python_version(), **_public(results_folder.versions())}
    del versions["clevrtune"]  # the hash of the sources says more, and a job runs without installing them
    return Findings(
        versions,
        sources_digest(ROOT),
        _folder_fault(Path(marker), token, name),
        [fault for index in indexes if (fault := _data_fault(index))],
        torch.cuda.device_count(),
        memory.f_frsize * memory.f_blocks,
        {
            str(path): hashlib.sha256(path.read_bytes()).hexdigest()
            for folder in folders
            for path in plugins.everything(folder)
        },
    )


def _public(versions: Mapping[str, str]) -> dict[str, str]:
    """Versions without the build after ``+``: a head without GPUs may have torch's CPU build."""
    return {package: version.partition("+")[0] for package, version in versions.items()}


def sources_digest(root: Path) -> str:
    """Hash of the Python files of our packages in the checkout ``root``."""
    digest = hashlib.sha256()
    for path in sorted(path for package in PACKAGES for path in (root / package).rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _folder_fault(marker: Path, token: str, name: str) -> str | None:
    share = "give --results a folder that all nodes share"
    try:
        seen = (marker / _DRIVER).read_text() == token
    except OSError:
        seen = False
    if not seen:
        return f"does not see what the driver writes to {marker.parent}, perhaps a disk of the driver's host; {share}"
    try:
        (marker / name).write_text(token)
    except OSError as error:
        return f"cannot write to {marker.parent} ({error.strerror}); let the user that runs Ray there do so, or {share}"
    return None


def _data_fault(index: ShardIndex) -> str | None:
    try:
        if ShardIndex.load(index.folder).fingerprint != index.fingerprint:
            place = places.shown(index.folder)
            return f"has other images in {place} than the driver; give --cache a folder that all nodes share"
        index.verify(deep=False)
        files, path = shards.filesystem(index.folder)
        with files.open_input_file(f"{path}/{index.shards(shards.EVERYTHING)[0].name}") as stream:
            stream.read(1)
    except (OSError, ValueError) as error:
        reason = first_line(error).partition(";")[0]
        if "://" in index.folder:
            return f"cannot read shards: {reason}; give this node access to {places.shown(index.folder)}"
        return f"cannot read shards: {reason}; give --cache a folder that all nodes share, or one on s3:// or gs://"
    return None


def faults(theirs: Findings, ours: Findings, node: Mapping[str, Any], needed: int, gpus: float) -> list[str]:
    """Why a node cannot run trials of this study, each reason with its remedy; empty if it can.

    ``theirs`` are the node's findings, ``ours`` the driver's. ``node`` is the node's row of ``ray.nodes()``, ``needed``
    the size of all shards of the study in bytes, ``gpus`` the GPUs per worker of a trial.
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
            f"has other source files in {ROOT}; update that checkout to the driver's, "
            "or use study/submit.py, which sends the sources along"
        )
    if lacking := sorted(path for path, state in ours.own.items() if theirs.own.get(path) != state):
        found.append(
            f"does not have {', '.join(lacking[:3])}{' ...' if lacking[3:] else ''} as the driver has; put the folder "
            "of --plugins there, or use study/submit.py, which sends its files along"
        )
    promised = node["Resources"].get("GPU", 0.0)
    if gpus > 0 and theirs.gpus < promised:  # more than promised is fine
        found.append(
            f"offers {promised:g} GPUs of which torch sees {theirs.gpus}; repair its GPU driver or its torch, "
            f"or start its Ray with --num-gpus {theirs.gpus}"
        )
    if not node["Resources"].get("CPU"):
        return found  # a head for the driver only: no trial runs there, and shards that it loads may spill to disk
    room = node["Resources"].get("object_store_memory", 0.0)
    large = int(needed / store.USABLE * 1.05)
    if theirs.shared_memory * store.USABLE < min(needed, room):  # what a store has no room for is read from files
        found.append(
            f"has {theirs.shared_memory >> 20} MiB of shared memory for {_mib(needed)} MiB of shards; "
            f"start its container with --shm-size {_mib(large)}m or more"
        )
    return found


def _mib(size: float) -> str:
    return f"{size / 2**20:.0f}"


class Round:
    """One check of several nodes at the same time."""

    def __init__(self, folder: StudyFolder, indexes: Sequence[ShardIndex], nodes: Sequence[Mapping[str, Any]]):
        self._token = uuid.uuid4().hex
        self._marker = folder.path.resolve() / f"{MARKER}{self._token[:8]}"
        self._deadline = time.monotonic() + PATIENCE
        self._marker.mkdir()
        (self._marker / _DRIVER).write_text(self._token)
        self._nodes = {}
        self._indexes = indexes
        self._own = plugins.used()
        for node in nodes:
            pinned = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            asked: Any = ray.remote(num_cpus=0, max_retries=0)(look).options(scheduling_strategy=pinned)
            found = asked.remote(str(self._marker), self._token, node["NodeID"], indexes, self._own)
            self._nodes[found] = node

    def over(self, wait: float = 0.0) -> bool:
        """Whether all nodes have answered or their time is up; waits for at most ``wait`` seconds."""
        _, silent = ray.wait(list(self._nodes), num_returns=len(self._nodes), timeout=wait)
        return not silent or time.monotonic() > self._deadline

    def faults(self, needed: int, gpus: float) -> list[str]:
        """One line per node that cannot run trials. Call it once, when the round is over."""
        ours = look(str(self._marker), self._token, "ours", [], self._own)
        lines = []
        for ref, node in self._nodes.items():
            if found := self._faults_of(ref, node, ours, needed, gpus):
                lines.append(f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']}) {'; it '.join(found)}")
        self.close()
        return lines

    def close(self) -> None:
        """Remove the marker files."""
        shutil.rmtree(self._marker, ignore_errors=True)

    def _faults_of(
        self, ref: ray.ObjectRef, node: Mapping[str, Any], ours: Findings, needed: int, gpus: float
    ) -> list[str]:
        try:
            theirs = ray.get(ref, timeout=0)
        except ray.exceptions.GetTimeoutError:
            ray.cancel(ref, force=True)
            return [f"has not answered for {PATIENCE:.0f} s; check its disks, or install its packages beforehand"]
        except ray.exceptions.RayError as error:
            if node["NodeID"] not in {other["NodeID"] for other in ray_runtime.alive()}:
                return []  # the node has left the cluster
            return [
                f"cannot run this program ({last_line(error)[:200]}); it needs the packages of setup.cfg, and the "
                f"checkout at {ROOT} unless the study is sent with study/submit.py"
            ]
        found = faults(theirs, ours, node, needed, gpus)
        if not theirs.folder:
            written = None
            with contextlib.suppress(OSError):  # opened by name: a network disk may list its files with a delay
                written = (self._marker / node["NodeID"]).read_text()
            if written != self._token:
                here = f"has another folder than the driver at {self._marker.parent}"
                found.insert(0, f"{here}; give --results a folder that all nodes share")
        return found


class Preflight:
    """The check of a study's nodes: its folder, its ``data`` (index, splits), and its ``gpus`` per worker."""

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
        """Ids of the nodes that were there when :meth:`check` was called."""

    def check(self, console: Console) -> None:
        """Check all nodes, unless there is only one. Raises ValueError with a line for each that cannot run trials."""
        for left_over in self._folder.path.glob(f"{MARKER}*"):  # by a study that was killed during its check
            shutil.rmtree(left_over, ignore_errors=True)
        nodes = ray_runtime.alive()
        self.known = {node["NodeID"] for node in nodes}
        if len(nodes) == 1:
            return
        say(console, f"asking {len(nodes)} nodes whether they can take part")
        asked = self.ask(nodes)
        while not asked.over(wait=1.0):
            pass
        if lines := self.misfits(asked):
            raise ValueError("\n  ".join([f"{len(lines)} of {len(nodes)} nodes cannot take part:", *lines]))

    def ask(self, nodes: Sequence[Mapping[str, Any]]) -> Round:
        """Begin to check ``nodes``, rows of ``ray.nodes()``."""
        return Round(self._folder, self._indexes, nodes)

    def misfits(self, asked: Round) -> list[str]:
        """One line per node that cannot run trials, when the round is over."""
        return asked.faults(self._needed, self._gpus)


class Newcomers(tune.Callback):
    """Checks nodes that join while trials run, without waiting for their answers.

    If a node cannot run trials, ``stop`` is called with the reason, and the study ends in good order. Otherwise trials
    on that node would lose their results or compute with other code, without an error.
    """

    def __init__(self, preflight: Preflight, stop: Callable[[str], None]):
        self._preflight = preflight
        self._stop = stop
        self._known = set(preflight.known)  # nodes may have joined while the data were loaded
        self._round: Round | None = None
        self._looked = time.monotonic()

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_step_begin(self, iteration: int, trials: list, **info: Any) -> None:
        """Every :data:`LOOK_EVERY` seconds: check nodes that have joined, or read their answers."""
        if time.monotonic() - self._looked < LOOK_EVERY:
            return
        self._looked = time.monotonic()
        if self._round is None:
            new = [node for node in ray_runtime.alive() if node["NodeID"] not in self._known]
            if new:
                with contextlib.suppress(OSError):  # a network disk may fail for a moment; the next look tries again
                    self._round = self._preflight.ask(new)
                    self._known |= {node["NodeID"] for node in new}
        elif self._round.over():
            lines, self._round = self._preflight.misfits(self._round), None
            if lines:
                remedy = "remove it from the cluster or repair it; the same command goes on"
                self._stop(f"a node that joined cannot take part: {', and '.join(lines)}; {remedy}")

    def on_experiment_end(self, trials: list, **info: Any) -> None:
        """Remove the marker files of a check that is not over."""
        if self._round is not None:
            self._round.close()
