import dataclasses
from pathlib import Path

import numpy as np
import pytest

from data.convert import prepare
from data.scenes import joined
from data.sources import clevr, clevr6, clevrtex
from data.spec import parse
from tests.data.sources import entities

ROOT = Path(__file__).parent / "clevrtex"
BOTH = parse("concat(clevrtex:full,clevrtex:camo)-crop-(32,32)")


def scenes(spec, root=ROOT):
    found = spec.source.find(spec.variant, str(root))
    return {
        split: joined([*found.scenes(split, spec.crop, spec.size)]) for split, count in found.counts.items() if count
    }


def test_splits_follow_each_other():
    both, full, camo = (scenes(spec) for spec in (BOTH, *BOTH.parts))
    assert {split: len(each.index) for split, each in both.items()} == {"test": 1, "val": 1, "train": 14}
    assert np.array_equal(both["test"].images, full["test"].images)
    train = [full["train"], camo["train"]]
    for key in ("images", "labels"):
        assert np.array_equal(getattr(both["train"], key), np.concatenate([getattr(each, key) for each in train]))
    assert both["train"].metadata == [scene for each in train for scene in each.metadata]
    assert both["train"].index.tolist() == [*range(14)]


def test_any_places_of_a_split(tmp_path, monkeypatch):
    """Where all parts can give them."""
    spec = parse("concat(clevr,synthetic:plain)-(8,8)")
    entities.write_npz(tmp_path, entities.scenes(20))
    found = spec.source.find(spec.variant, str(tmp_path))
    assert found.some is None and set(found.state) == set(clevr.Source().find("", str(tmp_path)).state)
    one = clevr.Source().find("", str(tmp_path))
    monkeypatch.setattr(clevrtex.Source, "find", lambda *_: one)
    spec = parse("concat(clevr,clevrtex)-(8,8)")
    found = spec.source.find(spec.variant, str(tmp_path))
    whole = joined([*found.scenes("train", False, (8, 8))])
    assert len(whole.index) == found.counts["train"] == 28
    for first, last in [(0, 28), (3, 9), (10, 20), (14, 15), (13, 14), (0, 1)]:
        part = joined([*found.some("train", False, (8, 8), range(first, last))])
        assert part.index.tolist() == list(range(first, last)) == whole.index[first:last].tolist()
        assert np.array_equal(part.images, whole.images[first:last])
        assert part.metadata == whole.metadata[first:last]


def test_a_conversion_of_its_own(tmp_path, monkeypatch):
    index = prepare(BOTH, root=str(ROOT), cache=str(tmp_path))
    assert index.spec == "concat(clevrtex:full,clevrtex:camo)-crop-(32,32)" and index.incomplete
    assert index.filters == clevrtex.FILTERS
    assert prepare(BOTH, cache=str(tmp_path)) == index
    other = prepare(parse("concat(clevrtex:camo,clevrtex:full)-crop-(32,32)"), root=str(ROOT), cache=str(tmp_path))
    assert other.fingerprint != index.fingerprint and other.counts == index.counts
    monkeypatch.setattr(clevrtex, "IMAGES", {"full": 12, "camo": 4})
    assert not prepare(BOTH, root=str(ROOT), cache=str(tmp_path / "whole")).incomplete
    monkeypatch.setattr(clevrtex, "IMAGES", {"full": 12, "camo": 5})
    assert prepare(BOTH, root=str(ROOT), cache=str(tmp_path / "short")).incomplete


def test_a_part_that_is_cut_short_is_named(tmp_path):
    spec = parse("concat(clevrtex:full,clevr6)-(32,48)")
    entities.write_npz(tmp_path, entities.scenes(20))
    (tmp_path / "clevrtex_full").symlink_to(ROOT / "clevrtex_full")
    index = prepare(spec, root=str(tmp_path), cache=str(tmp_path / "cache"))
    assert index.incomplete and index.max_objects > 6
    assert any(warning.startswith("clevr6: clevr_with_masks is cut short") for warning in index.warnings)
    assert any("fewer than the published images; its results are not comparable" in each for each in index.warnings)
    assert index.filters["image"] == (
        "clevrtex:full: Pillow BILINEAR, antialiased; clevr6: torch bilinear, not antialiased"
    )


@pytest.mark.parametrize(("full", "others"), [(12, 20), (13, 20), (12, 21)])
def test_it_is_incomplete_if_a_part_is(tmp_path, monkeypatch, full, others):
    """Also where the official number of scenes is not known, as of the second part here."""
    entities.write_npz(tmp_path, entities.scenes(20))
    (tmp_path / "clevrtex_full").symlink_to(ROOT / "clevrtex_full")
    monkeypatch.setattr(clevrtex, "IMAGES", clevrtex.IMAGES | {"full": full})
    splits = {"test": range(2), "val": range(2, 4), "train": range(4, others)}
    monkeypatch.setattr(clevr6.Source, "layout", dataclasses.replace(clevr6.Source.layout, splits=splits))
    spec = parse("concat(clevrtex:full,clevr6)-(8,8)")
    assert spec.source.find(spec.variant, str(tmp_path)).incomplete == ((full, others) != (12, 20))


def test_drawn_and_published_scenes(tmp_path):
    """Only splits that both have."""
    index = prepare(parse("concat(synthetic:0.2-8scenes,clevrtex:full)-(16,16)"), root=str(ROOT), cache=str(tmp_path))
    assert index.counts.keys() == {"test", "val", "train"}


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(ValueError, match="clevrtex_full does not exist"):
        prepare(BOTH, root=str(tmp_path), cache=str(tmp_path))
    with pytest.raises(ValueError, match="give --data-root the folder that holds clevrtex_full and clevrtex_camo"):
        prepare(BOTH, cache=str(tmp_path))
