import dataclasses
import os
import pickle
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate

from data import entity_files, multi_object, tfrecords
from data.scenes import joined
from data.source import MissingDataset
from data.sources import clevr, clevr6
from tests.data.sources import entities
from trainables import metrics

COUNT = 12
SHORT = dataclasses.replace(
    clevr.Source.layout, splits={"test": range(2), "val": range(2, 4), "train": range(4, COUNT)}
)  # fmt: skip
"""As if twelve scenes were published."""


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Twelve scenes in both forms, to read; 3.2 MB each."""
    root = tmp_path_factory.mktemp("published")
    entities.write_tfrecord(root / "tfrecord", entities.scenes(COUNT))
    entities.write_npz(root / "npz", entities.scenes(COUNT))
    return root


@pytest.fixture
def twelve(monkeypatch):
    """Twelve scenes are all there are."""
    for source in (clevr.Source, clevr6.Source):
        monkeypatch.setattr(source, "layout", SHORT)


def read(root, source=clevr.Source, crop=True, size=(128, 128)):
    found = source().find("", str(root))
    return {split: joined(batches) for split in found.counts if (batches := [*found.scenes(split, crop, size)])}


def same(one, other):
    assert one.keys() == other.keys()
    for split, scenes in one.items():
        for key in ("index", "images", "labels"):
            assert np.array_equal(getattr(scenes, key), getattr(other[split], key)), (split, key)
        assert scenes.metadata == other[split].metadata
    return True


def test_pixels_and_labels_are_those_of_the_published_recipe(published):
    """Rows 24 to 215, columns 64 to 255, then torch's own filters, on each mask alone."""
    for split, scenes in read(published / "tfrecord").items():
        for number, image, label, metadata in zip(
            scenes.index, scenes.images, scenes.labels, scenes.metadata, strict=True
        ):
            drawn = entities.scene(int(number))
            square = torch.from_numpy(drawn["image"][24:216, 64:256]).permute(2, 0, 1)[None].float()
            theirs = interpolate(square, size=(128, 128), mode="bilinear")[0].permute(1, 2, 0)
            assert np.array_equal(image, theirs.round().byte().numpy()), split
            masks = torch.from_numpy(drawn["mask"][:, 24:216, 64:256, 0])[:, None]
            theirs = interpolate(masks, size=(128, 128), mode="nearest")[:, 0].argmax(0)
            assert np.array_equal(label, theirs.byte().numpy()), split
            objects = int(drawn["visibility"].sum()) - 1
            assert len(metadata["objects"]) == objects and metadata["ground_material"] is None
            for entity, thing in enumerate(metadata["objects"], 1):
                codes = {name: str(drawn[name][entity]) for name in ("shape", "size", "material", "color")}
                assert thing == codes | {"rotation": float(drawn["rotation"][entity])}


def test_without_a_crop_the_whole_picture_is_kept(published):
    scenes = read(published / "tfrecord", crop=False, size=(240, 320))["test"]
    drawn = entities.scene(0)
    assert np.array_equal(scenes.images[0], drawn["image"])
    assert np.array_equal(scenes.labels[0], drawn["mask"][..., 0].argmax(0))


def test_both_forms_and_all_encodings_give_the_same(published, tmp_path):
    expected = read(published / "tfrecord")
    assert same(read(published / "npz"), expected)
    entities.write_tfrecord(tmp_path / "unpacked", entities.scenes(COUNT), unpacked=True)
    assert same(read(tmp_path / "unpacked"), expected)
    shutil.copytree(published / "npz", tmp_path / "npz")
    for manifest in (None, "", "[1, 2]", '{"0": 5}', '{"first": "0/0.npz"}'):
        path = tmp_path / "npz" / entities.FOLDER / "manifest_ind.json"
        path.unlink() if manifest is None else path.write_text(manifest)
        assert same(read(tmp_path / "npz"), expected), manifest


@pytest.mark.parametrize("nested", [entities.FOLDER, ""])
def test_where_files_are_looked_for(published, tmp_path, nested):
    """Beside each other or in the folder of their name; the TFRecord first."""
    (tmp_path / nested).mkdir(exist_ok=True)
    (tmp_path / nested / entities.FILE).symlink_to(published / "tfrecord" / entities.FILE)
    shutil.copytree(published / "npz" / entities.FOLDER, tmp_path / entities.FOLDER, dirs_exist_ok=True)
    source = clevr.Source()
    key = source.find("", str(published / "tfrecord")).key
    assert source.find("", str(tmp_path)).key == key
    assert source.find("", str(tmp_path / nested / entities.FILE)).key == key
    assert source.find("", str(published / "npz" / entities.FOLDER)).key != key


def test_files_that_are_not_there_are_told_from_damage(tmp_path):
    with pytest.raises(MissingDataset, match=r"clevr_with_masks_train\.tfrecords nor a folder clevr_with_masks of npz"):
        clevr.Source().find("", str(tmp_path))


