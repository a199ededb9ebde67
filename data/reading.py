"""How a node gets at a shard: all of it into memory, or mapped, so that the system keeps what is used.

Nothing here takes torch: the processes that load shards start sooner.
"""

import contextlib
import fcntl
import hashlib
import posixpath
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data.atomic import replacing
from data.places import HERE, filesystem, inside, is_remote, shown
from data.shards import Shard, ShardIndex

COPIES = f"{HERE}/copies"
"""Where a node keeps shards of remote sets that it reads from files."""

_AT_ONCE = 2**23  # bytes of a copy


@dataclass(frozen=True)
class MappedShard:
    """A shard for which there is no room in memory; processes of one node that map it share its pages."""

    index: ShardIndex
    shard: Shard
    rows: NDArray[np.int64] | None = None
    """Which of its scenes are to be read, (n,); None for all."""

    def check(self) -> None:
        """Read all of it once. Raises ValueError where it is damaged."""
        if is_remote(self.index.folder):
            self._copied()
        else:
            self.index.read(self.shard)

    def table(self) -> pa.Table:
        """Its scenes, read from the disk when they are looked at. Raises ValueError for a missing or short file."""
        return self.index.map(self.shard, self._copied() if is_remote(self.index.folder) else _local(self.index.folder))

    @property
    def _place(self) -> str:
        return shown(inside(self.index.folder, self.shard.name))

    def _copied(self) -> str:
        """The folder with this node's copy, made now unless it is there."""
        folder = Path(COPIES).expanduser() / self.index.fingerprint[:16]
        path = folder / self.shard.name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with open(folder / f"{self.shard.name}.lock", "ab") as lock:
                with contextlib.suppress(OSError):  # a disk without locks: two copies are made, of which one stays
                    fcntl.flock(lock, fcntl.LOCK_EX)
                if not path.exists() or path.stat().st_size != self.shard.bytes:
                    self._copy(path)
        except OSError as error:
            raise ValueError(
                f"{self._place} cannot be copied to {folder} ({error}); make room there, or "
                "give Ray a larger object store"
            ) from error
        return str(folder)

    def _copy(self, path: Path) -> None:
        """Raises OSError, and ValueError where the checksum is wrong."""
        files, source = filesystem(self.index.folder)
        digest = hashlib.sha256()
        with replacing(path) as partial, open(partial, "wb") as copy:
            with files.open_input_stream(posixpath.join(source, self.shard.name), compression=None) as stream:
                while some := stream.read(_AT_ONCE):
                    digest.update(some)
                    copy.write(some)
            if digest.hexdigest() != self.shard.sha256:
                raise ValueError(
                    f"{self._place} is damaged (wrong checksum); delete {shown(self.index.folder)} and convert the "
                    "data again"
                )


def into_memory(index: ShardIndex, shard: Shard, rows: NDArray[np.int64] | None = None) -> tuple[Any, None]:
    """A shard, or some rows, (n,), as a table of one chunk, and None: one can wait for that without fetching the table.

    Raises ValueError for a missing or damaged shard.
    """
    table = index.read(shard)
    return (table if rows is None else table.take(rows).combine_chunks()), None


def to_be_mapped(index: ShardIndex, shard: Shard, rows: NDArray[np.int64] | None = None) -> tuple[Any, None]:
    """A shard of which trials will map all, or look at some rows, (n,), once it is known to be intact, and None."""
    mapped = MappedShard(index, shard, rows)
    mapped.check()
    return mapped, None


def _local(folder: str) -> str:
    return filesystem(folder)[1]
