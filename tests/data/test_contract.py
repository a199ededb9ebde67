"""What every data set promises, and each check shown able to fail on a broken toy."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest

from data import source
from data.convert import prepare
from data.final_splits import final_splits
from data.loader import Split
from data.scenes import Scenes, joined
from data.shards import ShardIndex
from data.source import DataSource, Found, MissingDataset
from data.spec import DataSpec, parse
from tests.data import toy
from tests.data.sources import entities

SIZE = (32, 48)
NAMES = [*source.names(), toy.NAME]
WRITTEN = {
    "clevr": lambda root: entities.write_tfrecord(root, entities.scenes(20)),
    "clevr6": lambda root: entities.write_npz(root, entities.scenes(20)),
}
"""Data sets whose published files are too large for ``tests/data/<name>``."""


@dataclass(frozen=True)
class Variant:
    """One variant of a data set, found on this machine."""

    source: DataSource
    spec: DataSpec
    root: str | None
    found: Found
    folder: Path

    @cached_property
    def read(self) -> dict[str, Scenes]:
        """split -> its scenes, straight from the source."""
        batches = {split: [*self.found.scenes(split, False, SIZE)] for split in self.found.counts}
        return {split: joined(some) for split, some in batches.items() if some}

    @cached_property
    def index(self) -> ShardIndex:
        """Its shards."""
        return self.convert("one")

    def convert(self, cache: str) -> ShardIndex:
        return prepare(self.spec, root=self.root, cache=str(self.folder / cache))


def variants(name: str, folder: Path) -> Iterator[Variant]:
    """All variants of which there are scenes, the default among them."""
    described = source.load(name)
    root = None if described.drawn else str(Path(__file__).parent / name)
    if name in WRITTEN:
        root = str(WRITTEN[name](folder / "published").parent)
    for number, variant in enumerate(described.variants):
        try:
            found = described.find(variant, root)
        except MissingDataset:
            assert number, f"tests/data/{name} has no scenes of {variant}, the default"
            continue
        yield Variant(described, parse(f"{name}:{variant}").sized(SIZE), root, found, folder)


def specs_are_canonical(variant: Variant) -> None:
    described, spec = variant.source, variant.spec
    assert parse(str(spec)) == spec and parse(str(spec).upper()) == spec
    assert all(parse(alias).name == described.name for alias in described.aliases)
    assert parse(described.name).variant == described.variants[0]
    assert not any(set(name) & set("-:(), ") for name in (described.name, *described.variants))
    if described.takes_crop:
        assert parse(f"{described.name}-crop").crop
    else:
        with pytest.raises(ValueError, match="part 'crop'"):
            parse(f"{described.name}-crop")


def counts_hold(variant: Variant) -> None:
    counts = {split: len(scenes.index) for split, scenes in variant.read.items()}
    assert counts == {split: count for split, count in variant.found.counts.items() if count}
    assert counts["train"] > 0 and {"train", "val", "test"} <= variant.found.counts.keys()
    official = variant.source.counts(variant.spec.variant)
    assert not official or official.keys() == variant.found.counts.keys()
    fewer = variant.found.incomplete or sum(counts.values()) < sum(official.values())
    assert variant.index.incomplete == fewer
    assert variant.index.incomplete == any("not comparable" in warning for warning in variant.index.warnings)
    for scenes in variant.read.values():
        assert scenes.index.dtype == np.int64 and (np.diff(scenes.index) > 0).all()


def pixels_are_bytes(variant: Variant) -> None:
    for scenes in variant.read.values():
        assert scenes.images.shape == (len(scenes.index), *SIZE, 3) and scenes.images.dtype == np.uint8
        assert scenes.labels.shape == (len(scenes.index), *SIZE) and scenes.labels.dtype == np.uint8
        assert all(np.ptp(image) > 30 for image in scenes.images)


def labels_count_the_objects(variant: Variant) -> None:
    for scenes in variant.read.values():
        for label, scene in zip(scenes.labels, scenes.metadata, strict=True):
            objects = len(scene["objects"])
            assert np.union1d(label, [0]).tolist() == list(range(objects + 1))  # the ground may be covered
            assert objects <= variant.source.max_objects(variant.spec.variant)


def metadata_have_the_schema(variant: Variant) -> None:
    for scenes in variant.read.values():
        for scene in scenes.metadata:
            assert scene.keys() == {"ground_material", "objects"}
            assert isinstance(scene["ground_material"], str | None)
            for thing in scene["objects"]:
                texts = [thing[key] for key in ("shape", "size", "material", "color")]
                assert all(isinstance(text, str | None) for text in texts) and len(thing) == 5
                assert isinstance(thing["rotation"], float | None)


def shards_hold_the_scenes(variant: Variant) -> None:
    variant.index.verify()
    assert ShardIndex.load(variant.index.folder) == variant.index
    assert variant.index.counts == variant.found.counts
    for split, scenes in variant.read.items():
        stored = Split([variant.index.read(shard) for shard in variant.index.shards(split)])
        images, labels = stored.gather(np.arange(len(stored)))
        assert np.array_equal(images, scenes.images) and np.array_equal(labels, scenes.labels)
        assert stored.metadata(0) == {"index": scenes.index[0], **scenes.metadata[0]}


def conversion_repeats(variant: Variant) -> None:
    assert variant.convert("two").fingerprint == variant.index.fingerprint
    assert variant.convert("one") == variant.index


def final_splits_are_unseen(variant: Variant) -> None:
    found, notices = final_splits(variant.spec, variant.index, root=variant.root, cache=str(variant.folder / "one"))
    assert ("test" in found) == bool(variant.index.counts.get("test"))
    assert set(found) <= {"test", "outd", "camo", "camo_textured"} and len(notices) >= len({"test"} - set(found))
    for index, split in found.values():
        assert index.rows(split) > 0 and index.size == SIZE
        assert index.folder != variant.index.folder or split not in ("train", "val", "all")


CHECKS: list[Callable[[Variant], None]] = [
    specs_are_canonical,
    counts_hold,
    pixels_are_bytes,
    labels_count_the_objects,
    metadata_have_the_schema,
    shards_hold_the_scenes,
    conversion_repeats,
    final_splits_are_unseen,
]


@pytest.mark.parametrize("name", NAMES)
def test_contract(name, tmp_path, monkeypatch):
    if name == toy.NAME:
        toy.add(tmp_path, monkeypatch)
    for variant in variants(name, tmp_path):
        for check in CHECKS:
            check(variant)


FAULTS = [
    (specs_are_canonical, "drawn = True", "drawn = True\n    variants = ('a-b',)"),
    (specs_are_canonical, "drawn = True", "drawn = True\n    variants = ('Big',)"),
    (specs_are_canonical, "drawn = True", "drawn = True\n    aliases = ('Quads',)"),
    (counts_hold, '"test": 40', '"tests": 40'),
    (counts_hold, "drawn = True", "drawn = True\n    counts = lambda self, variant: {'train': 200}"),
    (counts_hold, "Scenes(np.arange(count), ", "Scenes(np.zeros(count, int), "),
    (counts_hold, "[square]}] * count)", "[square]}] * count)[:5]"),
    (pixels_are_bytes, "(count, *size), np.uint8", "(count, *size), np.int64"),
    (pixels_are_bytes, "(count, *size), np.uint8", "(count, *size[::-1]), np.uint8"),
    (pixels_are_bytes, "random.integers(64, 256, 3)", "1"),
    (labels_count_the_objects, "side] = 1", "side] = 2"),
    (labels_count_the_objects, "return 1", "return 0"),
    (labels_count_the_objects, "[square]}]", "[square, square]}]"),
    (metadata_have_the_schema, '"size": None', '"size": 3.5'),
    (metadata_have_the_schema, ', "rotation": 0.0', ""),
    (metadata_have_the_schema, '"ground_material": None, ', ""),
    (shards_hold_the_scenes, "default_rng(list(COUNTS).index(split))", "default_rng()"),
    (conversion_repeats, "default_rng(list(COUNTS).index(split))", "default_rng()"),
    (final_splits_are_unseen, "drawn = True", "drawn = True\n    final_splits = (('test', 'train', None, None),)"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("check", "sound", "faulty"), FAULTS, ids=[f"{check.__name__}-{i}" for i, (check, *_) in enumerate(FAULTS)]
)
def test_a_fault_is_found(check, sound, faulty, tmp_path, monkeypatch):
    assert sound in toy.code()
    toy.add(tmp_path, monkeypatch, toy.code().replace(sound, faulty))
    with pytest.raises((AssertionError, ValueError, KeyError)):
        for variant in variants(toy.NAME, tmp_path):
            check(variant)