def test_the_key_tells_states_of_the_files_apart(published, tmp_path):
    for form in ("npz", "tfrecord"):
        root = shutil.copytree(published / form, tmp_path / form)
        keys = [clevr.Source().find("", str(root)).key for _ in range(2)]
        assert keys[0] == keys[1]
        os.utime(next(path for path in sorted(root.rglob("*")) if path.suffix in (".npz", ".tfrecords")), (0, 0))
        assert clevr.Source().find("", str(root)).key != keys[0]


def test_published_splits():
    source = clevr.Source()
    assert source.layout.splits == {
        "test": range(15_000),
        "val": range(15_000, 30_000),
        "train": range(30_000, 100_000),
    }
    assert source.counts("") == {"test": 15_000, "val": 15_000, "train": 70_000}
    assert source.layout.splits_of(100_000) == (dict(source.layout.splits), [])


def test_a_short_conversion_keeps_published_bounds_where_they_leave_scenes_to_train_on():
    splits, (warning,) = clevr.Source.layout.splits_of(30_001)
    assert splits == {"test": range(15_000), "val": range(15_000, 30_000), "train": range(30_000, 30_001)}
    assert "bounded as published, train ends with scene 30,000" in warning


def test_a_shorter_one_is_split_by_shares():
    for count in (30_000, 120, 20, 1):
        splits, (warning,) = clevr.Source.layout.splits_of(count)
        numbers = [number for split in ("test", "val", "train") for number in splits[split]]
        assert numbers == list(range(count)) and "splits are shares of what is there" in warning
    assert {split: len(numbers) for split, numbers in clevr.Source.layout.splits_of(120)[0].items()} == {
        "test": 18,
        "val": 18,
        "train": 84,
    }


def test_more_scenes_than_published_are_refused(published, monkeypatch):
    fewer = {"test": range(2), "val": range(2, 4), "train": range(4, 8)}
    monkeypatch.setattr(clevr.Source, "layout", dataclasses.replace(SHORT, splits=fewer))
    for form in ("tfrecord", "npz"):
        with pytest.raises(ValueError, match="has 12 scenes, published are 8"):
            clevr.Source().find("", str(published / form))


def test_a_complete_set_has_no_warnings(published, twelve):
    for form in ("tfrecord", "npz"):
        found = clevr.Source().find("", str(published / form))
        assert found.counts == {"test": 2, "val": 2, "train": 8}
        assert not found.incomplete and not found.warnings


def test_the_file_is_passed_once(published, twelve, monkeypatch):
    """Splits follow each other in it; a split that comes earlier starts anew."""
    found = clevr.Source().find("", str(published / "tfrecord"))
    opened = []
    records = tfrecords.Records
    monkeypatch.setattr(tfrecords, "Records", lambda path: opened.append(path) or records(path))
    whole = [number for split in found.counts for batch in found.scenes(split, True, (8, 8)) for number in batch.index]
    assert whole == list(range(COUNT)) and len(opened) == 1
    again = [batch.index.tolist() for split in ("val", "test") for batch in found.scenes(split, True, (8, 8))]
    assert again == [[2, 3], [0, 1]] and len(opened) == 3


def test_two_readers_of_one_file_do_not_mix(published):
    form = entity_files.TfRecord(published / "tfrecord" / entities.FILE)
    [*form.entries(range(2))]
    both = zip(form.entries(range(2, 6)), form.entries(range(2, 6)), strict=True)
    assert [(one, other) for (one, _), (other, _) in both] == [(number, number) for number in range(2, 6)]


def test_few_scenes_are_held(published, monkeypatch):
    """No more are read than are at work, however many there are."""
    read = []
    entries = entity_files.TfRecord.entries

    def counted(form, numbers):
        for entry in entries(form, numbers):
            read.append(entry[0])
            yield entry

    monkeypatch.setattr(entity_files.TfRecord, "entries", counted)
    form = entity_files.TfRecord(published / "tfrecord" / entities.FILE)
    reading = multi_object.Reading(form, clevr.Source.layout, {"train": range(COUNT)}, None)
    for number, _ in reading.mapped(dict, range(COUNT)):
        assert len(read) - number <= 5
    assert read == list(range(COUNT))


def test_another_process_can_read_on(published, twelve):
    for form in ("tfrecord", "npz"):
        found = clevr.Source().find("", str(published / form))
        first = joined([*found.scenes("test", True, (8, 8))])
        there = pickle.loads(pickle.dumps(found))
        assert np.array_equal(joined([*there.scenes("test", True, (8, 8))]).images, first.images)
        assert joined([*found.scenes("val", True, (8, 8))]).index.tolist() == [2, 3]


