import gzip
import struct

import numpy as np
import pytest

from data import tfrecords
from tests.data.sources import entities
from tests.data.sources.entities import field, record, varint

PAYLOADS = [field(1, b"") + bytes(1000 + 7 * i) for i in range(3)]


def write(path, payloads=PAYLOADS, compress=gzip.compress):
    path.write_bytes(compress(b"".join(map(record, payloads))))
    return path


def table_crc(data: bytes) -> int:
    """CRC-32C byte by byte, as in RFC 3720."""
    table = []
    for crc in range(256):
        for _ in range(8):
            crc = crc >> 1 ^ 0x82F63B78 * (crc & 1)
        table.append(crc)
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def test_checksums_of_the_standard():
    """RFC 3720, appendix B.4, and the check value of the catalogue of CRCs."""
    assert tfrecords.crc32c(bytes(32)) == 0x8A9136AA
    assert tfrecords.crc32c(b"\xff" * 32) == 0x62A8AB43
    assert tfrecords.crc32c(bytes(range(32))) == 0x46DD794E
    assert tfrecords.crc32c(b"123456789") == 0xE3069283


@pytest.mark.parametrize("fold", [0, 5685, 8 * 5685, 8 * 4 * 5685, 8 * 16 * 5685])
def test_checksums_at_the_lengths_where_another_fold_sets_in(fold):
    content = np.random.default_rng(fold).bytes(fold + 20)
    for length in range(max(0, fold - 10), fold + 20, 1 if fold < 6000 else 13):
        assert tfrecords.crc32c(content[:length]) == table_crc(content[:length]), length


