"""Tar archives as they were downloaded: nothing is unpacked that is not read, and nothing by the names in them.

A plain tar is read where it lies. A gzip knows no positions: it is read in one pass, and the files that are needed go
into one temporary file in TMPDIR (about 7 GB for the 50,000 scenes of ``full``), which is deleted with the
:class:`Archive`. The list of them stays there, so that a second start needs no pass.

``tarfile`` takes a damaged header for the end; so the headers are walked here. Format: POSIX.1-2001, pax; GNU tar's
long names.
"""

import contextlib
import errno
import fcntl
import gzip
import hashlib
import json
import os
import re
import stat
import tarfile
import tempfile
import threading
import time
import weakref
import zlib
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from data.atomic import replacing

MOST_BYTES = 8 * 2**20
"""Bytes of the largest file that is read: no picture or JSON of the published kind has a tenth of them."""

_BLOCK = 512
_PIECE = 2**20
_END = bytes(_BLOCK)
_GZIP = b"\x1f\x8b"
_OTHERS = {b"0": "", b"\0": "", b"5": "", b"1": "a link", b"2": "a link", b"3": "a device", b"4": "a device"}
_OTHERS |= {b"6": "a pipe"}
_GROWTH = 50  # a gzip of pictures grows by a hundredth; of JSONs alone, tenfold
_ABANDONED = 24 * 60 * 60  # seconds after which the unpacked copy of a killed process is deleted


class Member(NamedTuple):
    """One file of an archive."""

    name: str
    size: int
    """Bytes."""
    mtime_ns: int
    offset: int
    """Where its bytes begin: in the archive, or in its unpacked copy."""


