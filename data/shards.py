"""Arrow shards: a folder of IPC files and an ``index.json`` that describes them.

A shard holds scenes of one split, uncompressed, in one record batch, so that a reader sees its columns
without a copy.
"""

import contextlib
import dataclasses
import hashlib
import json
import posixpath
import re
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
from pyarrow import fs

from data.scenes import Scenes, joined
from data.source import EVERYTHING

SCHEMA_VERSION = 1
SHARD_BYTES = 64 * 10**6
"""Images and labels of a full shard, in bytes."""

_INDEX = "index.json"
_PART = re.compile(r".+\.[0-9a-f]{8}\.part")
_ABANDONED = 24 * 60 * 60  # seconds without a new shard, after which the writer of a folder is taken for dead
_OBJECTS = pa.list_(
    pa.struct(
        [
            ("shape", pa.string()),
            ("size", pa.string()),
            ("material", pa.string()),
            ("color", pa.string()),
            ("rotation", pa.float64()),  # degrees
        ]
    )
)


class Unwritable(ValueError):
    """The place for shards takes none."""


@dataclass(frozen=True)
class Shard:
    """One file of an index."""

    name: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class ShardIndex:
    """What ``index.json`` says."""

    folder: str
    """Where the shards are: a local path, or a URI such as ``s3://bucket/folder``."""
    spec: str
    """Canonical spec string, see :class:`data.spec.DataSpec`."""
    size: tuple[int, int]
    """(H, W) in pixels."""
    crop: bool
    """Whether only the central square was taken."""
    filters: dict[str, str]
    """How images and labels were resized; empty where they were drawn at ``size``."""
    splits: dict[str, list[Shard]]
    """Shards per split."""
    counts: dict[str, int]
    """Scenes per split."""
    incomplete: bool
    """Whether there are fewer scenes than published: results are not comparable with published ones."""
    warnings: list[str]
    """What a reader of results should know about the data, one line each."""
    max_objects: int
    """Most objects in one scene."""
    fingerprint: str
    """SHA-256 of the spec and the checksums of all shard files, in order; the same wherever these files lie. It is one
    of bytes: a pyarrow that writes them in another way changes it, though no pixel changes."""
    schema_version: int = SCHEMA_VERSION

    @classmethod
    def load(cls, folder: str) -> "ShardIndex":
        """The index in ``folder``. Raises ValueError where there is none, or one of another version."""
        files, path = filesystem(folder)
        try:
            with files.open_input_stream(posixpath.join(path, _INDEX)) as stream:
                fields = json.loads(stream.read())
        except (OSError, json.JSONDecodeError) as error:
            raise ValueError(f"{folder} has no readable {_INDEX} ({error}); convert the data again") from error
        if fields.get("schema_version") != SCHEMA_VERSION:
            raise ValueError(
                f"{folder} has shards of version {fields.get('schema_version')}, this program reads "
                f"{SCHEMA_VERSION}; convert the data again"
            )
        fields["size"] = tuple(fields["size"])
        fields["splits"] = {split: [Shard(**entry) for entry in entries] for split, entries in fields["splits"].items()}
        return cls(folder=folder, **fields)

    def shards(self, split: str) -> list[Shard]:
        """The shards of ``split``; ``all`` is every shard. Raises ValueError for a split without any."""
        if split == EVERYTHING:
            return [shard for shards in self.splits.values() for shard in shards]
        if not self.splits.get(split):
            there = ", ".join(name for name, shards in self.splits.items() if shards)
            raise ValueError(f"{self.spec} has no images in split {split!r}; it has {there}")
        return self.splits[split]

    def rows(self, split: str) -> int:
        """Scenes in ``split``. Raises ValueError for a split without any."""
        return sum(shard.rows for shard in self.shards(split))

    def verify(self, deep: bool = True) -> None:
        """Raise ValueError naming the first shard that is missing, of another length or, if ``deep``, altered."""
        files, path = filesystem(self.folder)
        for shard in self.shards(EVERYTHING):
            info = files.get_file_info(posixpath.join(path, shard.name))
            if info.type != fs.FileType.File:
                raise ValueError(f"{self.folder}/{shard.name} is missing; {self._remedy}")
            if info.size != shard.bytes:
                size = f"{info.size} bytes instead of {shard.bytes}"
                raise ValueError(f"{self.folder}/{shard.name} has {size}; {self._remedy}")
            if deep:
                self.read(shard)

    def read(self, shard: Shard) -> pa.Table:
        """The shard as a table of one chunk. Raises ValueError where it cannot be read or its checksum is wrong."""
        files, path = filesystem(self.folder)
        try:
            with files.open_input_file(posixpath.join(path, shard.name)) as stream:
                buffer = stream.read_buffer()
        except OSError as error:
            raise ValueError(f"{self.folder}/{shard.name} cannot be read ({error}); make it readable") from error
        if hashlib.sha256(buffer).hexdigest() != shard.sha256:
            raise ValueError(f"{self.folder}/{shard.name} is damaged (wrong checksum); {self._remedy}")
        return pa.ipc.open_file(buffer).read_all().combine_chunks()

    @property
    def _remedy(self) -> str:
        return f"delete {self.folder} and convert the data again"


