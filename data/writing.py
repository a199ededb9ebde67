"""Shards on their way to a disk: a folder appears whole or not at all, and what is finished survives a kill.

Shards are written to an unfinished folder beside the place where the set will be, each with a record of what it is;
the folder gets its name when the index is in it. Elsewhere than on a disk they are written in place, the index last.
"""

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import json
import os
import posixpath
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
from pyarrow import fs

from data import index_file
from data.places import filesystem, shown
from data.scenes import Scenes, joined
from data.shards import INDEX, Shard, ShardIndex, Unwritable, exists, schema

SHARD_BYTES = 64 * 10**6
"""Images and labels of a full shard, in bytes."""

_PART = re.compile(r".+\.[0-9a-f]{8}\.part")
_ABANDONED = 7 * 24 * 60 * 60  # seconds without a new shard, after which nobody is expected to go on
_LOCK = "lock"
_RECORD = ".record"
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


@dataclass(frozen=True)
class Written:
    """A finished shard."""

    shard: Shard
    max_objects: int
    """Most objects in one of its scenes."""


@dataclass(frozen=True)
class Facts:
    """What an index says beside its shards; see :class:`data.shards.ShardIndex`."""

    spec: str
    size: tuple[int, int]
    crop: bool = False
    filters: Mapping[str, str] = dataclasses.field(default_factory=dict)
    incomplete: bool = False
    warnings: Sequence[str] = ()
    shard_bytes: int = dataclasses.field(default_factory=lambda: SHARD_BYTES)

    @property
    def rows(self) -> int:
        """Scenes in a full shard."""
        return max(1, self.shard_bytes // (4 * self.size[0] * self.size[1]))

    @property
    def digest(self) -> str:
        """Tells conversions whose shards would have other bytes from each other."""
        return hashlib.sha256(f"{self.spec} {self.size} {self.rows} {pa.__version__}".encode()).hexdigest()[:8]


def write(
    folder: str,
    splits: Mapping[str, Iterable[Scenes]],
    facts: Facts,
    say: Callable[[str], None] = lambda line: None,
) -> ShardIndex:
    """Write the scenes of ``splits``, in order, and an index to ``folder``, which appears whole or not at all.

    ``say`` gets a line if another process is at it. Raises Unwritable where nothing can be written, and what ``splits``
    raise.
    """
    with unfinished(folder, facts, say) as part:
        if part is None:
            return ShardIndex.load(folder)
        written: dict[str, list[Written]] = {}
        for split, scenes in splits.items():
            written[split] = []
            for number, chunk in enumerate(_rechunk(scenes, facts.rows)):
                written[split].append(write_shard(part, index_file.shard_name(split, number), chunk))
        return publish(folder, part, written, facts)


@contextlib.contextmanager
def unfinished(
    folder: str, facts: Facts, say: Callable[[str], None] = lambda line: None, keep: bool = False
) -> Iterator[str | None]:
    """Where to write the shards of ``folder``; this process alone does so. None if ``folder`` is complete.

    While another process writes them, ``say`` gets a line, and this one waits. After an error nothing is left, nor
    after an interrupt, unless it shall ``keep`` what is finished. Raises Unwritable.
    """
    files, path = filesystem(folder)
    lock: BinaryIO | None = None
    part, ours = folder, False
    try:
        if isinstance(files, fs.LocalFileSystem):
            part = f"{path}.{facts.digest}.part"
            os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
            _sweep(files, os.path.dirname(path) or ".", part)
            lock = _locked(part, path, say)
            if lock is None and exists(path):
                yield None
                return
            if lock is None:  # a disk without locks: what another process writes meanwhile has the same bytes
                part = f"{path}.{uuid.uuid4().hex[:8]}.part"
            ours = True
            os.makedirs(part, exist_ok=True)
        else:
            files.create_dir(path, recursive=True)
        yield part
    except OSError as error:
        _discard(files, part, ours)
        raise Unwritable(
            f"{shown(folder)} cannot be written ({shown(str(error))}); make room there, or choose another --cache"
        ) from error
    except Exception:
        _discard(files, part, ours)
        raise
    except BaseException:
        _discard(files, part, ours and not keep)
        raise
    finally:
        if lock is not None:
            lock.close()


def _discard(files: fs.FileSystem, part: str, ours: bool) -> None:
    if ours and files.get_file_info(part).type == fs.FileType.Directory:
        with contextlib.suppress(OSError):
            files.delete_dir(part)


def _locked(part: str, path: str, say: Callable[[str], None]) -> BinaryIO | None:
    """The lock of the unfinished folder ``part``, which ends with this process.

    None if ``path`` is complete when it is free, or where the disk has no locks.
    """
    waiting = False
    while not exists(path):
        os.makedirs(part, exist_ok=True)
        try:
            lock = open(os.path.join(part, _LOCK), "ab")
        except FileNotFoundError:
            continue  # the other process has just given the folder its name
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            there = os.stat(lock.name)
            if (there.st_dev, there.st_ino) == (os.fstat(lock.fileno()).st_dev, os.fstat(lock.fileno()).st_ino):
                return lock
        except FileNotFoundError:
            pass
        except BlockingIOError:
            if not waiting:
                say(f"another process writes {path}; waiting for it")
            waiting = True
            time.sleep(0.2)
        except OSError as error:
            lock.close()
            if error.errno in _NO_LOCKS:
                return None
            raise
        lock.close()
    return None


def _sweep(files: fs.FileSystem, folder: str, own: str) -> None:
    """Delete unfinished writes in ``folder``, but for ``own``, to which nothing was added for a week."""
    for info in files.get_file_info(fs.FileSelector(folder)):
        if info.type != fs.FileType.Directory or not _PART.fullmatch(info.base_name) or info.path == own:
            continue
        if time.time() - info.mtime_ns / 1e9 > _ABANDONED:
            with contextlib.suppress(OSError):  # not ours to delete, or another process deletes it now
                files.delete_dir(info.path)


def publish(folder: str, part: str, written: Mapping[str, Sequence[Written]], facts: Facts) -> ShardIndex:
    """Write the index of all shards, which lie in ``part``, and give that folder its name. Raises OSError."""
    splits = {split: [one.shard for one in each] for split, each in written.items()}
    digests = {split: [dataclasses.asdict(shard) for shard in shards] for split, shards in splits.items()}
    index = ShardIndex(
        folder=folder,
        spec=facts.spec,
        size=facts.size,
        crop=facts.crop,
        filters=dict(facts.filters),
        splits=splits,
        counts={split: sum(shard.rows for shard in shards) for split, shards in splits.items()},
        incomplete=facts.incomplete,
        warnings=list(facts.warnings),
        max_objects=max((one.max_objects for each in written.values() for one in each), default=0),
        fingerprint=index_file.fingerprint(facts.spec, digests),
    )
    files, path = filesystem(part)
    for info in files.get_file_info(fs.FileSelector(path)):
        if info.base_name.endswith((_RECORD, ".partial")):
            files.delete_file(info.path)
    with files.open_output_stream(posixpath.join(path, INDEX), compression=None) as stream:
        stream.write(index.encode())
    if part != folder:
        target = filesystem(folder)[1]
        try:
            os.rename(path, target)
        except OSError:
            if not exists(target):  # else a process on another host has written the same content there
                raise
            files.delete_dir(path)
        with contextlib.suppress(FileNotFoundError):  # deleted last: one that waits would take a new one for free
            os.unlink(os.path.join(target, _LOCK))
    return ShardIndex.load(folder)


def _rechunk(scenes: Iterable[Scenes], rows: int) -> Iterator[Scenes]:
    """The same scenes in chunks of ``rows``; the last may be shorter."""
    waiting: list[Scenes] = []
    count = 0
    for batch in scenes:
        while len(batch.index):
            waiting.append(batch[: rows - count])
            batch = batch[rows - count :]
            count += len(waiting[-1].index)
            if count == rows:
                yield joined(waiting)
                waiting, count = [], 0
    if waiting:
        yield joined(waiting)


def write_shard(folder: str, name: str, scenes: Scenes) -> Written:
    """Write one file to ``folder``; on a disk it appears whole or not at all. Raises OSError."""
    files, path = filesystem(folder)
    columns = schema(scenes.images.shape[1:3])
    batch = pa.record_batch(
        {
            "index": pa.array(scenes.index, pa.int64()),
            "image": pa.FixedShapeTensorArray.from_numpy_ndarray(scenes.images),
            "label": pa.FixedShapeTensorArray.from_numpy_ndarray(scenes.labels),
            "ground_material": pa.array([scene["ground_material"] for scene in scenes.metadata], pa.string()),
            "objects": pa.array([scene["objects"] for scene in scenes.metadata], columns.field("objects").type),
        }
    )
    final = partial = posixpath.join(path, name)
    local = isinstance(files, fs.LocalFileSystem)
    if local:
        partial = f"{final}.{uuid.uuid4().hex[:8]}.partial"
    with files.open_output_stream(partial, compression=None) as stream:
        sink = _Hashing(stream)
        with pa.ipc.new_file(pa.PythonFile(sink, mode="w"), batch.schema) as writer:
            writer.write_batch(batch)
    if local:
        os.replace(partial, final)
    shard = Shard(name, batch.num_rows, sink.size, sink.digest.hexdigest())
    return Written(shard, max((len(scene["objects"]) for scene in scenes.metadata), default=0))


class _Hashing:
    """A stream that computes the checksum of what passes: the whole file never lies in memory a second time."""

    closed = False

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.digest = hashlib.sha256()
        self.size = 0

    def write(self, content: Any) -> int:
        """Write bytes or a buffer."""
        self._stream.write(content)
        self.digest.update(content)
        size = len(memoryview(content))
        self.size += size
        return size

    def flush(self) -> None:
        """The stream flushes when it closes."""

    def close(self) -> None:
        """Left to the one who has opened the stream."""


def gathered(batches: Iterable[Scenes], rows: int, size: tuple[int, int]) -> Scenes:
    """Up to ``rows`` scenes at ``size`` = (H, W) in arrays that are allocated once."""
    index = np.empty(rows, np.int64)
    images = np.empty((rows, *size, 3), np.uint8)
    labels = np.empty((rows, *size), np.uint8)
    metadata: list[Mapping[str, Any]] = []
    for batch in batches:
        some = slice(len(metadata), len(metadata) + len(batch.index))
        index[some], images[some], labels[some] = batch.index, batch.images, batch.labels
        metadata += batch.metadata
    return Scenes(index, images, labels, metadata)[: len(metadata)]


def record(folder: str, written: Written, digest: str) -> None:
    """Remember a finished shard beside it, for a process that goes on. Raises OSError."""
    files, path = filesystem(folder)
    fields = {**dataclasses.asdict(written.shard), "max_objects": written.max_objects, "conversion": digest}
    with files.open_output_stream(posixpath.join(path, f"{written.shard.name}{_RECORD}"), compression=None) as stream:
        stream.write(json.dumps(fields).encode())


def records(folder: str) -> int:
    """Shards in the unfinished ``folder`` that an earlier process has recorded."""
    files, path = filesystem(folder)
    return sum(info.base_name.endswith(_RECORD) for info in files.get_file_info(fs.FileSelector(path)))


def recorded(folder: str, name: str, rows: int, digest: str) -> Written | None:
    """The shard ``name`` with ``rows`` scenes if an earlier process has finished it, by its checksum."""
    files, path = filesystem(folder)
    try:
        with files.open_input_stream(posixpath.join(path, f"{name}{_RECORD}"), compression=None) as stream:
            fields = json.loads(stream.read())
        shard = Shard(name, rows, fields["bytes"], fields["sha256"])
        written = Written(shard, fields["max_objects"])
        if fields["conversion"] != digest or fields["rows"] != rows or type(written.max_objects) is not int:
            return None
        with files.open_input_file(posixpath.join(path, name)) as stream:
            if stream.size() != shard.bytes or hashlib.sha256(stream.read_buffer()).hexdigest() != shard.sha256:
                return None
        return written
    except (OSError, ValueError, KeyError, TypeError):
        return None
