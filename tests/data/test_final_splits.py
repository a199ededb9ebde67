import shutil
from pathlib import Path

import pytest

from data.convert import prepare
from data.final_splits import final_splits
from data.spec import parse

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
    (root / "clevrtex_full").rename(root / f"clevrtex_{variant}")
    for path in root.glob(f"clevrtex_{variant}/0/*"):
        path.rename(path.with_name(path.name.replace("full", variant)))
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
