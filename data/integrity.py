"""Whether shards are what their index says, and what is in them: checksums, counts, label ranges, fingerprint."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import fs
from rich.console import Console

from data import index_file, places, shards
from data.progress import Watched
from data.shards import Shard, ShardIndex
from data.source import EVERYTHING


@dataclass
class SplitReport:
    """What the shards of one split hold."""

    shards: int = 0
    scenes: int = 0
    bytes: int = 0
    highest_label: int = 0
    objects: tuple[int, int] = (0, 0)
    """Fewest and most in a scene."""
    empty: int = 0
    """Scenes whose label map shows no object."""


@dataclass
class Report:
    """What :func:`inspect` found."""

    index: ShardIndex
    splits: dict[str, SplitReport] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    """A line for each shard or number that is not what it should be."""


def inspect(index: ShardIndex, console: Console | None = None) -> Report:
    """Recompute all that the index says: checksums, columns, counts, label ranges, fingerprint."""
    report = Report(index)
    digests: dict[str, list[dict[str, str]]] = {}
    with Watched(f"verifying {index.spec}", sum(index.counts.values()), console or Console(quiet=True)) as watched:
        for split, entries in index.splits.items():
            found = report.splits[split] = SplitReport()
            digests[split] = []
            last = -1
            for shard in entries:
                try:
                    table = index.read(shard)
                    last = _add(found, shard, table, last)
                    digests[split].append({"sha256": shard.sha256})  # read has computed it
                except ValueError as error:
                    report.faults.append(str(error))
                watched.advance(shard.rows)
    report.faults += _sums(report, digests)
    report.faults += _strangers(index)
    return report


def _add(found: SplitReport, shard: Shard, table: pa.Table, last: int) -> int:
    """Add a shard to ``found``; returns the number of its last scene. Raises ValueError for content that cannot be."""
    for name in ("index", "image", "label", "objects"):
        if table.column(name).null_count:
            raise ValueError(f"{shard.name} has scenes without {name!r}; convert the data again")
    (chunk,) = table.column("label").chunks
    labels = chunk.to_numpy_ndarray()  # (n, H, W)
    highest = labels.reshape(len(labels), -1).max(1)
    objects = pc.list_value_length(table.column("objects")).to_numpy()
    if (highest > objects).any():
        scene = int(np.argmax(highest > objects))
        raise ValueError(
            f"{shard.name} has label {highest[scene]} in a scene of {objects[scene]} objects; convert the data again"
        )
    numbers = table.column("index").to_numpy()
    if (np.diff(numbers, prepend=last) <= 0).any():
        raise ValueError(f"{shard.name} has scenes that are not in order, or twice; convert the data again")
    fewest, most = found.objects if found.scenes else (int(objects.min()), 0)
    found.objects = min(fewest, int(objects.min())), max(most, int(objects.max()))
    found.highest_label = max(found.highest_label, int(highest.max()))
    found.empty += int((highest == 0).sum())
    found.scenes += table.num_rows
    found.shards += 1
    found.bytes += shard.bytes
    return int(numbers[-1])


def _sums(report: Report, digests: dict[str, list[dict[str, str]]]) -> Iterator[str]:
    """What the index says of all shards together and is not so; nothing where a shard is damaged, which is said."""
    index = report.index
    if report.faults:
        return
    counts = {split: found.scenes for split, found in report.splits.items()}
    if counts != index.counts:
        yield f"{places.shown(index.folder)} has {counts} scenes, its index says {index.counts}; convert the data again"
    most = max((found.objects[1] for found in report.splits.values()), default=0)
    if most != index.max_objects:
        yield f"{places.shown(index.folder)} has up to {most} objects in a scene, its index says {index.max_objects}"
    if index_file.fingerprint(index.spec, digests) != index.fingerprint:
        yield f"{places.shown(index.folder)} has another fingerprint than its index says; convert the data again"


def _strangers(index: ShardIndex) -> Iterator[str]:
    """Files in the folder that the index does not name."""
    files, path = places.filesystem(index.folder)
    known = {shards.INDEX, *(shard.name for shard in index.shards(EVERYTHING))}
    for info in files.get_file_info(fs.FileSelector(path)):
        if info.base_name not in known:
            yield f"{places.shown(places.inside(index.folder, info.base_name))} is none of its files; delete it"


def show(report: Report) -> int:
    """Print ``report``; returns the exit status: 0 intact, 2 damaged."""
    index = report.index
    for split, found in report.splits.items():
        print(
            f"{split:13} {found.scenes:7,} of {index.counts[split]:7,} scenes  {found.shards:3} shards  "
            f"{found.bytes / 2**20:8.1f} MiB  labels 0 to {found.highest_label}  "
            f"{found.objects[0]} to {found.objects[1]} objects  {found.empty} without one in sight"
        )
    for warning in index.warnings:
        print(f"note: {warning}")
    if index.schema_version < index_file.SCHEMA_VERSION:
        print("note: this index is of an earlier version, without a checksum of itself")
    for fault in report.faults:
        print(f"damaged: {fault}")
    verdict = f"{len(report.faults)} faults" if report.faults else "verified"
    print(f"{index.spec}  fingerprint {index.fingerprint[:16]}  {verdict}")
    print(places.shown(index.folder))
    return 2 if report.faults else 0
