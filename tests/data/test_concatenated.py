from pathlib import Path

import numpy as np
import pytest

from data.convert import prepare
from data.scenes import joined
from data.sources import clevrtex
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
    assert both["train"].index.tolist() == [*range(2, 12), *range(12, 16)]


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


def test_drawn_and_published_scenes(tmp_path):
    """Only splits that both have."""
    index = prepare(parse("concat(synthetic:0.2-8scenes,clevrtex:full)-(16,16)"), root=str(ROOT), cache=str(tmp_path))
    assert index.counts.keys() == {"test", "val", "train"}


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(ValueError, match="clevrtex_full does not exist"):
        prepare(BOTH, root=str(tmp_path), cache=str(tmp_path))
    with pytest.raises(ValueError, match="give --data-root the folder that holds clevrtex_full and clevrtex_camo"):
        prepare(BOTH, cache=str(tmp_path))
