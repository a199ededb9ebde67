"""TFRecord files of ``tf.train.Example``, compressed with gzip, read without TensorFlow.

A record is its length (8 bytes, little-endian), the checksum of these bytes (4), the payload, and its checksum (4). A
payload is a protocol buffer: a map from names to lists of bytes, floats or integers.
"""

import functools
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

LONGEST = 1 << 28
"""Bytes above which the length of a record is taken for damage."""

_FRAME = 16  # bytes of a record beside its payload
_POLYNOMIAL = 0x82F63B78  # CRC-32C (Castagnoli), lowest bit first
# x^5685 + x^1362 + x^426 + 1 is a multiple of that polynomial (found by search), also with all exponents doubled.
_FOLD, _TERMS = 5685, (1362, 426, 0)
_UNIT = 0x0A  # tag of field 1, length-delimited


class Records:
    """One pass through a file: an iterator of (payload, stored checksum of the payload), as one buffer is held.

    Raises ValueError where a frame is damaged or the file ends early; :func:`checked` looks at payloads, because that
    takes time and can be done by others.
    """

    def __init__(self, path: Path):
        self.path = path
        self.number = 0
        """Of the next record."""
        self._bytes = _unzipped(path)

    def __iter__(self) -> "Records":
        return self

    def __next__(self) -> "tuple[pa.Buffer, int]":
        length = self._length()
        if length is None:
            self._bytes.close()
            raise StopIteration
        payload, checksum = self._read(length), self._read(4)
        self.number += 1
        return payload, int.from_bytes(checksum, "little")

    def _length(self) -> int | None:
        """Bytes of the next payload; None at the end of the file."""
        header = self._read(12, ends=True)
        if not header:
            return None
        length, checksum = struct.unpack("<QI", header)
        if masked_crc(header[:8]) != checksum:
            raise self._damage("the checksum of its length is wrong")
        if length > LONGEST:
            raise self._damage(f"a length of {length:,} bytes")
        return int(length)

    def _read(self, size: int, ends: bool = False) -> "pa.Buffer":
        """The next ``size`` bytes; none at the end of the file if that is where it may end."""
        try:
            buffer = self._bytes.read_buffer(size)
        except OSError as error:
            raise self._damage(_first_line(error)) from error
        if len(buffer) != size and (buffer or not ends):
            raise self._damage(f"the file ends {size - len(buffer):,} bytes early")
        return buffer

    def _damage(self, what: str) -> ValueError:
        return ValueError(f"{self.path}: record {self.number} is damaged ({what}); download the file again")


def checked(payload: "pa.Buffer", checksum: int) -> Mapping[str, NDArray[np.generic]]:
    """The features of a payload, see :func:`features`. Raises ValueError, without a remedy, if it is damaged."""
    if masked_crc(payload) != checksum:
        raise ValueError("wrong checksum")
    return features(payload)


def count(path: Path) -> int:
    """Number of records of the file.

    Where all have the length of the first, it follows from the length at the end of the file, which gzip stores modulo
    2^32. Else the file is read. Raises ValueError for a damaged file, OSError.
    """
    with open(path, "rb") as file:
        if file.read(2) != b"\x1f\x8b":
            raise ValueError(f"{path} is not compressed with gzip; it is published so, download it again")
        compressed = file.seek(0, 2)
        file.seek(max(0, compressed - 4))
        total = int.from_bytes(file.read(4), "little")
    first = next(Records(path), None)
    if first is None:
        return 0
    record = len(first[0]) + _FRAME
    zeros = (record & -record).bit_length() - 1
    modulus = 1 << (32 - zeros)
    if total % (1 << zeros) == 0:
        records = (total >> zeros) * pow(record >> zeros, -1, modulus) % modulus
        # deflate makes nothing more than 1,032 times smaller, and nothing larger worth speaking of
        if 0.9 * compressed < records * record < 1032 * compressed:
            return records
    return sum(1 for _ in Records(path))


