import numpy as np
import pytest

from data.sources.synthetic import drawing
from tests.data.sources.drawn import generate

SPLITS = list(drawing.COUNTS)


@pytest.fixture(scope="module")
def scenes():
    return {
        (variant, split): generate(150, (32, 32), 0, split, variant) for variant in drawing.VARIANTS for split in SPLITS
    }


def vocabulary(scenes, key):
    return {thing[key] for scene in scenes.metadata for thing in scene["objects"]}


def areas(labels):
    """Pixels per object, a list for each scene."""
    return [np.bincount(label.ravel())[1:] for label in labels]


@pytest.mark.parametrize("variant", drawing.VARIANTS)
@pytest.mark.parametrize("split", SPLITS)
def test_scenes_are_what_they_claim(scenes, variant, split):
    drawn = scenes[variant, split]
    assert drawn.images.shape == (150, 32, 32, 3) and drawn.images.dtype == np.uint8
    assert drawn.labels.shape == (150, 32, 32) and drawn.labels.dtype == np.uint8
    counts = [len(scene["objects"]) for scene in drawn.metadata]
    assert [len(area) for area in areas(drawn.labels)] == counts
    assert set(counts) == {2, 3, 4, 5}
    assert min(min(area) for area in areas(drawn.labels)) >= 12  # which also says that labels have no gaps


def test_objects_hide_one_another():
    """Some objects show less than 0.8 of their shape's area, but none grows beyond it."""
    drawn = generate(200, (128, 128), 0)
    area_of = {"disc": np.pi, "square": 2.25, "hexagon": 2.62, "capsule": 1.78}
    shown = [
        area / (area_of[thing["shape"]] * (drawing.SIZES[thing["size"]] * 128) ** 2)
        for label, scene in zip(areas(drawn.labels), drawn.metadata, strict=True)
        for area, thing in zip(label, scene["objects"], strict=True)
    ]
    covered = np.mean(np.array(shown) < 0.8)
    assert 0.05 < covered < 0.5
    assert max(shown) < 1.15


def test_bytes_depend_on_seed_and_number_alone():
    whole = generate(300, (32, 32), 3)  # several chunks
    part = generate(9, (32, 32), 3, start=140)
    same = whole[140:149]
    assert np.array_equal(same.images, part.images) and np.array_equal(same.labels, part.labels)
    assert same.metadata == part.metadata and part.index.tolist() == list(range(140, 149))
    assert not np.array_equal(generate(9, (32, 32), 4).images, whole.images[:9])
    assert not np.array_equal(generate(9, (32, 32), 3, "val").images, whole.images[:9])


@pytest.mark.parametrize("size", [(16, 16), (48, 64), (64, 48)])
def test_any_size(size):
    drawn = generate(30, size, 0)
    assert drawn.images.shape == (30, *size, 3)
    assert min(min(area) for area in areas(drawn.labels)) >= drawing.MIN_VISIBLE * min(size) ** 2


def test_too_small_is_refused():
    with pytest.raises(ValueError, match="16x16"):
        generate(1, (8, 64), 0)


def test_outd_shares_no_shape_and_no_texture(scenes):
    for variant in drawing.VARIANTS:
        seen, unseen = scenes[variant, "train"], scenes[variant, "outd"]
        assert vocabulary(seen, "shape") == set(drawing.SHAPES)
        assert vocabulary(unseen, "shape") == set(drawing.UNSEEN_SHAPES)
        looks = "material" if variant == "textured" else "color"
        assert len(vocabulary(seen, looks)) > 4
        assert not vocabulary(seen, looks) & vocabulary(unseen, looks)


@pytest.mark.parametrize("variant", drawing.VARIANTS)
def test_camo_has_one_texture_per_scene(scenes, variant):
    drawn = scenes[variant, "camo"]
    for scene in drawn.metadata:
        assert {thing["material"] for thing in scene["objects"]} == {scene["ground_material"]}
    assert len({scene["ground_material"] for scene in drawn.metadata}) > 4


def test_plain_is_flat_and_stands_out(scenes):
    """Inside an object all pixels are one colour, and that colour is not the ground's; textured ones vary."""
    spread = {}
    for variant in drawing.VARIANTS:
        drawn = scenes[variant, "train"]
        spread[variant] = [np.median(i[m == 1].std(axis=0)) for i, m in zip(drawn.images, drawn.labels, strict=True)]
    assert np.median(spread["plain"]) < 0.5 * np.median(spread["textured"])
    plain = scenes["plain", "train"]
    for image, label in zip(plain.images.astype(int), plain.labels, strict=True):
        ground = np.median(image[label == 0], axis=0)
        for number in range(1, label.max() + 1):
            assert abs(np.median(image[label == number], axis=0) - ground).max() > 40


def test_objects_cast_shadows():
    """Right below an object the plain ground is darker than it is above."""
    drawn = generate(100, (64, 64), 0, variant="plain")
    below, above = [], []
    for image, label in zip(drawn.images.astype(int), drawn.labels, strict=True):
        empty = label == 0
        ground = np.median(image[empty], axis=0).mean()
        for shift, into in ((4, below), (-4, above)):
            edge = empty & (np.roll(label, shift, axis=0) > 0)
            into.append(image[edge].mean() / ground)
    assert np.mean(below) < np.mean(above) - 0.03
