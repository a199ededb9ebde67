"""Arrow shards: a folder of IPC files and an ``index.json`` that describes them.

A shard holds scenes of one split, uncompressed, in one record batch, so that a reader sees its columns
without a copy. ``data/writing.py`` writes them.
"""

import dataclasses
import hashlib
import posixpath
from dataclasses import dataclass

import pyarrow as pa
from pyarrow import fs

from data import index_file, places
from data.index_file import SCHEMA_VERSION
from data.places import filesystem
from data.source import EVERYTHING

INDEX = "index.json"

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


def schema(size: tuple[int, int]) -> pa.Schema:
    """The columns of a shard with scenes of ``size`` = (H, W)."""
    return pa.schema(
        {
            "index": pa.int64(),
            "image": pa.fixed_shape_tensor(pa.uint8(), [*size, 3]),
            "label": pa.fixed_shape_tensor(pa.uint8(), list(size)),
            "ground_material": pa.string(),
            "objects": _OBJECTS,
        }
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
        """The index in ``folder``. Raises ValueError where there is none, or one that is damaged or of another version.

        An index of version 1, which has no checksum of itself, is read as well.
        """
        files, path = filesystem(folder)
        try:
            fields = index_file.decode(_content(files, posixpath.join(path, INDEX)))
        except (OSError, ValueError) as error:
            raise ValueError(f"{places.shown(folder)} has no readable {INDEX} ({error}); {_remedy(folder)}") from error
        fields["size"] = tuple(fields["size"])
        fields["splits"] = {split: [Shard(**entry) for entry in entries] for split, entries in fields["splits"].items()}
        return cls(folder=folder, **fields)

    def encode(self) -> bytes:
        """The content of ``index.json``."""
        fields = dataclasses.asdict(self)
        del fields["folder"]
        return index_file.encode(fields)

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
        found = files.get_file_info(fs.FileSelector(path, allow_not_found=True))  # one request, however far away
        there = {info.base_name: info for info in found}
        for shard in self.shards(EVERYTHING):
            self._look(shard, there.get(shard.name))
            if deep:
                self.read(shard)

    def read(self, shard: Shard) -> pa.Table:
        """The shard as a table of one chunk.

        Raises ValueError where it cannot be read, its checksum is wrong, or it holds other columns or as many rows.
        """
        files, path = filesystem(self.folder)
        try:
            self._look(shard, files.get_file_info(posixpath.join(path, shard.name)))
            with files.open_input_file(posixpath.join(path, shard.name)) as stream:
                buffer = stream.read_buffer()
        except OSError as error:
            raise ValueError(f"{self._place(shard)} cannot be read ({error}); make it readable") from error
        if hashlib.sha256(buffer).hexdigest() != shard.sha256:
            raise self._damaged(shard, "wrong checksum")
        return self._table(shard, buffer)

    def map(self, shard: Shard, folder: str) -> pa.Table:
        """The shard as a table of one chunk, from its copy in the local ``folder``: pages are read when they are used.

        No checksum is computed. Raises ValueError where the file is missing, of another length, or no such table.
        """
        self._look(shard, fs.LocalFileSystem().get_file_info(posixpath.join(folder, shard.name)))
        try:
            return self._table(shard, pa.memory_map(posixpath.join(folder, shard.name)))
        except OSError as error:
            raise ValueError(f"{folder}/{shard.name} cannot be read ({error}); make it readable") from error

    def _table(self, shard: Shard, content: pa.Buffer | pa.MemoryMappedFile) -> pa.Table:
        try:
            table = pa.ipc.open_file(content).read_all()
        except pa.ArrowInvalid as error:
            raise self._damaged(shard, f"no Arrow file: {error}") from error
        if table.schema != schema(self.size):
            raise self._damaged(shard, f"its columns are not those of scenes of {self.size[0]} x {self.size[1]} pixels")
        if table.num_rows != shard.rows or table.column("index").num_chunks != 1:
            raise self._damaged(shard, f"it has {table.num_rows} scenes instead of {shard.rows}")
        return table

    def _look(self, shard: Shard, info: fs.FileInfo | None) -> None:
        """Raise ValueError unless ``info`` is of a file of the length of ``shard``."""
        if info is None or info.type == fs.FileType.NotFound:
            raise ValueError(f"{self._place(shard)} is missing; {_remedy(self.folder)}")
        if info.type != fs.FileType.File:
            raise ValueError(f"{self._place(shard)} cannot be read (it is no file); {_remedy(self.folder)}")
        if info.size != shard.bytes:
            size = f"{info.size} bytes instead of {shard.bytes}"
            raise ValueError(f"{self._place(shard)} has {size}; {_remedy(self.folder)}")

    def _place(self, shard: Shard) -> str:
        return places.shown(places.inside(self.folder, shard.name))

    def _damaged(self, shard: Shard, why: str) -> ValueError:
        return ValueError(f"{self._place(shard)} is damaged ({why}); {_remedy(self.folder)}")


def _remedy(folder: str) -> str:
    return f"delete {places.shown(folder)} and convert the data again"


def _content(files: fs.FileSystem, path: str) -> bytes:
    """A small file's bytes. Raises ValueError for what is no file, which might never end, OSError."""
    info = files.get_file_info(path)
    if info.type != fs.FileType.File:
        raise ValueError("there is none" if info.type == fs.FileType.NotFound else "it is no file")
    if info.size > index_file.LARGEST:
        raise ValueError(f"it has {info.size} bytes")
    with files.open_input_stream(path, compression=None) as stream:
        return stream.read()


def exists(folder: str) -> bool:
    """Whether ``folder`` has an index, which is written after all shards. Raises ValueError if only shards are left."""
    files, path = filesystem(folder)
    if files.get_file_info(posixpath.join(path, INDEX)).type != fs.FileType.NotFound:
        return True
    inside = files.get_file_info(fs.FileSelector(path, allow_not_found=True)) if _is_local(files) else []
    if any(info.base_name.endswith(".arrow") for info in inside):
        raise ValueError(f"{places.shown(folder)} has shards and no {INDEX}, which somebody deleted; {_remedy(folder)}")
    return False


def _is_local(files: fs.FileSystem) -> bool:
    return isinstance(files, fs.LocalFileSystem)
