"""The journal of a study: Optuna's records, one per line. What can be wrong with the file, and how it is mended.

Optuna passes over a torn last line when it reads, but writes its next record behind it, and from then on nothing can
be read. So what follows the last whole record is cut before Optuna opens the file.
"""

import itertools
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.storages.journal import BaseJournalBackend

FILE = "optuna.journal"

_CREATE_STUDY, _CREATE_TRIAL, _LAST_OPERATION = 0, 4, 10  # Optuna's numbers: tests/borrowed/test_optuna.py


@dataclass(frozen=True)
class Records:
    """What a journal holds, read up to its first line that is no record."""

    count: int
    """whole records"""
    end: int
    """bytes that they take"""
    size: int
    """bytes of the file"""


def read(path: Path) -> Records:
    """Read the journal at ``path``; changes nothing.

    A trial whose creation is there twice at the end is there once. Raises ValueError for damage that is not at the end:
    a line that is no record and has records behind it, or a beginning that is missing.
    """
    count, end, position, broken = 0, 0, 0, 0
    last = b""
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            position += len(line)
            found = _record(line)
            if found is None:
                broken = broken or number
            elif broken > 1:
                raise ValueError(
                    f"{path} is damaged in line {broken}: it is no record of Optuna's, and others follow. Restore the "
                    f"file from a copy, or keep what came before it (head -n {broken - 1}), or start over with --fresh"
                )
            elif broken or (number == 1 and found["op_code"] != _CREATE_STUDY):
                raise ValueError(
                    f"{path} is damaged in line 1: its beginning, which names the study, is missing. Restore the file "
                    "from a copy, or start over with --fresh"
                )
            elif line == last and found["op_code"] == _CREATE_TRIAL:  # all other records may come twice
                continue
            else:
                count, end, last = number, position, line
    return Records(count, end, position)


def mend(path: Path) -> str | None:
    """Cut what follows the last whole record of the journal at ``path``; returns a line about it, None if all is well.

    The cut bytes are kept beside it. Call it under the study's lock. Raises ValueError as :func:`read` does.
    """
    if not path.exists():
        return None
    found = read(path)
    if found.end == found.size:
        return None
    kept = next(name for i in range(1, 10**6) if not (name := path.with_name(f"{path.name}.cut-{i}")).exists())
    with open(path, "r+b") as file:
        file.seek(found.end)
        with open(kept, "xb") as copy:
            copy.write(file.read())
            copy.flush()
            os.fsync(copy.fileno())
        file.truncate(found.end)
        os.fsync(file.fileno())
    return (
        f"{path}: the last {found.size - found.end} bytes are no whole record (a full disk, or a power cut?); "
        f"they are cut off and kept in {kept.name}"
    )


class ReadOnly(BaseJournalBackend):
    """The whole records of a journal as they are now, for reports: it writes nothing, and a torn end does no harm."""

    def __init__(self, path: Path):
        """Raises ValueError as :func:`read` does, FileNotFoundError without a file."""
        self._path = path
        self._count = read(path).count

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """The records from number ``log_number_from`` on."""
        if log_number_from == self._count:
            return
        with open(self._path, "rb") as file:
            for line in itertools.islice(file, log_number_from, self._count):
                yield json.loads(line)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Refuse."""
        raise AssertionError(f"{self._path} is open for reading")


def _record(line: bytes) -> dict[str, Any] | None:
    """The record in ``line``, or None if it is none."""
    if not line.endswith(b"\n"):
        return None
    try:
        found = json.loads(line)
    except ValueError:  # UnicodeDecodeError too
        return None
    known = isinstance(found, dict) and "worker_id" in found and found.get("op_code") in range(_LAST_OPERATION + 1)
    return found if known else None
