import shutil
from pathlib import Path

import pytest

from data import writing
from data.convert import prepare
from data.final_splits import curve_splits, final_splits
from data.shards import Unwritable
from data.source import MissingDataset
from data.sources import clevrtex
from data.spec import parse
from tests.data import toy
from tests.data.sources import entities
from tests.data.sources.published import as_variant

ROOT = Path(__file__).parent / "clevrtex"
SPEC = parse("clevrtex:full-crop-(32,32)")


@pytest.fixture
def root(tmp_path):
    """A copy of the scenes, to change."""
    return shutil.copytree(ROOT, tmp_path / "root")


def test_all_in_one_folder(tmp_path):
    spec = parse("synthetic:plain-(16,16)")
    index = prepare(spec, cache=str(tmp_path))
    found, notices = final_splits(spec, index, cache=str(tmp_path))
    assert found == {split: (index, split) for split in ("test", "outd", "camo", "camo_textured")} and notices == []


def test_a_split_that_only_other_variants_have_is_no_loss(tmp_path):
    spec = parse("synthetic:0.4-8scenes-(16,16)")
    found, notices = final_splits(spec, prepare(spec, cache=str(tmp_path)), cache=str(tmp_path))
    assert set(found) == {"test", "outd", "camo"} and notices == []


def test_some_in_folders_of_other_variants(root, tmp_path):
    cache = str(tmp_path / "cache")
    index = prepare(SPEC, root=str(root), cache=cache)
    found, notices = final_splits(SPEC, index, root=str(root), cache=cache)
    assert {split: (of.spec, part, of.rows(part)) for split, (of, part) in found.items()} == {
        "test": ("clevrtex:full-crop-(32,32)", "test", 1),
        "outd": ("clevrtex:outd-crop-(32,32)", "all", 4),
        "camo": ("clevrtex:camo-crop-(32,32)", "all", 4),
    }
    assert notices == ["camo is incomplete: all its 4 images are scored"]
    shutil.rmtree(root / "clevrtex_outd")
    found, notices = final_splits(SPEC, index, root=str(root), cache=cache)
    assert set(found) == {"test", "camo"} and "outd is not scored" in notices[0]


@pytest.mark.parametrize("variant", ["camo", "outd"])
def test_no_scene_that_was_trained_on_is_scored(root, tmp_path, variant):
    """An incomplete ``camo``, and ``outd``, are scored whole, except for models that were trained on them."""
    shutil.rmtree(root / f"clevrtex_{variant}")
    as_variant(root / "clevrtex_full", variant)
    spec, cache = SPEC.varied(variant), str(tmp_path / "cache")
    index = prepare(spec, root=str(root), cache=cache)
    found, notices = final_splits(spec, index, root=str(root), cache=cache)
    assert found["test"] == found[variant] == (index, "test") and index.rows("test") == 1
    assert any(f"{variant} is the test split here" in notice for notice in notices)
    assert index.rows("train") == 10 and index.rows("all") == 12


def test_trained_on_without_a_test_split_is_not_scored(root, tmp_path):
    spec, cache = SPEC.varied("camo"), str(tmp_path / "cache")
    index = prepare(spec, root=str(root), cache=cache)  # 4 images: a tenth of them is none
    found, notices = final_splits(spec, index, root=str(root), cache=cache)
    assert set(found) == {"outd"} and "too few images" in notices[0]


def test_on_the_curve_of_drawn_scenes_only_the_test_splits_are_drawn(tmp_path):
    spec, cache = parse("synthetic:0.3-8scenes-(16,16)"), str(tmp_path)
    index = prepare(spec, cache=cache)
    places, _ = curve_splits(spec, index, cache=cache)
    assert list(places) == ["0", "0.2", "0.3", "0.4", "0.6", "0.8", "1"]
    assert places.pop("0.3") == (index, "test")
    labels = index.read(index.shards("test")[0])["label"]
    for other, split in places.values():
        assert split == "test" and other.counts == {"test": 400} and not other.incomplete
        assert other.read(other.shards("test")[0])["label"].equals(labels), "the same scenes"
    assert curve_splits(spec, index, cache=cache)[0] == places | {"0.3": (index, "test")}
    whole = prepare(parse("synthetic:0.4-(16,16)"), cache=cache)
    assert whole.counts["train"] == 4000, "it does not find the test split alone"
    assert curve_splits(spec, index, cache=cache)[0]["0.4"] == places["0.4"], "its scores hold"


def test_a_curve_that_the_cache_has_no_room_for_is_left_out(tmp_path, monkeypatch):
    spec = parse("synthetic:0.4-8scenes-(16,16)")
    index = prepare(spec, cache=str(tmp_path))

    def full(*_: object, **__: object) -> None:
        raise Unwritable("the disk is full")

    monkeypatch.setattr(writing, "write", full)
    shutil.copytree(index.folder, tmp_path / "synthetic-plain-16x16-v1")  # of an earlier version
    places, notices = curve_splits(spec, index, cache=str(tmp_path))
    assert places == {"0.4": (index, "test")} and len(notices) == 5
    assert notices[0].startswith("0 is not scored: the disk is full; synthetic-plain-16x16-v1 there holds scenes of")
    assert notices[1] == "0.2 is not scored: the disk is full"


