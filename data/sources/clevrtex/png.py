"""PNG files in which every byte counts: what Pillow reads past is refused here.

Pillow checks no CRC of an image's data, not the checksum of the data inside, and nothing after the last row it needs.
Format: W3C, Portable Network Graphics (third edition), chapters 5, 7, 10 and 11.
"""

import io
import struct
import zlib

from PIL import Image

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # per colour type
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_MOST_STORED = 65_535  # bytes in a block
_WHOLE = ((0, 0, 1, 1),)
_INTERLACED = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""First column and row, and steps between columns and rows, of the passes (chapter 8)."""


def decoded(data: bytes, size: tuple[int, int]) -> Image.Image:
    """The picture in ``data``, which must be ``size`` = (W, H) pixels; nothing is decoded that claims another size.

    Raises ValueError that says what is wrong, without a file's name.
    """
    parts = _chunks(data)
    header, palette, compressed = _sorted(parts)
    width, height, depth, colour, compression, filters, interlaced = struct.unpack(">IIBBBBB", header)
    if (width, height) != size:
        raise ValueError(f"it has size ({width}, {height}), not {size}")
    if depth not in _DEPTHS.get(colour, ()) or compression or filters or interlaced > 1:
        raise ValueError("its header is not that of a PNG")
    if (colour == 3) != bool(palette) and colour in (0, 3, 4):
        raise ValueError("its palette is missing or has no use")
    bits = depth * _CHANNELS[colour]
    raw = _inflated(compressed, _length(size, bits, _INTERLACED if interlaced else _WHOLE))
    # Pillow gets what was checked and nothing else, in stored form, which takes no time to inflate again.
    checked = [_SIGNATURE, *_chunk(b"IHDR", header), *(_chunk(b"PLTE", palette) if palette else [])]
    checked += [*_chunk(b"IDAT", *_stored(raw)), *_chunk(b"IEND")]
    with Image.open(io.BytesIO(b"".join(checked))) as picture:
        picture.load()
        return picture


def _chunks(data: bytes) -> list[tuple[bytes, memoryview]]:
    """Type and content of each chunk. Raises ValueError unless all checksums are right and the last one ends it."""
    if data[:8] != _SIGNATURE:
        raise ValueError("it is no PNG")
    found: list[tuple[bytes, memoryview]] = []
    view, at = memoryview(data), 8
    while not found or found[-1][0] != b"IEND":
        if len(data) < at + 12:
            raise ValueError(f"it ends at byte {len(data)}, before its last chunk")
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        end = at + 12 + length
        if len(data) < end:
            raise ValueError(f"it ends at byte {len(data)}, within a chunk")
        if zlib.crc32(view[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise ValueError(f"wrong checksum in bytes {at} to {end}")
        found.append((kind, view[at + 8 : end - 4]))
        at = end
    if at != len(data):
        raise ValueError(f"{len(data) - at} bytes follow its end")
    return found


def _sorted(chunks: list[tuple[bytes, memoryview]]) -> tuple[bytes, bytes, bytes]:
    """Header, palette (empty without one) and compressed data. Raises ValueError for chunks out of place."""
    kinds = [kind for kind, _ in chunks]
    critical = [
        kind for i, kind in enumerate(kinds) if kind[0] & 0x20 == 0 and (kind != b"IDAT" or kinds[i - 1] != kind)
    ]
    if critical not in ([b"IHDR", b"IDAT", b"IEND"], [b"IHDR", b"PLTE", b"IDAT", b"IEND"]) or kinds[0] != b"IHDR":
        raise ValueError("its chunks are missing, repeated or out of order")
    palette = b"".join(content for kind, content in chunks if kind == b"PLTE")
    if len(chunks[0][1]) != 13 or len(chunks[-1][1]) or len(palette) % 3 or len(palette) > 768:
        raise ValueError("a chunk has a wrong length")
    return bytes(chunks[0][1]), palette, b"".join(content for kind, content in chunks if kind == b"IDAT")


def _length(size: tuple[int, int], bits: int, passes: tuple[tuple[int, int, int, int], ...]) -> int:
    """Bytes of the rows of all passes, each row with its filter's number, at ``bits`` per pixel."""
    total = 0
    for column, row, across, down in passes:
        width, height = -(-(size[0] - column) // across), -(-(size[1] - row) // down)
        if width > 0 and height > 0:
            total += height * (1 + (width * bits + 7) // 8)
    return total


def _inflated(compressed: bytes, length: int) -> bytes:
    """The ``length`` bytes in ``compressed``, and no byte more. Raises ValueError."""
    inflate = zlib.decompressobj()
    try:
        raw = inflate.decompress(compressed, length + 1)
    except zlib.error as error:
        raise ValueError(f"its data cannot be read: {error}") from error
    if len(raw) != length or not inflate.eof or inflate.unused_data:
        raise ValueError(f"it holds more or less than its {length:,} bytes of pixels")
    return raw


def _stored(raw: bytes) -> list[bytes | memoryview]:
    """``raw`` in a zlib stream that leaves it as it is (RFC 1950; RFC 1951, section 3.2.4)."""
    parts: list[bytes | memoryview] = [b"\x78\x01"]
    for at in range(0, len(raw), _MOST_STORED):
        piece = memoryview(raw)[at : at + _MOST_STORED]
        last = at + len(piece) == len(raw)
        parts += [struct.pack("<BHH", last, len(piece), len(piece) ^ 0xFFFF), piece]
    return [*parts, struct.pack(">I", zlib.adler32(raw))]


def _chunk(kind: bytes, *content: bytes | memoryview) -> list[bytes | memoryview]:
    """A chunk in parts, which are joined once: copies of pictures cost as much as their inflation."""
    checksum = zlib.crc32(kind)
    for part in content:
        checksum = zlib.crc32(part, checksum)
    return [struct.pack(">I", sum(map(len, content))), kind, *content, struct.pack(">I", checksum)]
