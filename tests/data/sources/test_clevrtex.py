import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.source import Damaged, MissingDataset
from data.sources import clevrtex
from tests.data.sources.published import ROOT, add_scene, as_variant


@pytest.fixture
def full(tmp_path):
    """A copy to damage; gives the path of a file for a scene's number and an ending."""
    shutil.copytree(ROOT / "clevrtex_full", tmp_path / "clevrtex_full")
    return lambda number, ending=".png": tmp_path / "clevrtex_full/0" / f"CLEVRTEX_full_{number:06d}{ending}"


def read_all(root, variant="full"):
    published = clevrtex.find(str(root), variant)
    return list(clevrtex.batches(published, range(len(published.images)), True, (128, 128)))


def assert_same(left, right):
    for a, b in zip(left, right, strict=True):
        assert np.array_equal(a.images, b.images) and np.array_equal(a.labels, b.labels)
        assert a.index.tolist() == b.index.tolist() and a.metadata == b.metadata


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


def test_a_colour_is_kept_where_it_shows(full):
    colours = [thing["color"] for thing in json.loads(full(0, ".json").read_text())["objects"]]
    (scenes,) = read_all(as_variant(full(0).parents[1], "vbg").parent, "vbg")
    assert [thing["color"] for thing in scenes.metadata[0]["objects"]] == colours


def test_splits_by_index():
    published = clevrtex.find(str(ROOT), "full")
    assert len(published.images) == 12
    assert published.splits() == {"test": range(1), "val": range(1, 2), "train": range(2, 12)}


@pytest.mark.parametrize(
    ("there", "bounds"),
    [
        (50_000, [5_000, 10_000, 50_000]),
        (40_000, [5_000, 10_000, 40_000]),  # no official test image is trained on
        (10_001, [5_000, 10_000, 10_001]),
        (10_000, [1_000, 2_000, 10_000]),  # nothing would be left to train on
        (12, [1, 2, 12]),
        (50_010, [5_001, 10_002, 50_010]),  # not what was published
    ],
)
def test_published_bounds_wherever_they_leave_images_to_train_on(there, bounds):
    test, val, train = clevrtex.splits(there, 50_000).values()
    assert [test, val, train] == [range(bounds[0]), range(bounds[0], bounds[1]), range(bounds[1], bounds[2])]
    shares = clevrtex.splits(there)
    assert list(shares.values()) == [
        range(there // 10),
        range(there // 10, there // 5),
        range(there // 5, there),
    ]


def test_what_is_missing_at_the_end_moves_no_image_from_test_to_train(full, monkeypatch):
    monkeypatch.setattr(clevrtex, "IMAGES", {"full": 30})
    for number in range(12, 24):
        add_scene(full(0).parents[1], number - 12, number)
    found = clevrtex.Source().find("full", str(full(0).parents[2]))
    assert found.counts == {"test": 3, "val": 3, "train": 18}
    assert [next(found.scenes(split, True, (8, 8))).index[0] for split in found.counts] == [0, 3, 6]


@pytest.mark.parametrize(
    ("official", "bounds", "said"),
    [
        (12, [1, 1, 10], None),
        (15, [1, 2, 9], r"lacks the images 12 to 14; its splits have the published bounds"),
        (60, [1, 1, 10], r"lacks the images 12 to 59; its splits are tenths of what is there"),
    ],
)
def test_what_is_missing_at_the_end_is_said(official, bounds, said, monkeypatch):
    before = clevrtex.find(str(ROOT), "full").key
    monkeypatch.setattr(clevrtex, "IMAGES", {"full": official})
    found = clevrtex.Source().find("full", str(ROOT))
    assert list(found.counts.values()) == bounds
    assert [bool(re.search(said, warning)) for warning in found.warnings] == [True] * bool(said)
    # Shards of the same files with other splits are not theirs; those converted before keep their key.
    assert (found.key == before) == (bounds == [1, 1, 10])


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
    folder = as_variant(full(0).parents[1], "grassbg")
    right = read_all(folder.parent, "grassbg")
    folder = folder.rename(folder.with_name("clevrtex_grassbd"))
    assert_same(read_all(folder.parent, "grassbg"), right)
    for path in folder.rglob("*.*"):
        path.rename(path.with_name(path.name.replace("grassbg", "grassbd")))
    for path in folder.rglob("*.json"):
        path.write_text(path.read_text().replace("grassbg", "grassbd"))
    assert_same(read_all(folder.parent, "grassbg"), right)


def test_a_folder_is_listed_once_and_no_file_is_asked_for_twice(full, monkeypatch):
    """A listing has the state of all files; to ask a network disk for each of 150,000 would take minutes."""
    asked, listed = [], []
    stat, scandir = Path.stat, os.scandir
    monkeypatch.setattr(Path, "stat", lambda path, **options: asked.append(path) or stat(path, **options))
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(str(path)) or scandir(path))
    folder = full(0).parents[1]
    clevrtex.find(str(folder.parent), "full")
    assert listed == [str(folder.parent), str(folder), str(folder / "0")]
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


def label_too_high(full):
    mask = Image.open(full(3, "_flat.png"))
    mask.putpixel((0, 0), 11)
    mask.save(full(3, "_flat.png"))
    scene = json.loads(full(3, ".json").read_text())
    full(3, ".json").write_text(json.dumps(scene | {"objects": scene["objects"][:3], "num_objects": 3}))


def forget_objects(full):
    scene = json.loads(full(3, ".json").read_text())
    full(3, ".json").write_text(json.dumps(scene | {"objects": scene["objects"][:1], "num_objects": 1}))


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
    shrink_mask: "000003_flat.png is damaged .it has size .128, 128., not .320, 240..",
    label_too_high: "000003_flat.png has label 11, above 3",
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


def test_a_conversion_can_go_on_past_damaged_files(full, monkeypatch):
    """The batch with damage names all its bad files and has the sound scenes; the next batch is the next."""
    monkeypatch.setattr(clevrtex, "_BATCH", 5)
    truncate_mask(full), break_json(full), full(4).write_bytes(b""), full(11).write_bytes(b"")
    scenes = clevrtex.batches(clevrtex.find(str(full(0).parents[2]), "full"), range(12), True, (32, 32))
    with pytest.raises(Damaged) as error:
        next(scenes)
    assert [Path(name).name[14:] for name, _ in error.value.files] == [
        "000003_flat.png",
        "000003.json",
        "000004.png",
    ]
    assert error.value.sound.index.tolist() == [0, 1, 2] and error.value.sound.images.shape == (3, 32, 32, 3)
    assert next(scenes).index.tolist() == [5, 6, 7, 8, 9]
    with pytest.raises(Damaged, match=r"000011.png is damaged .it is no PNG.; unpack its archive again"):
        next(scenes)
    assert list(scenes) == []


def test_missing_files_are_all_named(full):
    drop_mask(full), drop_json(full)
    with pytest.raises(Damaged) as error:
        clevrtex.find(str(full(0).parents[2]), "full")
    assert [wrong for _, wrong in error.value.files] == ["is missing"] * 2