class Archive:
    """The members of the tar ``path`` whose names without folders match ``wanted``; a gzip of one, too.

    It can be sent to other processes, and other nodes on which ``path`` is the same archive. Raises ValueError, one
    line, for an archive that is damaged or holds what no download does; OSError.
    """

    def __init__(self, path: str, wanted: re.Pattern[str]):
        self.path, self.wanted = path, wanted
        state = os.stat(path)
        if not stat.S_ISREG(state.st_mode):
            raise ValueError(f"{path} is no file; remove it, or give another --data-root")
        identity = f"{os.path.abspath(path)}\n{state.st_size}\n{state.st_mtime_ns}\n{wanted.pattern}"
        self._digest = hashlib.sha256(identity.encode(errors="surrogateescape")).hexdigest()[:24]
        self._lock, self._stream = threading.Lock(), None  # type: tuple[threading.Lock, BinaryIO | None]
        with open(path, "rb") as stream:
            self._packed = stream.read(2) == _GZIP
        self.members = self._listed() if self._packed else self._walked(None)

    def read(self, offset: int, size: int) -> bytes:
        """The bytes of a member. Raises ValueError if they are not there any more, OSError."""
        with self._lock:
            stream = self._stream = self._stream or self._opened()
        parts = []
        while size and (part := os.pread(stream.fileno(), size, offset)):
            parts.append(part)
            offset, size = offset + len(part), size - len(part)
        if size:
            raise ValueError("the archive has become shorter")
        return b"".join(parts)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_stream", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _stream=None, _lock=threading.Lock())

    def _opened(self) -> BinaryIO:
        """What the members are read from."""
        if not self._packed:
            return open(self.path, "rb")
        while True:  # another process may delete its copy just now
            if self._unpack() != self.members:
                raise ValueError("the archive has changed")
            with contextlib.suppress(FileNotFoundError):
                return open(self._copy, "rb")

    @property
    def _copy(self) -> Path:
        return _scratch() / f"{self._digest}.unpacked"

    def _listed(self) -> list[Member]:
        """The members of a gzip: from the list that an earlier pass left, or by a pass."""
        with _scratch_errors():
            there = self._copy.with_suffix(".json")
            try:
                return [Member(*each) for each in json.loads(there.read_bytes())]
            except (OSError, ValueError, TypeError):
                return self._unpack()

    def _unpack(self) -> list[Member]:
        """Make the copy of what is wanted, unless another process has."""
        with _scratch_errors():
            copy, lists = self._copy, self._copy.with_suffix(".json")
            with open(copy.with_suffix(".lock"), "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if copy.exists() and lists.exists():
                    return [Member(*each) for each in json.loads(lists.read_bytes())]
                _sweep(copy.parent)
                with replacing(copy) as partial, open(partial, "wb") as spool:
                    members = self._walked(spool)
                with replacing(lists) as partial:
                    partial.write_text(json.dumps(members))
                weakref.finalize(self, copy.unlink, missing_ok=True)
        return members

    def _walked(self, spool: BinaryIO | None) -> list[Member]:
        """One pass over the archive."""
        try:
            with open(self.path, "rb") as stream:
                if not self._packed:
                    return list(_walk(_Plain(stream), self.wanted, spool))
                with gzip.open(stream) as unpacked:
                    return list(_walk(_Packed(unpacked, os.fstat(stream.fileno()).st_size), self.wanted, spool))
        except _Unsafe as error:
            raise ValueError(f"{self.path} holds {error}, as no download does; unpack it where that is safe") from None
        except (ValueError, EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{self.path} is damaged ({reason}); download it again") from error


class _Unsafe(Exception):
    """A member that could do harm."""


class _Plain:
    """A tar as a stream that skips."""

    def __init__(self, stream: BinaryIO):
        self.stream, self.position = stream, 0
        self.length = os.fstat(stream.fileno()).st_size

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes, or fewer at the end."""
        data = self.stream.read(size)
        self.position += len(data)
        return data

    def skip(self, size: int) -> None:
        """Pass ``size`` bytes. Raises ValueError if there are fewer."""
        self.position += size
        if self.position > self.length:
            raise ValueError(f"it ends at byte {self.length:,}, within a file")
        self.stream.seek(self.position)


class _Packed(_Plain):
    """The content of a gzip, whose checksum the reader compares at its end."""

    def __init__(self, stream: Any, length: int):
        self.stream, self.position, self.length = stream, 0, length

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes, or fewer at the end."""
        if self.position > 2**30 + _GROWTH * self.length:
            raise ValueError(f"it grows to more than {_GROWTH} times its size")
        return super().take(size)

    def skip(self, size: int) -> None:
        """Pass ``size`` bytes. Raises ValueError if there are fewer."""
        while size:
            passed = len(self.take(min(size, _PIECE)))
            if not passed:
                raise ValueError(f"it ends at byte {self.position:,}, within a file")
            size -= passed


def _walk(stream: _Plain, wanted: re.Pattern[str], spool: BinaryIO | None) -> Iterator[Member]:
    """The wanted members, in the archive's order; with ``spool``, their bytes go there, one after the other."""
    ended = False
    more: dict[str, str] = {}  # of the next member
    shared: dict[str, str] = {}  # of all that follow
    while header := stream.take(_BLOCK):
        if len(header) < _BLOCK:
            raise ValueError(f"it ends at byte {stream.position:,}, within a header")
        if header == _END:  # archives may be joined: what follows the end of one counts, too
            ended = True
            continue
        ended = False
        info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        if info.size < 0:
            raise ValueError(f"a file of {info.size} bytes before byte {stream.position:,}")
        if info.type in (b"L", b"K", b"x", b"g"):
            content = _whole(stream, info.size)
            if info.type == b"L":
                more["path"] = content.rstrip(b"\0").decode(errors="surrogateescape")
            elif info.type in (b"x", b"g"):
                (more if info.type == b"x" else shared).update(_pax(content))
            continue
        told, more = {**shared, **more}, {}
        name, size = told.get("path", info.name), _number(told["size"]) if "size" in told else info.size
        if name.startswith("/") or ".." in name.split("/"):
            raise _Unsafe(f"the path {name!r}")
        if (unusual := _OTHERS.get(info.type, "a special file")) or any("sparse" in key for key in told):
            raise _Unsafe(f"{unusual or 'a special file'}, {name!r}")
        if info.type == b"5" or not wanted.fullmatch(name.rpartition("/")[2]):
            stream.skip(_padded(size))
            continue
        yield Member(name, size, _time(told.get("mtime", str(info.mtime))), spool.tell() if spool else stream.position)
        if spool:
            spool.write(_whole(stream, size))
        else:
            stream.skip(_padded(size))
    if not ended:
        raise ValueError(f"it ends at byte {stream.position:,}, without the mark of an end")


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _whole(stream: _Plain, size: int) -> bytes:
    """The next ``size`` bytes without what fills up their last block. Raises ValueError if they are too many or few."""
    if size > MOST_BYTES:
        raise ValueError(f"a file of {size:,} bytes at byte {stream.position:,}")
    content = stream.take(_padded(size))
    if len(content) < _padded(size):
        raise ValueError(f"it ends at byte {stream.position:,}, within a file")
    return content[:size]


def _pax(content: bytes) -> dict[str, str]:
    """The records ``LENGTH KEY=VALUE`` and a line break each."""
    found = {}
    while content:
        length, _, rest = content.partition(b" ")
        record = rest[: _number(length.decode("ascii", "replace")) - len(length) - 1]
        key, equals, value = record.partition(b"=")
        if not equals or not value.endswith(b"\n"):
            raise ValueError("an extended header that makes no sense")
        found[key.decode(errors="replace")] = value[:-1].decode(errors="surrogateescape")
        content = content[len(length) + 1 + len(record) :]
    return found


def _number(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise ValueError(f"{text[:20]!r} in place of a number")
    return int(text)


def _time(text: str) -> int:
    """Nanoseconds of ``text`` in seconds."""
    if not re.fullmatch(r"-?[0-9]{1,18}(\.[0-9]{0,18})?", text):
        raise ValueError(f"{text[:20]!r} in place of a time")
    return int(Decimal(text) * 10**9)


def _scratch() -> Path:
    """The folder for unpacked copies, ours alone. Raises ValueError if somebody else has made it."""
    folder = Path(tempfile.gettempdir(), f"clevrtune-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    state = folder.lstat()
    if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.getuid() or state.st_mode & 0o022:
        raise ValueError(
            f"{folder} is not a folder that only you can write to; remove it, or set TMPDIR to another place"
        )
    return folder


@contextlib.contextmanager
def _scratch_errors() -> Iterator[None]:
    """Say where room is lacking."""
    try:
        yield
    except OSError as error:
        place = tempfile.gettempdir()
        if error.errno in (errno.ENOSPC, errno.EDQUOT) or str(error.filename or "").startswith(place):
            raise ValueError(
                f"{place} takes no unpacked pictures ({error.strerror}); set TMPDIR to a folder with 7 GB of room, or "
                "unpack the archives"
            ) from error
        raise


def _sweep(folder: Path) -> None:
    """Delete what killed processes left more than a day ago; who still reads it keeps it open."""
    for pattern in ("*.unpacked", "*.partial"):
        for path in folder.glob(pattern):
            if time.time() - path.stat().st_mtime > _ABANDONED:
                path.unlink(missing_ok=True)
