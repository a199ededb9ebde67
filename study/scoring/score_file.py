"""Parquet files of scores with a checksum, so that a disk that returns other bits is noticed.

Parquet's own checksums cover its pages only. This one is of the table, and lies in the file's metadata.
"""

import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from data import atomic

KEY = b"clevrtune sha256"
"""The entry of the metadata."""


def write(table: pa.Table, path: Path) -> None:
    """Write ``table`` with its checksum to ``path``, in one step."""
    marked = table.replace_schema_metadata({**(table.schema.metadata or {}), KEY: _digest(table)})
    with atomic.replacing(path) as partial:
        pq.write_table(marked, partial)


def read(path: Path) -> pa.Table:
    """The table in ``path``; that of an earlier version has no checksum and is taken as it is.

    Raises ValueError if the file is damaged, FileNotFoundError without one.
    """
    try:
        table = pq.read_table(path)
        told = (table.schema.metadata or {}).get(KEY)
        whole = told is None or told == _digest(table)
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException, ValueError) as error:
        raise ValueError(_damaged(path)) from error
    if not whole:
        raise ValueError(_damaged(path))
    return table.replace_schema_metadata({k: v for k, v in (table.schema.metadata or {}).items() if k != KEY} or None)


def _damaged(path: Path) -> str:
    return f"{path} is damaged; delete it, and the study's command computes its scores anew"


def _digest(table: pa.Table) -> bytes:
    """SHA-256 of the names, types and values of ``table``, whatever its chunks are."""
    digest = hashlib.sha256()
    for name, column in zip(table.column_names, table.columns, strict=True):
        digest.update(f"{name}\0{column.type}\0{len(column)}\0".encode())
        missing = column.is_null()
        digest.update(missing.to_numpy().tobytes())
        if pa.types.is_string(column.type):
            words = column.fill_null("").combine_chunks().dictionary_encode()
            digest.update("\0".join(words.dictionary.to_pylist()).encode())
            digest.update(words.indices.to_numpy().tobytes())
        elif not pa.types.is_null(column.type):
            digest.update(column.fill_null(pa.scalar(0).cast(column.type)).to_numpy().tobytes())
    return digest.hexdigest().encode()
