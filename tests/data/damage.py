"""Seeded damage to shards and their index, and who notices: ``python -m tests.data.damage [CASES]`` prints the counts.

A damage may go unnoticed only where it changes nothing that a reader sees. One kind cannot be noticed and is not here:
an index that is written anew as one of version 1, which had no checksum.
"""

import collections
import dataclasses
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from data import index_file, integrity, writing
from data.shards import ShardIndex
from data.writing import Facts
from tests.data.numbered import scenes

Damage = Callable[[Path, np.random.Generator], None]
SIZE = (16, 16)


def sound(folder: Path) -> ShardIndex:
    """A small set of four shards, some scenes of which have objects."""
    shard_bytes = 8 * 4 * SIZE[0] * SIZE[1]
    facts = Facts("x-(16,16)", SIZE, True, {"image": "some"}, True, ["few images"], shard_bytes)
    return writing.write(str(folder), {"train": [numbered(0, 20)], "test": [numbered(50, 4)]}, facts)


def numbered(start, count):
    some = scenes(start, count, SIZE)
    allowed = np.array([len(scene["objects"]) for scene in some.metadata], np.uint8)[:, None, None]
    noise = np.random.default_rng(start).integers(0, 256, some.images.shape, np.uint8)
    return dataclasses.replace(some, images=noise, labels=np.minimum(some.labels, allowed))


def content(index: ShardIndex) -> list[object]:
    """All that a reader sees."""
    tables = [index.read(shard).to_pydict() for shard in index.shards("all")]
    return [dataclasses.replace(index, folder=""), tables]


def any_file(folder: Path, rng: np.random.Generator) -> Path:
    return rng.choice(np.array(sorted(folder.iterdir()), object))


def any_shard(folder: Path, rng: np.random.Generator) -> Path:
    return rng.choice(np.array(sorted(folder.glob("*.arrow")), object))


def flip_bits(path: Path, rng: np.random.Generator, bits: int) -> None:
    data = bytearray(path.read_bytes())
    for place in rng.integers(0, len(data), bits):
        data[place] ^= 1 << int(rng.integers(8))
    path.write_bytes(data)


def bit_in_a_shard(folder, rng):
    flip_bits(any_shard(folder, rng), rng, 1)


def bits_in_a_shard(folder, rng):
    flip_bits(any_shard(folder, rng), rng, int(rng.integers(2, 200)))


def bit_in_the_index(folder, rng):
    flip_bits(folder / "index.json", rng, 1)


def bits_in_the_index(folder, rng):
    flip_bits(folder / "index.json", rng, int(rng.integers(2, 20)))


def cut(folder, rng):
    path = any_file(folder, rng)
    path.write_bytes(path.read_bytes()[: int(rng.integers(path.stat().st_size))])


def grown(folder, rng):
    path = any_file(folder, rng)
    path.write_bytes(path.read_bytes() + rng.bytes(int(rng.integers(1, 99))))


def zeros(folder, rng):
    """A hole, as a crash of the machine leaves it."""
    path = any_file(folder, rng)
    data = bytearray(path.read_bytes())
    start = int(rng.integers(len(data)))
    stop = min(len(data), start + int(rng.integers(1, 4096)))
    data[start:stop] = bytes(stop - start)
    path.write_bytes(data)


def swapped(folder, rng):
    """Two shards of one length change places."""
    one, other = folder / "train-00000.arrow", folder / "train-00001.arrow"
    one.rename(folder / "aside")
    other.rename(one)
    (folder / "aside").rename(other)


def copied_over(folder, rng):
    any_file(folder, rng).write_bytes(any_file(folder, rng).read_bytes())


def gone(folder, rng):
    any_file(folder, rng).unlink()


def no_file(folder, rng):
    path = any_file(folder, rng)
    path.unlink()
    if (kind := rng.integers(4)) == 0:
        os.mkfifo(path)
    elif kind == 1:
        path.mkdir()
    else:
        path.symlink_to("/dev/zero" if kind == 2 else path)


def other_columns(folder, rng):
    """A shard that is an Arrow file, with one column changed, and an index that knows its checksum."""
    path = any_shard(folder, rng)
    table = pa.ipc.open_file(path.read_bytes()).read_all()
    columns = {name: table.column(name).combine_chunks() for name in table.column_names}
    count = table.num_rows
    kinds: list[dict[str, object]] = [
        {"label": pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((count, *SIZE), np.int16))},
        {"image": pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((count, 16, 12, 4), np.uint8))},
        {"label": pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((count, 8, 32), np.uint8))},
        {"label": pa.FixedShapeTensorArray.from_numpy_ndarray(np.full((count, *SIZE), 9, np.uint8))},
        {"index": pa.array(np.zeros(count, np.int64))},
        {"index": pa.array([None] * count, pa.int64())},
        {"ground_material": pa.array(range(count), pa.int64())},
        {"objects": pa.array([None] * count, columns["objects"].type)},
        {"more": pa.array(range(count))},
    ]
    columns.update(kinds[int(rng.integers(len(kinds)))])
    if rng.integers(6) == 0:
        del columns["objects"]
    batch = pa.record_batch(columns)
    if rng.integers(6) == 0:
        batch = batch.slice(1)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    known_to_the_index(folder, path, sink.getvalue().to_pybytes())


def no_arrow(folder, rng):
    """A shard of other bytes, and an index that knows its checksum."""
    path = any_shard(folder, rng)
    known_to_the_index(folder, path, rng.bytes(path.stat().st_size))