def test_on_the_curve_of_published_files_are_the_variants_that_are_there(root, tmp_path):
    """Incomplete ones are scored whole, but for the one that was trained on; hard ones come last."""
    cache = str(tmp_path / "cache")
    index = prepare(SPEC, root=str(root), cache=cache)
    places, _ = curve_splits(SPEC, index, root=str(root), cache=cache)
    assert {name: (of.spec, split) for name, (of, split) in places.items()} == {
        "full": ("clevrtex:full-crop-(32,32)", "test"),
        "camo": ("clevrtex:camo-crop-(32,32)", "all"),
        "outd": ("clevrtex:outd-crop-(32,32)", "all"),
    }
    assert list(places) == ["full", "camo", "outd"]
    assert curve_splits(SPEC, index, cache=cache)[0] == places, "from the cache alone"
    with_camo, _ = curve_splits(SPEC.varied("camo"), prepare(SPEC.varied("camo"), cache=cache), cache=cache)
    assert list(with_camo) == ["full", "outd"], "four images leave none for a test split of its own"


def test_of_a_complete_variant_the_test_split_alone_is_converted(root, tmp_path, monkeypatch):
    """Until all of it is needed."""
    monkeypatch.setattr(clevrtex, "IMAGES", {"full": 12, "camo": 12, "outd": 4})
    shutil.rmtree(root / "clevrtex_camo")
    as_variant(Path(shutil.copytree(root / "clevrtex_full", root / "copy" / "clevrtex_full")), "camo")
    (root / "copy/clevrtex_camo").rename(root / "clevrtex_camo")
    cache = str(tmp_path / "cache")
    index = prepare(SPEC, root=str(root), cache=cache)
    camo, split = curve_splits(SPEC, index, root=str(root), cache=cache)[0]["camo"]
    assert split == "test" and camo.counts == {"test": 1} and not camo.incomplete
    assert curve_splits(SPEC, index, cache=cache)[0]["camo"] == (camo, split), "from the cache alone"
    with pytest.raises(MissingDataset):
        prepare(SPEC.varied("camo"), cache=cache)
    assert prepare(SPEC.varied("camo"), root=str(root), cache=cache).counts == {"test": 1, "val": 1, "train": 10}


def test_a_data_set_may_have_no_curve(tmp_path, monkeypatch):
    toy.add(tmp_path, monkeypatch)
    spec = parse("squares-(16,16)")
    assert curve_splits(spec, prepare(spec, cache=str(tmp_path)), cache=str(tmp_path))[0] == {}


@pytest.fixture
def elsewhere(root):
    """The scenes of another data set beside its final splits."""
    entities.write_npz(root, entities.scenes(20))
    return root


@pytest.mark.parametrize("name", ["clevr", "clevr6"])
def test_final_splits_of_another_data_set(elsewhere, tmp_path, name):
    """In the data root or, where they are not there, in the cache."""
    spec, cache = parse(f"{name}-crop-(32,32)"), str(tmp_path / "cache")
    index = prepare(spec, root=str(elsewhere), cache=cache)
    shutil.rmtree(elsewhere / "clevrtex_camo")
    found, notices = final_splits(spec, index, root=str(elsewhere), cache=cache)
    assert {split: (of.spec, part) for split, (of, part) in found.items()} == {
        "test": (str(spec), "test"),
        "outd": ("clevrtex:outd-crop-(32,32)", "all"),
    }
    assert any("camo is not scored: " in notice and "clevrtex_camo does not exist" in notice for notice in notices)
    shutil.rmtree(elsewhere / "clevrtex_outd")
    again, _ = final_splits(spec, index, root=str(elsewhere), cache=cache)
    assert again == found, "from the cache"
    assert final_splits(spec, index, cache=cache)[0] == found
    assert not spec.source.curve("")


def test_final_splits_of_several_data_sets_as_one(root, tmp_path, monkeypatch):
    """Of a part that was trained on, the test split alone is scored, however few scenes there are."""
    spec, cache = parse("concat(clevrtex:full,clevrtex:camo)-crop-(32,32)"), str(tmp_path / "cache")
    index = prepare(spec, root=str(root), cache=cache)
    found, notices = final_splits(spec, index, root=str(root), cache=cache)
    assert found.keys() == {"test", "outd"} and found["test"] == (index, "test")
    assert "camo is not scored: clevrtex:camo-crop-(32,32) has too few images for a test split" in notices
    shutil.rmtree(root / "clevrtex_camo")
    copied = shutil.copytree(root / "clevrtex_full", root / "copy" / "clevrtex_full")
    as_variant(copied, "camo").rename(root / "clevrtex_camo")
    found, notices = final_splits(spec, prepare(spec, root=str(root), cache=cache), root=str(root), cache=cache)
    camo, split = found["camo"]
    assert (camo.spec, split, camo.rows(split)) == ("clevrtex:camo-crop-(32,32)", "test", 1)
    assert "camo is a test split of what was trained on, and nothing new to these models" in notices
    whole, _ = final_splits(SPEC, prepare(SPEC, root=str(root), cache=cache), root=str(root), cache=cache)
    assert whole["camo"] == (camo, "all"), "models that were not trained on it have all of it"
