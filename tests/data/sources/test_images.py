"""Pictures of one's own: folders, masks of every kind, splits, and what is said where something is wrong."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from data import source
from data.convert import prepare
from data.final_splits import final_splits
from data.loader import Split
from data.picture_files import central
from data.scenes import Scenes, joined
from data.sources.images import Picture as Named
from data.sources.images import Source, read
from data.spec import parse

SIZE = (32, 48)


def picture(seed: int, size: tuple[int, int] = (64, 96)) -> np.ndarray:
    """(H, W, 3), noise."""
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def truth(size: tuple[int, int] = (64, 96)) -> np.ndarray:
    """(H, W): two objects on the ground."""
    labels = np.zeros(size, np.uint8)
    labels[8:28, 8:40] = 1
    labels[36:60, 50:90] = 2
    return labels


def fill(folder: Path, count: int, start: int = 0, masks: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(start, start + count):
        Image.fromarray(picture(number)).save(folder / f"{number:03d}.png")
        if masks:
            Image.fromarray(truth()).save(folder / f"{number:03d}_mask.png")
    return folder


def scenes(root: Path, split: str = "train", variant: str = "", crop: bool = False) -> Scenes:
    return joined([*Source().find(variant, str(root)).scenes(split, crop, SIZE)])


def painted(*colours: list[int]) -> Image.Image:
    return Image.fromarray(np.array(colours, np.uint8)[truth()])


MASKS = {
    "grey": lambda: Image.fromarray(truth() * 100),
    "sixteen bits": lambda: Image.fromarray(truth().astype(np.uint16) * 9000),
    "palette": lambda: Image.fromarray(truth()).convert("P"),
    "colours": lambda: painted([0, 0, 0], [9, 200, 0], [200, 0, 9]),
    "colours without black": lambda: painted([255, 255, 255], [9, 200, 0], [200, 0, 9]),
    "transparent": lambda: painted([0, 0, 0, 0], [0, 200, 0, 255], [200, 0, 0, 255]),
}


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("place", ["masks/{}.png", "{}_mask.png", "{}_flat.png"])
def test_a_mask_of_any_kind_and_place_counts_the_objects(kind, place, tmp_path):
    fill(tmp_path, 11)
    for number in range(11):
        path = tmp_path / place.format(f"{number:03d}")
        (tmp_path / f"{number:03d}_mask.png").unlink()
        path.parent.mkdir(exist_ok=True)
        MASKS[kind]().save(path)
    found = scenes(tmp_path)
    expected = np.asarray(Image.fromarray(truth()).resize((SIZE[1], SIZE[0]), Image.Resampling.NEAREST))
    assert (found.labels == expected).all()
    assert all(len(scene["objects"]) == 2 for scene in found.metadata)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "I;16"])
def test_a_picture_of_any_mode_is_read(mode, tmp_path):
    base = Image.fromarray(picture(0)).convert("L")
    image = Image.fromarray(np.asarray(base).astype(np.uint16) * 257) if mode == "I;16" else base.convert(mode)
    image.save(tmp_path / "a.png")
    read_back, labels = read(Named(tmp_path / "a.png", None), 10, False, SIZE)
    expected = np.asarray(central(base.convert("RGB"), False, SIZE, Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(read_back, expected)
    assert not labels.any()


def test_the_central_region_of_the_sizes_shape_is_taken():
    wide = Image.fromarray(picture(0, (60, 200)))
    square = central(wide, False, (30, 30), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(np.asarray(square), np.asarray(wide.crop((70, 0, 130, 60)).resize((30, 30), 0)))
    cropped = central(wide, True, (48, 48), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(np.asarray(cropped), np.asarray(wide.crop((76, 6, 124, 54))))


def test_an_object_that_the_crop_loses_leaves_no_gap(tmp_path):
    labels = np.zeros((64, 64), np.uint8)
    labels[:4, :4], labels[20:40, 20:40] = 1, 2
    Image.fromarray(labels).save(tmp_path / "a_mask.png")
    Image.fromarray(picture(0, (64, 64))).save(tmp_path / "a.png")
    _, kept = read(Named(tmp_path / "a.png", tmp_path / "a_mask.png"), 10, True, (32, 32))
    assert np.unique(kept).tolist() == [0, 1]


def test_without_folders_tenths_are_set_apart_and_stay_apart_when_pictures_join(tmp_path):
    before = Source().find("", str(fill(tmp_path, 40)))
    assert before.counts == {"train": 32, "val": 4, "test": 4}

    def members(split: str) -> set[bytes]:
        return {image.tobytes() for image in scenes(tmp_path, split).images}

    test, train = members("test"), members("train")
    assert not test & train
    fill(tmp_path, 2, start=40)
    assert len(members("test") & test) >= 3 and before.key != Source().find("", str(tmp_path)).key


def test_folders_are_splits_and_ood_and_camo_are_scored(tmp_path):
    for number, folder in enumerate(("train", "val", "test", "ood", "camo")):
        fill(tmp_path / folder / "deeper", 3 + number, start=100 * number)
    found = Source().find("", str(tmp_path))
    assert found.counts == {"train": 3, "val": 4, "test": 5, "outd": 6, "camo": 7}
    assert {split.name for split in Source.final_splits} == {"test", "outd", "camo"}
    index = prepare(parse("images").sized(SIZE), root=str(tmp_path), cache=str(tmp_path / "cache"))
    assert len(Split([index.read(shard) for shard in index.shards("outd")])) == 6


def test_pictures_without_masks_are_said_to_have_no_scores(tmp_path):
    found = Source().find("", str(fill(tmp_path, 12, masks=False)))
    assert "no masks" in found.warnings[0] and "MSE" in found.warnings[0]
    assert not scenes(tmp_path).labels.any()


def test_a_part_of_a_split_is_read_alone(tmp_path):
    found = Source().find("", str(fill(tmp_path, 30)))
    whole = scenes(tmp_path)
    part = joined([*found.some("train", False, SIZE, range(5, 11))])
    assert part.index.tolist() == list(range(5, 11))
    np.testing.assert_array_equal(part.images, whole.images[5:11])


def test_the_spec_says_how_many_objects_there_may_be(tmp_path):
    assert parse("images").max_objects == 10 and parse("images:30-crop").max_objects == 30
    for mistake in ("0", "255", "-3", "many", "1e3", "٣"):
        with pytest.raises(ValueError, match="images:30"):
            Source().variant(mistake)


def test_damaged_files_are_named_and_the_others_still_come(tmp_path):
    fill(tmp_path, 150)
    found = Source().find("", str(tmp_path))
    names = sorted(path.name for path in tmp_path.glob("*.png") if "_mask" not in path.name)
    for name in (names[0], names[-1]):
        (tmp_path / name).write_bytes(b"no picture")
    Image.fromarray(picture(3)).save(tmp_path / names[50].replace(".png", "_mask.png"))
    iterators, errors, good = [found.scenes(split, False, SIZE) for split in found.counts], [], 0
    for iterator in iterators:
        while True:
            try:
                good += len(next(iterator).index)
            except StopIteration:
                break
            except source.Damaged as error:
                errors += error.lines
                good += len(error.sound.index) if error.sound else 0
    assert good == 147 and len(errors) == 3
    assert any("different values" in line for line in errors) and any("no picture" in line for line in errors)


def folder_of(case: str, root: Path) -> Path:
    """A folder in which something is wrong."""
    if case == "absent":
        return root / "absent"
    if case == "empty":
        return root
    if case == "few":
        return fill(root, 2)
    if case == "one mask missing":
        (fill(root, 12) / "003_mask.png").unlink()
    elif case == "two masks":
        fill(root, 12)
        (root / "masks").mkdir()
        os.link(root / "003_mask.png", root / "masks" / "003.png")
    elif case == "no train":
        fill(root / "test", 3)
    return root


@pytest.mark.parametrize(
    ("case", "named"),
    [
        ("absent", "is no folder"),
        ("empty", "holds no pictures"),
        ("few", "too few"),
        ("one mask missing", "003.png has no mask, 11 of 12"),
        ("two masks", "003.png has two masks"),
        ("no train", "no train"),
    ],
)
def test_what_is_wrong_with_a_folder_is_one_line(case, named, tmp_path):
    with pytest.raises(ValueError, match=named) as error:
        Source().find("", str(folder_of(case, tmp_path)))
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="not on a disk"):
        Source().find("", "s3://bucket/pictures")


def test_masks_that_are_written_over_in_place_are_read_anew(tmp_path):
    root, cache = fill(tmp_path / "pictures", 12), str(tmp_path / "cache")
    first = prepare(parse("images").sized(SIZE), root=str(root), cache=cache)
    for path in root.glob("*_mask.png"):
        path.write_bytes((root / "000_mask.png").read_bytes() if path.name != "000_mask.png" else path.read_bytes())
        os.utime(path, (1, 1))
    assert prepare(parse("images").sized(SIZE), root=str(root), cache=cache).folder != first.folder


def test_a_relative_folder_is_read_from_any_process(tmp_path, monkeypatch):
    fill(tmp_path / "pictures", 12)
    monkeypatch.chdir(tmp_path)
    index = prepare(parse("images").sized(SIZE), root="pictures", cache=str(tmp_path / "cache"))
    again = prepare(parse("images").sized(SIZE), root=str(tmp_path / "pictures"), cache=str(tmp_path / "cache"))
    assert index == again


def test_only_folders_that_are_there_are_said_not_to_be_scored(tmp_path):
    spec, root = parse("images").sized(SIZE), str(fill(tmp_path / "pictures", 12))
    index = prepare(spec, root=root, cache=str(tmp_path / "cache"))
    found, notices = final_splits(spec, index, root=root, cache=str(tmp_path / "cache"))
    assert found.keys() == {"test"} and notices == []


def test_several_sets_as_one_name_all_their_damaged_files(tmp_path):
    root = fill(tmp_path / "pictures", 150)
    for number in (3, 70, 140):
        (root / f"{number:03d}.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="no picture") as error:
        prepare(parse("concat(images,synthetic:plain-10scenes)").sized(SIZE), root=str(root), cache=str(tmp_path / "c"))
    assert sum(f"{number:03d}.png" in str(error.value) for number in (3, 70, 140)) == 3


def test_without_a_root_a_line_says_which_conversion_is_taken(tmp_path):
    """Any folder's pictures have the same name."""
    cache, said = tmp_path / "cache", Console(file=io.StringIO(), width=300)
    spec = parse("images-(16,16)")
    first = prepare(spec, root=str(fill(tmp_path / "a", 11)), cache=str(cache))
    assert prepare(spec, cache=str(cache), console=said).fingerprint == first.fingerprint
    assert f"note: without --data-root, images-(16,16) is {first.folder}\n" in said.file.getvalue()
    second = prepare(spec, root=str(fill(tmp_path / "b", 12)), cache=str(cache))
    assert prepare(spec, cache=str(cache), console=said).fingerprint == second.fingerprint
    assert f"is {second.folder}, the newest of 2\n" in said.file.getvalue()