def _unzipped(path: Path) -> "pa.NativeFile":
    import pyarrow as pa  # not above: a mistyped --data asks all data sets for their names

    return pa.CompressedInputStream(pa.OSFile(str(path)), "gzip")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def masked_crc(data: "pa.Buffer | bytes") -> int:
    """The checksum of ``data`` as TFRecords store it: CRC-32C, rotated by 15 bits, plus a constant."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def crc32c(data: "pa.Buffer | bytes") -> int:
    """CRC-32C of ``data`` (RFC 3720, appendix B.4).

    The checksum is the remainder of ``data``, read as a polynomial over two elements, its first bit the highest. With
    x^a = x^b + x^c + 1, which holds for the remainder with any a, b, c times a power of two too, whole blocks of
    leading words are added (xor) to words behind them: no bit is looked at alone until 0.7 kB are left.
    """
    given = np.frombuffer(data, np.uint8)
    padded = np.zeros(max(1, -(-len(given) // 8)) * 8, np.uint8)  # leading zeros change no remainder
    content = padded[len(padded) - len(given) :]
    content[:] = given
    if len(given) < 4:
        return _crc_of_few(given)
    content[:4] ^= 0xFF
    words: NDArray[Any] = padded.view(np.uint64)
    for step in (64, 16, 4, 1):
        words = _folded(words, step)
    rest = _folded(words.view(np.uint8), 1)
    ones = np.flatnonzero(np.unpackbits(rest, bitorder="little")[::-1])
    return int(np.bitwise_xor.reduce(_remainders()[ones], initial=np.uint32(0)) ^ np.uint32(0xFFFFFFFF))


def _folded(units: NDArray[Any], step: int) -> NDArray[Any]:
    """The last ``_FOLD * step`` of ``units``, to which the leading ones are added; changed in place."""
    span, at = _FOLD * step, 0
    while (left := len(units) - at - span) > 0:
        some = min(left, span - _TERMS[0] * step)
        leading = units[at : at + some]
        for term in _TERMS:
            units[at + span - term * step :][:some] ^= leading
        at += some
    return units[at:]


@functools.cache
def _remainders() -> NDArray[np.uint32]:
    """Remainder of each power of x that :func:`crc32c` is left with, the lowest first, times x^32."""
    powers = np.empty(_FOLD * 8, np.uint32)
    value = _POLYNOMIAL
    for power in range(len(powers)):
        powers[power] = value
        value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
    return powers


def _crc_of_few(data: NDArray[np.uint8]) -> int:
    """CRC-32C bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data.tolist():
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (_POLYNOMIAL if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def features(payload: "pa.Buffer | bytes") -> dict[str, NDArray[np.generic]]:
    """The features of an Example: the entries of each list in one row.

    Floats are float32, integers int64. Entries of bytes are joined: a list of single bytes, the usual way to store an
    array, is a view of ``payload``. Raises ValueError for what is no Example.
    """
    found = {}
    try:
        data = memoryview(payload).cast("B").toreadonly()
        for number, example in _fields(data):
            for inner, entry in _fields(example) if number == 1 else ():
                pair = dict(_fields(entry)) if inner == 1 else {}
                if pair:
                    found[bytes(pair[1]).decode()] = _values(pair[2])
    except (IndexError, KeyError, struct.error, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"it is no tf.train.Example: {error!r}") from error
    return found


def _values(feature: memoryview) -> NDArray[np.generic]:
    """The entries of a Feature."""
    (kind, content), *more = _fields(feature)
    if more or kind not in (1, 2, 3):
        raise ValueError(f"it has a feature of an unknown kind {kind}")
    if kind == 1:
        return _joined(content)
    entries = list(_fields(content))
    if kind == 2:  # packed, or one by one
        return np.frombuffer(b"".join(bytes(entry) for _, entry in entries), "<f4")
    numbers: list[int] = []
    for _, entry in entries:
        numbers += [entry] if isinstance(entry, int) else _varints(entry)
    return np.array(numbers, np.uint64).astype(np.int64)


def _joined(content: memoryview) -> NDArray[np.uint8]:
    """The entries of a BytesList, one after another."""
    values = np.frombuffer(content, np.uint8)
    if len(values) % 3 == 0:  # as in a list of single bytes, each 0A 01 and the byte
        entries = values.reshape(-1, 3)
        if (entries[:, 0] == _UNIT).all() and (entries[:, 1] == 1).all():
            return entries[:, 2]
    return np.frombuffer(b"".join(bytes(entry) for _, entry in _fields(content)), np.uint8)


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and content of each field of a message; the content of a varint is an int."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        wire = tag & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield tag >> 3, value  # type: ignore[misc]
            continue
        if wire not in (1, 2, 5):
            raise ValueError(f"it has a field of an unknown wire type {wire}")
        size, at = _varint(data, at) if wire == 2 else (8 if wire == 1 else 4, at)
        if at + size > len(data):
            raise ValueError("one of its fields is longer than what holds it")
        yield tag >> 3, data[at : at + size]
        at += size


def _varints(data: memoryview) -> list[int]:
    values, at = [], 0
    while at < len(data):
        value, at = _varint(data, at)
        values.append(value)
    return values


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """The number at ``at``, seven bits a byte, lowest first, and where it ends."""
    value = shift = 0
    while data[at] & 0x80:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if shift > 63:
            raise ValueError("it has a number longer than 64 bits")
    return (value | data[at] << shift) & 0xFFFFFFFFFFFFFFFF, at + 1