def known_to_the_index(folder, path, data):
    """As a program with a mistake would have written it."""
    path.write_bytes(data)
    index = ShardIndex.load(str(folder))
    shards = index.splits[path.name.partition("-")[0]]
    place = int(path.name.partition("-")[2].partition(".")[0])
    digest = hashlib.sha256(data).hexdigest()
    shards[place] = dataclasses.replace(shards[place], bytes=len(data), sha256=digest)
    digests = {split: [dataclasses.asdict(each) for each in some] for split, some in index.splits.items()}
    changed = dataclasses.replace(index, fingerprint=index_file.fingerprint(index.spec, digests))
    (folder / "index.json").write_bytes(changed.encode())


VALUES = [None, True, False, 0, -1, 1.5, 10**30, "", "x", "../x", [], {}, [1], {"a": 1}, float("nan"), "\ud800"]


def edited(folder, rng):
    """One value of the index, at any depth, is another one."""
    fields = json.loads((folder / "index.json").read_text())
    spots = [(fields, key) for key in fields]
    for holder, key in spots:
        inner = holder[key]
        if isinstance(inner, dict | list):
            spots += [(inner, name) for name in (inner if isinstance(inner, dict) else range(len(inner)))]
    holder, key = spots[int(rng.integers(len(spots)))]
    kind = int(rng.integers(8))
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, dict):
        holder["more"] = 1
    elif kind == 2 and isinstance(holder[key], bool):
        holder[key] = not holder[key]
    elif kind == 3 and isinstance(holder[key], int):
        holder[key] += 1
    else:
        holder[key] = VALUES[int(rng.integers(len(VALUES)))]
    (folder / "index.json").write_text(json.dumps(fields))


def flags_edited(folder, rng):
    """What a person might want to be otherwise."""
    fields = json.loads((folder / "index.json").read_text())
    kind = int(rng.integers(6))
    if kind == 0:
        fields["incomplete"] = False
    elif kind == 1:
        fields["warnings"] = []
    elif kind == 2:
        fields["splits"]["train"].reverse()
    elif kind == 3:
        fields["splits"]["train"], fields["splits"]["test"] = fields["splits"]["test"], fields["splits"]["train"]
    elif kind == 4:
        fields["schema_version"] = int(rng.choice([0, 1, 3]))
    else:
        del fields["checksum"]
    (folder / "index.json").write_text(json.dumps(fields, indent=1))


def no_index(folder, rng):
    texts = [
        b"",
        b" \n",
        b"{}",
        b"[]",
        b"null",
        b"3",
        b'"x"',
        b"\xff\xfe{}",
        b"{" * 100_000,
        b"[" * 100_000,
        b"\0" * 99,
    ]
    texts += [b'{"schema_version": 2}', b'{"schema_version": 1}', b'{"schema_version": []}', b"1" * 5000, b"NaN"]
    (folder / "index.json").write_bytes(texts[int(rng.integers(len(texts)))])


KINDS: list[Damage] = [
    bit_in_a_shard,
    bits_in_a_shard,
    bit_in_the_index,
    bits_in_the_index,
    cut,
    grown,
    zeros,
    swapped,
    copied_over,
    gone,
    no_file,
    other_columns,
    no_arrow,
    edited,
    flags_edited,
    no_index,
]


def loading(index: ShardIndex) -> list[str]:
    """What a study does before it trains: complaints, none if it goes on."""
    index.verify(deep=False)
    for shard in index.shards("all"):
        index.read(shard)
    return []


def verifying(index: ShardIndex) -> list[str]:
    return integrity.inspect(index).faults


def noticed(check: Callable[[ShardIndex], list[str]], folder: Path, before: list[object]) -> str:
    """``noticed``, ``harmless`` where all is as before, ``missed``, or what went wrong."""
    try:
        index = ShardIndex.load(str(folder))
        faults = check(index)
    except ValueError as error:
        faults = [str(error)]
    except Exception as error:
        return f"traceback {type(error).__name__}"
    if any("\n" in fault for fault in faults):
        return "several lines"
    if faults:
        return "noticed"
    return "harmless" if content(index) == before else "missed"


def run(cases: int, seed: int = 0) -> dict[tuple[str, str], collections.Counter]:
    """(kind, who looks) -> how often it was noticed, harmless or missed, over ``cases`` damages."""
    found: dict[tuple[str, str], collections.Counter] = collections.defaultdict(collections.Counter)
    with tempfile.TemporaryDirectory() as place:
        before = content(sound(Path(place, "sound")))
        for case in range(cases):
            kind, folder = KINDS[case % len(KINDS)], Path(place, "damaged")
            shutil.copytree(Path(place, "sound"), folder)
            kind(folder, np.random.default_rng([seed, case]))
            for check in (verifying, loading):
                found[kind.__name__, check.__name__][noticed(check, folder, before)] += 1
            shutil.rmtree(folder)
    return found


def main() -> None:
    found = run(int(sys.argv[1]) if len(sys.argv) > 1 else 480)
    for (kind, who), counts in sorted(found.items()):
        print(f"{kind:20} {who:10}", ", ".join(f"{count} {what}" for what, count in counts.items()))
    for who in ("verifying", "loading"):
        total = sum((counts for (_, by), counts in found.items() if by == who), collections.Counter())
        print(f"{'all':20} {who:10}", ", ".join(f"{count} {what}" for what, count in total.items()))


if __name__ == "__main__":
    main()
