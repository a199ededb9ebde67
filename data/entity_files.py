"""The two forms of a data set of :mod:`data.multi_object` on a disk: features of its scenes, by their numbers."""

import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from data import tfrecords

Features = Mapping[str, NDArray[Any]]
"""Name of a feature -> its values, in their shape or in one row."""

MANIFEST = "manifest_ind.json"
_READ = ("image", "mask", "visibility", "rotation", "shape", "size", "material", "color")
_SAMPLE = 100  # files whose times a start compares that lists no folder
_LARGEST = 16 * 2**20  # bytes of a feature above which a file is taken for damaged


class Form(Protocol):
    """Some scenes, numbered from 0."""

    path: Path
    key: str
    """Tells one state of the files from another."""
    warnings: list[str]
    state: list[str]
    """Files and folders that change with the scenes, see :class:`data.source.Found`."""
    remedy: str
    """What to do about a damaged scene."""
    in_order: bool
    """Whether scenes can only be read one after the other."""

    @property
    def count(self) -> int:
        """Scenes there are. Raises ValueError for a damaged file, OSError."""

    def place(self, number: int) -> str:
        """Where the scene ``number`` lies, for people."""

    def entries(self, numbers: range) -> Iterator[tuple[int, Callable[[], Features]]]:
        """(number, function that loads its features) for each of ``numbers``.

        The function may be called by another thread. Both raise ValueError where a file is damaged; the function says
        neither where nor what to do.
        """


class TfRecord:
    """A TFRecord file. It is read from its beginning, or on from where the last call of ``entries`` came to its end."""

    remedy = "download the file again"
    in_order = True

    def __init__(self, path: Path):
        self.path = path
        self.warnings: list[str] = []
        self.state = [str(path)]
        state = path.stat()
        self.key = hashlib.sha256(f"{path.name} {state.st_size} {state.st_mtime_ns}".encode()).hexdigest()[:12]
        self._records: tfrecords.Records | None = None

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_records": None}  # an open file stays in its process

    @cached_property
    def count(self) -> int:
        """See :func:`data.tfrecords.count`."""
        return tfrecords.count(self.path)

    def place(self, number: int) -> str:
        """File and record."""
        return f"{self.path}: record {number}"

    def entries(self, numbers: range) -> Iterator[tuple[int, Callable[[], Features]]]:
        """Records that come before ``numbers`` are skipped unchecked."""
        records, self._records = self._records, None  # ours, so that nobody else reads on from here
        if records is None or records.number > numbers.start:
            records = tfrecords.Records(self.path)
        while records.number < numbers.stop:
            number, record = records.number, next(records, None)
            if record is None:
                raise ValueError(f"{self.path} ends after {number:,} of {self.count:,} records; {self.remedy}")
            if number >= numbers.start:
                yield number, partial(tfrecords.checked, *record)
        if numbers.stop < self.count:
            self._records = records
        elif next(records, None):
            raise ValueError(
                f"{self.path} has more than the {self.count:,} records that its end speaks of: it was joined from "
                "several gzip files; decompress it and compress it as one"
            )


class Npz:
    """A folder with an npz file per scene, which a manifest lists, or whose names end with its number."""

    remedy = "convert it again"
    in_order = False

    def __init__(self, path: Path):
        self.path = path
        self.warnings = []
        there = {os.path.relpath(entry.path, path): entry.stat() for entry in _npz_files(str(path))}
        files = _listed(path / MANIFEST)
        if files is None:
            files, skipped = _by_name(path, there)
            if skipped:
                self.warnings.append(f"{len(skipped)} npz files in {path} have no number, such as {skipped[0]}")
        if not files:
            raise ValueError(f"{path} holds no npz files with a number; convert the TFRecord again")
        absent = [file for file in files.values() if file not in there]
        if absent:
            raise ValueError(f"{path / absent[0]} is missing, as are {len(absent) - 1} others that {MANIFEST} names")
        if len(set(files.values())) < len(files):
            raise ValueError(f"{path / MANIFEST} names a file for two scenes; write it again, or remove it")
        missing = max(files) + 1 - len(files)
        if missing:
            first = next(number for number in range(len(files) + 1) if number not in files)
            raise ValueError(f"{path} lacks {missing:,} of its first {max(files) + 1:,} scenes, number {first} and on")
        self._files = [files[number] for number in range(len(files))]
        self.count = len(files)
        folders = {str((path / file).parent) for file in there} | {str(path)}
        listed = [str(path / MANIFEST)] * (path / MANIFEST).is_file()
        sample = self._files[:: max(1, self.count // _SAMPLE)]
        self.state = [*sorted(folders), *listed, *(str(path / file) for file in sample)]
        states = [f"{file} {there[file].st_size} {there[file].st_mtime_ns}\n" for file in self._files]
        self.key = hashlib.sha256("".join(states).encode()).hexdigest()[:12]

    def place(self, number: int) -> str:
        """The file."""
        return str(self.path / self._files[number])

    def entries(self, numbers: range) -> Iterator[tuple[int, Callable[[], Features]]]:
        """In any order, from any process."""
        for number in numbers:
            yield number, partial(_load, self.path / self._files[number])


def _npz_files(folder: str) -> Iterator[os.DirEntry[str]]:
    """All npz files below ``folder``; each folder is listed once."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _npz_files(entry.path)
            elif entry.name.endswith(".npz") and entry.is_file():
                yield entry


def _listed(manifest: Path) -> dict[int, str] | None:
    """Number of each scene -> its file, in the manifest's folder; None where there is no manifest that says it."""
    try:
        entries = json.loads(manifest.read_bytes())
        files = {int(number): os.path.normpath(file) for number, file in entries.items()}
        return files if min(files) >= 0 and len(files) == len(entries) else None
    except (OSError, ValueError, AttributeError, TypeError):
        return None


def _by_name(folder: Path, there: Mapping[str, Any]) -> tuple[dict[int, str], list[str]]:
    """Number of each scene -> its file, by what follows the last underscore of its name; and files without a number."""
    files: dict[int, str] = {}
    skipped = []
    for file in sorted(there):
        digits = Path(file).stem.rpartition("_")[2]
        if not (digits.isascii() and digits.isdigit()):
            skipped.append(file)
        elif (number := int(digits)) in files:
            raise ValueError(f"scene {number} is there twice, {folder / files[number]} and {folder / file}; remove one")
        else:
            files[number] = file
    return files, skipped


def _load(path: Path) -> Features:
    """The arrays of an npz file that are needed. Raises ValueError if it is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            features = {}
            for name in (name for name in _READ if f"{name}.npy" in archive.namelist()):
                member = archive.getinfo(f"{name}.npy")
                if member.file_size > _LARGEST:
                    raise ValueError(f"{name} takes {member.file_size:,} bytes")
                with archive.open(member) as stream:
                    features[name] = np.lib.format.read_array(stream, allow_pickle=False)
                    stream.read()  # to its end, where zipfile compares the checksum
            return features
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError) as error:
        raise ValueError(str(error).partition("\n")[0] or type(error).__name__) from error