def test_places_of_a_split(published, twelve):
    """Of npz files, for several processes; a TFRecord is read in order, and of clevr6 places are not known."""
    found = clevr.Source().find("", str(published / "npz"))
    whole = joined([*found.scenes("train", True, (8, 8))])
    part = joined([*pickle.loads(pickle.dumps(found.some))("train", True, (8, 8), range(3, 6))])
    assert part.index.tolist() == [7, 8, 9] and np.array_equal(part.images, whole.images[3:6])
    assert clevr.Source().find("", str(published / "tfrecord")).some is None
    assert clevr6.Source().find("", str(published / "npz")).some is None


def test_what_tells_that_nothing_changed(published):
    """The TFRecord; of npz files, the manifest, some of them and their folders."""
    file = published / "tfrecord" / entities.FILE
    assert clevr.Source().find("", str(published / "tfrecord")).state == [str(file)]
    folder = published / "npz" / entities.FOLDER
    state = clevr.Source().find("", str(published / "npz")).state
    assert {str(folder), str(folder / "0"), str(folder / "manifest_ind.json"), str(folder / "0/0.npz")} <= {*state}


def test_clevr6_has_the_scenes_of_few_objects(published, twelve):
    few = [number for number in range(COUNT) if entities.scene(number)["visibility"].sum() <= 7]
    assert 0 < len(few) < COUNT and any(entities.scene(number)["visibility"].sum() == 7 for number in few)
    whole = read(published / "tfrecord")
    for form in ("tfrecord", "npz"):
        found = clevr6.Source().find("", str(published / form))
        some = read(published / form, clevr6.Source)
        assert [number for scenes in some.values() for number in scenes.index] == few
        assert {split: len(some[split].index) for split in some} == {key: n for key, n in found.counts.items() if n}
        for split, scenes in some.items():
            kept = np.isin(whole[split].index, few)
            assert np.array_equal(scenes.images, whole[split].images[kept])
            assert max(len(scene["objects"]) for scene in scenes.metadata) <= 6 == clevr6.Source().max_objects("")
    assert clevr6.Source().counts("") == {} and not found.incomplete


def test_clevr6_counts_scenes_only_if_asked(published, monkeypatch):
    """It takes a pass through the file, which a conversion that is in the cache does not need."""
    opened = []
    entries = entity_files.Npz.entries
    monkeypatch.setattr(
        entity_files.Npz, "entries", lambda form, numbers: opened.append(numbers) or entries(form, numbers)
    )
    found = clevr6.Source().find("", str(published / "npz"))
    assert list(found.counts) == ["test", "val", "train"] and not opened and found.incomplete
    assert sum(found.counts.values()) > 0 and len(opened) == 3


def test_both_data_sets_are_of_the_same_files():
    assert clevr.Source.layout == clevr6.Source.layout
    assert clevr.Source.final_splits == clevr6.Source.final_splits


def test_objects_can_be_scored_by_their_codes(published):
    scenes = read(published / "npz")["train"]
    masks = (scenes.labels[:, None] == np.arange(11)[:, None, None]).astype(float)
    rows = metrics.score_objects(masks, scenes.labels, scenes.metadata)
    assert {shape for shape, _ in metrics.mean_by_tag(rows, "shape", "iou")} == {"1", "2", "3"}
    assert all(value == 1 for _, value in metrics.mean_by_tag(rows, "color", "iou"))


def decoded(**changed):
    """The first scene, changed, at its own size."""
    return multi_object.decode(entities.scene(0, 4) | changed, clevr.Source.layout, False, (240, 320))


def test_where_masks_overlap_the_highest_wins_and_the_first_of_equals():
    mask = entities.scene(0, 4)["mask"]
    mask[2, :50], mask[3, :50] = 255, 255
    mask[0, :50] = mask[1, :50] = mask[4, :50] = 0
    mask[:, 60:70] = 0
    mask[4, 60:70], mask[1, 60:70] = 200, 100
    mask[:, 80:90] = 0
    _, label, _ = decoded(mask=mask)
    assert (label[:50] == 2).all() and (label[60:70] == 4).all() and (label[80:90] == 0).all()


def test_labels_count_the_visible_entities():
    """Were a place in the middle empty, labels would still count the objects that metadata list."""
    scene = entities.scene(0, 4)
    scene["mask"][0] |= scene["mask"][2]
    scene["mask"][2] = 0
    scene["visibility"][2] = 0
    _, label, metadata = decoded(**scene)
    assert np.unique(label).tolist() == [0, 1, 2, 3]
    assert [thing["rotation"] for thing in metadata["objects"]] == scene["rotation"][[1, 3, 4]].tolist()


@pytest.mark.parametrize("crop", [True, False])
def test_a_picture_from_elsewhere_is_fitted_as_the_scenes_are(published, twelve, crop):
    shown = read(published / "npz", crop=crop, size=(48, 48))["train"]
    whole = read(published / "npz", crop=False, size=SHORT.size)["train"]  # at its own size nothing is resized
    for image, expected in zip(whole.images, shown.images, strict=True):
        fitted = clevr.Source().fitted(Image.fromarray(image), crop, (48, 48))
        np.testing.assert_array_equal(fitted, expected)