def test_each_bit_of_a_long_record_counts():
    content = bytearray(3_200_000)
    before = tfrecords.crc32c(bytes(content))
    for at in np.random.default_rng(0).integers(0, 8 * len(content), 50):
        content[at // 8] ^= 1 << at % 8
        assert tfrecords.crc32c(bytes(content)) != before
        content[at // 8] ^= 1 << at % 8


def test_records_come_in_order_with_their_checksums(tmp_path):
    read = list(tfrecords.Records(write(tmp_path / "a")))
    assert [bytes(payload) for payload, _ in read] == PAYLOADS
    assert all(checksum == tfrecords.masked_crc(payload) for payload, checksum in read)


def test_a_payload_of_another_checksum(tmp_path):
    payload = entities.example({"size": np.ones(11, np.uint8)})
    ((read, checksum),) = tfrecords.Records(write(tmp_path / "a", [payload]))
    assert tfrecords.checked(read, checksum)["size"].tolist() == [1] * 11
    with pytest.raises(ValueError, match="wrong checksum"):
        tfrecords.checked(read, checksum ^ 1)


@pytest.mark.parametrize("lengths", [[0], [100], [100] * 5, [96] * 7, [100, 99, 98], [1000, 1, 1, 50]])
def test_count(tmp_path, lengths):
    assert tfrecords.count(write(tmp_path / "a", [bytes(length) for length in lengths])) == len(lengths)


def test_count_of_files_that_were_joined(tmp_path):
    """Where the length of the last file is not that of all, which equal halves would hide; see ``entity_files``."""
    parts = [[100] * 40, [100]]
    joined = b"".join(
        write(tmp_path / "a", [np.random.default_rng(0).bytes(n) for n in part]).read_bytes() for part in parts
    )
    (tmp_path / "b").write_bytes(joined)
    assert tfrecords.count(tmp_path / "b") == 41


def test_equal_records_are_counted_without_reading_them(tmp_path, monkeypatch):
    """The published file has 100,000 records of 3.2 MB."""
    path = write(tmp_path / "a", [bytes(100)] * 50)
    monkeypatch.setattr(tfrecords.Records, "__iter__", None)
    assert tfrecords.count(path) == 50
    assert tfrecords.count(write(path, [])) == 0


def test_features_of_any_order_and_encoding():
    """Each list in the ways that protocol buffers allow."""
    scene = entities.scene(0)
    for seed, packed in enumerate([True, False, True, False]):
        read = tfrecords.features(entities.example(scene, packed, seed))
        assert read.keys() == scene.keys()
        for name, values in scene.items():
            assert np.array_equal(read[name], values.ravel()) and read[name].dtype == values.dtype, name
    whole = field(1, scene["image"].tobytes())
    halves = field(1, scene["image"].tobytes()[:1000]) + field(1, scene["image"].tobytes()[1000:])
    for listed in (whole, halves):
        read = tfrecords.features(field(1, field(1, field(1, b"image") + field(2, field(1, listed)))))
        assert np.array_equal(read["image"], scene["image"].ravel())
    four = field(1, field(1, field(1, b"four") + field(2, field(1, field(1, b"\x05\x0a\x01\x07")))))
    assert tfrecords.features(four)["four"].tolist() == [5, 10, 1, 7], "though each third byte is a tag"
    numbers = [0, 1, 300, 2**63 - 1]
    for listed in (field(1, b"".join(map(varint, numbers))), b"".join(b"\x08" + varint(number) for number in numbers)):
        read = tfrecords.features(field(1, field(1, field(1, b"n") + field(2, field(3, listed)))))
        assert read["n"].tolist() == numbers and read["n"].dtype == np.int64


def test_lists_of_bytes_are_views():
    """Not a million objects of a byte each."""
    payload = entities.example(entities.scene(0))
    assert np.shares_memory(tfrecords.features(payload)["mask"], np.frombuffer(payload, np.uint8))


NO_EXAMPLES = {
    "text": b"an example, but of something else",
    "cut": entities.example({"size": np.ones(11, np.uint8)})[:-4],
    "empty entry": field(1, field(1, field(1, b"size"))),
    "unknown list": field(1, field(1, field(1, b"size") + field(2, field(7, b"")))),
    "endless number": field(1, field(1, field(1, b"n") + field(2, field(3, field(1, b"\xff" * 20))))),
    "name": field(1, field(1, field(1, b"\xff") + field(2, field(2, b"")))),
    "long number": field(1, field(1, field(1, b"n") + field(2, field(3, field(1, b"\xff" * 20 + b"\x01"))))),
    "floats": field(1, field(1, field(1, b"x") + field(2, field(2, field(1, b"abc"))))),
}


@pytest.mark.parametrize("payload", NO_EXAMPLES.values(), ids=NO_EXAMPLES)
def test_what_is_no_example_is_a_value_error(payload):
    with pytest.raises(ValueError) as error:
        tfrecords.features(payload)
    assert "\n" not in str(error.value)


def flip_length(content):
    return bytes([content[0] ^ 1]) + content[1:]


def long_record(content):
    length = struct.pack("<Q", 1 << 40)
    return length + struct.pack("<I", tfrecords.masked_crc(length)) + content


def cut(content):
    return content[:-500]


def cut_a_header(content):
    return content + content[:5]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (flip_length, "record 0 is damaged .the checksum of its length"),
        (long_record, "record 0 is damaged .a length of 1,099,511,627,776 bytes"),
        (cut, "record 2 is damaged .the file ends 496 bytes early"),
        (cut_a_header, "record 3 is damaged .the file ends 7 bytes early"),
    ],
)
def test_damaged_frames(tmp_path, damage, message):
    write(tmp_path / "a", compress=lambda content: gzip.compress(damage(content)))
    with pytest.raises(ValueError, match=f"a: {message}.*download the file again") as error:
        list(tfrecords.Records(tmp_path / "a"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("at", [0.1, 0.5, 0.99])
def test_a_gzip_file_that_is_cut_or_changed(tmp_path, at):
    payloads = [field(9, np.random.default_rng(i).bytes(30_000)) for i in range(3)]
    whole = write(tmp_path / "a", payloads).read_bytes()
    where = int(at * len(whole))
    for content in (whole[:where], whole[:where] + bytes([whole[where] ^ 16]) + whole[where + 1 :]):
        (tmp_path / "a").write_bytes(content)
        with pytest.raises(ValueError, match=r"record . is damaged|wrong checksum") as error:
            for payload, checksum in tfrecords.Records(tmp_path / "a"):
                tfrecords.checked(payload, checksum)
        assert "\n" not in str(error.value)


def test_what_is_not_gzip(tmp_path):
    (tmp_path / "a").write_bytes(b"".join(map(record, PAYLOADS)))
    with pytest.raises(ValueError, match="a is not compressed with gzip; it is published so"):
        tfrecords.count(tmp_path / "a")
