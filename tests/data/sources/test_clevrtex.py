import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.source import MissingDataset
from data.sources import clevrtex

ROOT = Path(__file__).parents[1] / "clevrtex"


@pytest.fixture
def full(tmp_path):
    """A copy to damage; gives the path of a file for a scene's number and an ending."""
    shutil.copytree(ROOT / "clevrtex_full", tmp_path / "clevrtex_full")
    return lambda number, ending=".png": tmp_path / "clevrtex_full/0" / f"CLEVRTEX_full_{number:06d}{ending}"


def read_all(root, variant="full"):
    published = clevrtex.find(str(root), variant)
    return list(clevrtex.batches(published, range(len(published.images)), True, (128, 128)))


def test_pixels_are_those_of_the_published_recipe():
    """Compared with Pillow and indices spelled out: box 64, 24, 256, 216; nearest takes floor(1.5 (i + 0.5))."""
    for path in clevrtex.find(str(ROOT), "full").images:
        image, label, metadata = clevrtex.read(path, True, (128, 128))
        picture = Image.open(path).crop((64, 24, 256, 216)).resize((128, 128), Image.Resampling.BILINEAR)
        assert np.array_equal(image, np.array(picture)[..., :3])
        nearest = np.floor((np.arange(128) + 0.5) * 1.5).astype(int)
        mask = np.array(Image.open(str(path).replace(".png", "_flat.png")))
        assert np.array_equal(label, mask[24 + nearest][:, 64 + nearest])
        assert label.max() <= len(metadata["objects"]) <= 10


def test_height_comes_first_and_no_crop_keeps_the_whole_picture():
    path = clevrtex.find(str(ROOT), "full").images[0]
    image, label, _ = clevrtex.read(path, False, (240, 320))
    assert np.array_equal(image, np.array(Image.open(path)))
    assert np.array_equal(label, np.array(Image.open(clevrtex.mask_of(path))))


def test_a_fourth_channel_changes_nothing(full):
    before, *_ = clevrtex.read(full(0), True, (128, 128))
    Image.open(full(0)).convert("RGBA").save(full(0))
    after, *_ = clevrtex.read(full(0), True, (128, 128))
    assert np.array_equal(before, after)


def test_metadata():
    path = clevrtex.find(str(ROOT), "full").images[0]
    scene = json.loads(clevrtex.scene_of(path).read_text())
    *_, metadata = clevrtex.read(path, True, (128, 128))
    assert metadata["ground_material"] == scene["ground_material"]
    for ours, theirs in zip(metadata["objects"], scene["objects"], strict=True):
        assert ours["color"] is None  # a material hides it
        assert all(ours[key] == theirs[key] for key in ("shape", "size", "material", "rotation"))
    *_, coloured = clevrtex.read(path, True, (128, 128), coloured=True)
    assert coloured["objects"][0]["color"] == scene["objects"][0]["color"]


def test_splits_by_index():
    published = clevrtex.find(str(ROOT), "full")
    assert len(published.images) == 12
    assert published.splits() == {"test": range(1), "val": range(1, 2), "train": range(2, 12)}
    assert clevrtex.splits(50_000) == {
        "test": range(5_000),
        "val": range(5_000, 10_000),
        "train": range(10_000, 50_000),
    }


def test_official_counts():
    source = clevrtex.Source()
    assert source.counts("outd") == {"test": 1000, "val": 1000, "train": 8000}
    assert sum(sum(source.counts(variant).values()) for variant in source.variants) == 140_000
    assert source.counts("clevr") == {}


def test_order_is_that_of_the_indices_wherever_files_lie(full):
    expected = clevrtex.read(full(11), True, (16, 16))[0]
    deeper = full(11).parents[1] / "3" / "deeper"
    deeper.mkdir(parents=True)
    for ending in (".png", "_flat.png", ".json"):
        full(11, ending).rename(deeper / full(11, ending).name)
    published = clevrtex.find(str(full(0).parents[1]), "full")  # the folder itself for a root
    assert np.array_equal(clevrtex.read(published.images[11], True, (16, 16))[0], expected)