def filesystem(folder: str) -> tuple[fs.FileSystem, str]:
    """The file system of a local path or URI, and the path there. Raises ValueError for a URI of an unknown kind."""
    if "://" not in folder:
        return fs.LocalFileSystem(), folder
    try:
        return fs.FileSystem.from_uri(folder)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{folder} cannot be used ({error}); give a folder, or a URI on s3:// or gs://") from error


def exists(folder: str) -> bool:
    """Whether ``folder`` has an index, which is written after all shards."""
    files, path = filesystem(folder)
    return files.get_file_info(posixpath.join(path, _INDEX)).type == fs.FileType.File


def write(
    folder: str,
    splits: Mapping[str, Iterable[Scenes]],
    *,
    spec: str,
    size: tuple[int, int],
    crop: bool = False,
    filters: Mapping[str, str] | None = None,
    incomplete: bool = False,
    warnings: Sequence[str] = (),
) -> ShardIndex:
    """Write the scenes of ``splits`` and an index to ``folder``, which appears whole or not at all.

    On a local disk the folder is renamed when it is complete, and what killed writers left beside it is deleted after a
    day. Elsewhere the index is written last, and a folder without one does not count. Raises Unwritable where nothing
    can be written.
    """
    files, path = filesystem(folder)
    local = isinstance(files, fs.LocalFileSystem)
    target = f"{path}.{uuid.uuid4().hex[:8]}.part" if local else path
    try:
        files.create_dir(target, recursive=True)
        if local:
            _sweep(files, posixpath.dirname(path))
        written: dict[str, list[Shard]] = {}
        max_objects = 0
        for split, scenes in splits.items():
            written[split] = []
            for number, chunk in enumerate(_rechunk(scenes, max(1, SHARD_BYTES // (4 * size[0] * size[1])))):
                max_objects = max([max_objects, *(len(scene["objects"]) for scene in chunk.metadata)])
                shard = f"{split}-{number:05d}.arrow"
                written[split].append(_write_shard(files, target, shard, chunk))
        content = [spec, *(shard.sha256 for shards in written.values() for shard in shards)]
        index = ShardIndex(
            folder=folder,
            spec=spec,
            size=size,
            crop=crop,
            filters=dict(filters or {}),
            splits=written,
            counts={split: sum(shard.rows for shard in shards) for split, shards in written.items()},
            incomplete=incomplete,
            warnings=list(warnings),
            max_objects=max_objects,
            fingerprint=hashlib.sha256("\n".join(content).encode()).hexdigest(),
        )
        fields = dataclasses.asdict(index)
        del fields["folder"]
        with files.open_output_stream(posixpath.join(target, _INDEX)) as stream:
            stream.write(json.dumps(fields, indent=1).encode())
        if local:
            _rename(files, target, path)
        return ShardIndex.load(folder)
    except OSError as error:
        raise Unwritable(f"{folder} cannot be written ({error}); make room there, or choose another --cache") from error
    finally:
        if local and files.get_file_info(target).type == fs.FileType.Directory:
            files.delete_dir(target)


def _sweep(files: fs.FileSystem, folder: str) -> None:
    """Delete unfinished writes in ``folder`` that are more than a day old."""
    for info in files.get_file_info(fs.FileSelector(folder)):
        if info.type != fs.FileType.Directory or not _PART.fullmatch(info.base_name):
            continue
        if time.time() - info.mtime_ns / 1e9 > _ABANDONED:
            with contextlib.suppress(OSError):  # not ours to delete, or another process deletes it now
                files.delete_dir(info.path)


def _rename(files: fs.FileSystem, source: str, target: str) -> None:
    """Give a written folder its name, unless another process has written the same content there."""
    try:
        files.move(source, target)
    except OSError:
        if not exists(target):
            raise


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


def _write_shard(files: fs.FileSystem, folder: str, name: str, scenes: Scenes) -> Shard:
    """Write one file and describe it."""
    batch = pa.record_batch(
        {
            "index": pa.array(scenes.index, pa.int64()),
            "image": pa.FixedShapeTensorArray.from_numpy_ndarray(scenes.images),
            "label": pa.FixedShapeTensorArray.from_numpy_ndarray(scenes.labels),
            "ground_material": pa.array([scene["ground_material"] for scene in scenes.metadata], pa.string()),
            "objects": pa.array([scene["objects"] for scene in scenes.metadata], _OBJECTS),
        }
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    buffer = sink.getvalue()
    with files.open_output_stream(posixpath.join(folder, name)) as stream:
        stream.write(buffer)
    return Shard(name, batch.num_rows, buffer.size, hashlib.sha256(buffer).hexdigest())
