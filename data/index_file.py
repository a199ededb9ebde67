"""The bytes of an ``index.json``: written with a checksum of itself, and read back only where all of it makes sense.

A checksum of the file keeps flags, splits and warnings from being edited without notice. Files of schema 1 have none;
they are read by the same rules otherwise.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

SCHEMA_VERSION = 2
LARGEST = 64 * 2**20
"""Bytes of an index above which it is none: a set of a million scenes has one of 200 kB."""

_READABLE = (1, SCHEMA_VERSION)
_SPLIT = re.compile(r"\w[\w-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def _whole(least: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and value >= least


def _mapping(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(holds(each) for each in value.values())


def _sequence(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(holds(each) for each in value)


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _digest(value: Any) -> bool:
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _shard(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == _SHARD.keys() and all(_SHARD[key](value[key]) for key in _SHARD)


_SHARD: dict[str, Callable[[Any], bool]] = {"name": _text, "rows": _whole(1), "bytes": _whole(1), "sha256": _digest}
_FIELDS: dict[str, Callable[[Any], bool]] = {
    "spec": _text,
    "size": lambda value: _sequence(_whole(1))(value) and len(value) == 2,
    "crop": _flag,
    "filters": _mapping(_text),
    "splits": _mapping(_sequence(_shard)),
    "counts": _mapping(_whole(0)),
    "incomplete": _flag,
    "warnings": _sequence(_text),
    "max_objects": _whole(0),
    "fingerprint": _digest,
    "schema_version": _whole(1),
}


def fingerprint(spec: str, splits: Mapping[str, list[dict[str, Any]]]) -> str:
    """SHA-256 of ``spec`` and the checksums of all shards of ``splits``, in order."""
    content = [spec, *(shard["sha256"] for shards in splits.values() for shard in shards)]
    return hashlib.sha256("\n".join(content).encode()).hexdigest()


def encode(fields: Mapping[str, Any]) -> bytes:
    """The file with ``fields``, each of which JSON can hold."""
    return json.dumps({**fields, "checksum": _checksum(fields)}, indent=1).encode()


def decode(content: bytes) -> dict[str, Any]:
    """The fields in a file. Raises ValueError with the reason where it is damaged, or of a schema unknown here."""
    if not content.strip():
        raise ValueError("it is empty")
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not JSON: {str(error)[:100]}") from error
    if not isinstance(fields, dict):
        raise ValueError(f"it holds {_kind(fields)} in place of named fields")
    version = fields.get("schema_version")
    if version is not None and version not in _READABLE:
        raise ValueError(f"its shards are of version {version!r:.20}, this program reads {SCHEMA_VERSION}")
    wanted = [*_FIELDS, *(["checksum"] if version == SCHEMA_VERSION else [])]
    for key in wanted:
        if key not in fields:
            raise ValueError(f"it has no {key!r}")
    for key in fields:
        if key not in wanted:
            raise ValueError(f"it has {key!r:.40}, which means nothing")
    checksum = fields.pop("checksum", None)
    if version == SCHEMA_VERSION and checksum != _checksum(fields):
        raise ValueError("its content is not what was written, by its checksum")
    for key, holds in _FIELDS.items():
        if not holds(fields[key]):
            raise ValueError(f"its {key!r} cannot be {_kind(fields[key])}")
    _check_sums(fields)
    return fields


def _check_sums(fields: Mapping[str, Any]) -> None:
    """Raise ValueError unless names, counts and fingerprint are those of the shards."""
    names = []
    for split, shards in fields["splits"].items():
        if not _SPLIT.fullmatch(split):
            raise ValueError(f"it has a split {split!r:.40}, which no file can be named for")
        names += [shard["name"] for shard in shards]
        if names[len(names) - len(shards) :] != [shard_name(split, number) for number in range(len(shards))]:
            raise ValueError(f"its shards of {split!r:.40} have other names than such shards have")
    counts = {split: sum(shard["rows"] for shard in shards) for split, shards in fields["splits"].items()}
    if counts != fields["counts"]:
        raise ValueError(f"its counts are not those of its shards, {counts}")
    if fingerprint(fields["spec"], fields["splits"]) != fields["fingerprint"]:
        raise ValueError("its fingerprint is not that of its shards")


def shard_name(split: str, number: int) -> str:
    """The file of the shard ``number`` of ``split``."""
    return f"{split}-{number:05d}.arrow"


def _checksum(fields: Mapping[str, Any]) -> str:
    """SHA-256 of all fields, in their order, whatever the blanks between them."""
    return hashlib.sha256(json.dumps(fields, separators=(",", ":")).encode()).hexdigest()


def _kind(value: Any) -> str:
    return f"{value!r:.40}" if isinstance(value, int | float | str | None) else f"such a {type(value).__name__}"