def test_grassbg_under_its_other_spelling(full):
    folder = full(0).parents[1]
    for path in folder.glob("0/*"):
        path.rename(path.with_name(path.name.replace("full", "grassbg")))
    folder.rename(folder.with_name("clevrtex_grassbd"))
    assert len(clevrtex.find(str(folder.parent), "grassbg").images) == 12


def test_a_folder_is_listed_once_and_no_file_is_asked_for_twice(full, monkeypatch):
    """A listing has the state of all files; to ask a network disk for each of 150,000 would take minutes."""
    asked, listed = [], []
    stat, scandir = Path.stat, os.scandir
    monkeypatch.setattr(Path, "stat", lambda path, **options: asked.append(path) or stat(path, **options))
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(str(path)) or scandir(path))
    folder = full(0).parents[1]
    clevrtex.find(str(folder.parent), "full")
    assert listed == [str(folder), str(folder / "0")]
    assert not [path for path in asked if path.suffix]


def test_the_key_tells_states_of_a_folder_apart(full):
    root = str(full(0).parents[2])
    keys = [clevrtex.find(root, "full").key]
    for ending in (".png", "_flat.png", ".json"):
        os.utime(full(5, ending), (0, 0))
        keys.append(clevrtex.find(root, "full").key)
    full(5, ".json").write_text("{}")
    os.utime(full(5, ".json"), (0, 0))
    keys.append(clevrtex.find(root, "full").key)
    assert len(set(keys)) == 5
    assert clevrtex.find(root, "full").key == keys[-1]


def drop_mask(full):
    full(3, "_flat.png").unlink()


def drop_json(full):
    full(3, ".json").unlink()


def make_hole(full):
    full(3).unlink()


def repeat(full):
    (full(3).parents[1] / "1").mkdir()
    shutil.copy(full(3), full(3).parents[1] / "1")


def truncate(full):
    full(3).write_bytes(full(3).read_bytes()[:20_000])


def truncate_mask(full):
    full(3, "_flat.png").write_bytes(b"")


def grey_mask(full):
    Image.open(full(3, "_flat.png")).convert("L").save(full(3, "_flat.png"))


def grey_image(full):
    Image.open(full(3)).convert("L").save(full(3))


def shrink_mask(full):
    Image.open(full(3, "_flat.png")).resize((128, 128), 0).save(full(3, "_flat.png"))


def label_eleven(full):
    mask = Image.open(full(3, "_flat.png"))
    mask.putpixel((0, 0), 11)
    mask.save(full(3, "_flat.png"))
    scene = json.loads(full(3, ".json").read_text())
    scene["objects"] = [scene["objects"][0]] * 11
    full(3, ".json").write_text(json.dumps(scene))


def forget_objects(full):
    scene = json.loads(full(3, ".json").read_text())
    scene["objects"] = scene["objects"][:1]
    full(3, ".json").write_text(json.dumps(scene))


def break_json(full):
    full(3, ".json").write_text('{"objects": [')


def empty(full):
    for path in full(0).parent.iterdir():
        path.unlink()


DAMAGE = {
    drop_mask: "000003_flat.png is missing",
    drop_json: "000003.json is missing",
    make_hole: "lacks 1 of its first 12 images .number 3.",
    repeat: "scene 3 is there twice",
    truncate: "000003.png is damaged",
    truncate_mask: "000003_flat.png is damaged",
    grey_mask: "000003_flat.png has mode L, not P",
    grey_image: "000003.png has mode L, not RGB",
    shrink_mask: "000003_flat.png has size .128, 128.",
    label_eleven: "000003_flat.png has label 11, above 10",
    forget_objects: "above 1, the number of objects",
    break_json: "000003.json is damaged",
    empty: "holds no CLEVRTEX_full_",
}


@pytest.mark.parametrize(("damage", "message"), DAMAGE.items(), ids=[damage.__name__ for damage in DAMAGE])
def test_damage_is_named_in_one_line(full, damage, message):
    damage(full)
    with pytest.raises(ValueError, match=message) as error:
        read_all(full(0).parents[2])
    assert "\n" not in str(error.value)


def test_a_variant_that_is_not_there_is_told_from_damage(tmp_path):
    with pytest.raises(MissingDataset, match="clevrtex_pbg does not exist; give --data-root"):
        clevrtex.find(str(tmp_path), "pbg")
