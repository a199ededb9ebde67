import itertools
import subprocess
import sys

import numpy as np
import pytest

from data import machine, source
from data.scenes import joined
from data.sources.synthetic import DEFAULT, Source, drawing, processes
from data.spec import parse
from tests.data.sources.drawn import generate

SPLITS = list(drawing.COUNTS)
PLAIN, TEXTURED = 0.0, 1.0
STRENGTHS = (PLAIN, 0.2, 0.4, 0.6, 0.8, TEXTURED)


@pytest.fixture(scope="module")
def scenes():
    return {
        (strength, split): generate(150, (32, 32), 0, split, strength) for strength in STRENGTHS for split in SPLITS
    }


BEFORE = {
    (0, "train", (32, 32)): (-4513.2, 80.3),
    (0, "train", (48, 64)): (-16489.6, -82.9),
    (0, "val", (32, 32)): (-2825.0, -7.7),
    (0, "val", (48, 64)): (-14790.3, -79.5),
    (0, "test", (32, 32)): (-5312.3, -3.2),
    (0, "test", (48, 64)): (-26085.0, -67.2),
    (0, "outd", (32, 32)): (-11163.7, 74.3),
    (0, "outd", (48, 64)): (-25213.1, -139.3),
    (0, "camo_textured", (32, 32)): (-11142.7, 0.5),
    (0, "camo_textured", (48, 64)): (-2568.2, 47.5),
    (1, "train", (32, 32)): (-12782.6, 80.3),
    (1, "train", (48, 64)): (-19402.4, -82.9),
    (1, "val", (32, 32)): (-3733.4, -7.7),
    (1, "val", (48, 64)): (-13441.8, -79.5),
    (1, "test", (32, 32)): (-8836.2, -3.2),
    (1, "test", (48, 64)): (-9504.7, -67.2),
    (1, "outd", (32, 32)): (-3407.9, 74.3),
    (1, "outd", (48, 64)): (-10388.5, -139.3),
    (1, "camo", (32, 32)): (-11142.7, 0.5),
    (1, "camo", (48, 64)): (-2568.2, 47.5),
}
"""(strength, split, size) -> checksums of the images and labels that version 1 drew, ``camo`` of ``plain`` under its
name of today."""


def checksum(pixels):
    """A sum with random weights. On another processor a few pixels differ by 1, which changes it by less than 2."""
    return float((np.random.default_rng(0).random(pixels.size) - 0.5) @ pixels.ravel().astype(float))


@pytest.mark.parametrize(("strength", "split", "size"), BEFORE)
def test_plain_and_textured_are_what_they_were(strength, split, size):
    drawn = generate(40, size, 0, split, strength, start=5)
    images, labels = BEFORE[strength, split, size]
    assert checksum(drawn.images) == pytest.approx(images, abs=4)
    assert checksum(drawn.labels) == pytest.approx(labels, abs=2)


def vocabulary(scenes, key):
    return {thing[key] for scene in scenes.metadata for thing in scene["objects"]}


def areas(labels):
    """Pixels per object, a list for each scene."""
    return [np.bincount(label.ravel())[1:] for label in labels]


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("split", SPLITS)
def test_scenes_are_what_they_claim(scenes, strength, split):
    drawn = scenes[strength, split]
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
    for strength in (PLAIN, TEXTURED):
        seen, unseen = scenes[strength, "train"], scenes[strength, "outd"]
        assert vocabulary(seen, "shape") == set(drawing.SHAPES)
        assert vocabulary(unseen, "shape") == set(drawing.UNSEEN_SHAPES)
        looks = "material" if strength == TEXTURED else "color"
        assert len(vocabulary(seen, looks)) > 4
        assert not vocabulary(seen, looks) & vocabulary(unseen, looks)


def test_scenes_are_the_same_at_all_strengths(scenes):
    for split in SPLITS:
        plain, *others = (scenes[strength, split] for strength in STRENGTHS)
        for other in others:
            assert np.array_equal(plain.labels, other.labels)
            for one, another in zip(plain.metadata, other.metadata, strict=True):
                for thing, same in zip(one["objects"], another["objects"], strict=True):
                    assert all(thing[key] == same[key] for key in ("shape", "size", "rotation"))


def test_what_is_known_of_surfaces_is_what_shows(scenes):
    """Between the ends a texture and a flat colour both do."""
    shown = {}
    for strength in STRENGTHS:
        things = [thing for scene in scenes[strength, "train"].metadata for thing in scene["objects"]]
        shown[strength] = [(thing["material"], thing["color"]) for thing in things]
    assert {material for material, _ in shown[PLAIN]} == {"plain"}
    assert {color for _, color in shown[TEXTURED]} == {None}
    for strength in STRENGTHS[1:-1]:
        assert [m for m, _ in shown[strength]] == [m for m, _ in shown[TEXTURED]]
        assert [c for _, c in shown[strength]] == [c for _, c in shown[PLAIN]]


def inner(label):
    """Where all four neighbours two pixels away have the same label: no edge is there, and its blur neither."""
    same = np.ones_like(label, bool)
    for shift, axis in itertools.product((-2, 2), (0, 1)):
        same &= np.roll(label, shift, axis) == label
    return same & (label > 0)


@pytest.mark.parametrize("split", ["train", "outd"])
def test_contrast_within_objects_grows_with_strength(split):
    contrasts = []
    for strength in STRENGTHS:
        drawn = generate(60, (64, 64), 0, split, strength)
        where = [(image, inner(label) & (label == k)) for image, label in zip(drawn.images, drawn.labels, strict=True)
                 for k in range(1, label.max() + 1)]  # fmt: skip
        contrasts.append([image[mask].std(axis=0).mean() for image, mask in where if mask.sum() > 20])
    assert len(contrasts[0]) > 100
    means = np.mean(contrasts, axis=1)
    assert means[0] < 4 and (np.diff(means) > 2).all(), means
    weaker, stronger = np.array(contrasts[1:-1]), np.array(contrasts[2:])
    assert (stronger > weaker).mean() > 0.9, "not only on average"


def colours_apart(image):
    """How far an image's colours are from a plane through black: two colours, mixed and lit in any way, span one."""
    pixels = image.reshape(-1, 3).astype(float)
    first, _, third = np.linalg.svd(pixels[(pixels < 255).all(1)], compute_uv=False)
    return third / first


@pytest.mark.parametrize("strength", STRENGTHS)
def test_in_camo_only_light_tells_objects_from_the_ground(scenes, strength):
    drawn = scenes[strength, "camo"]
    for scene in drawn.metadata:
        assert {thing["material"] for thing in scene["objects"]} == {scene["ground_material"]}
        assert {thing["color"] for thing in scene["objects"]} == {None}
    assert max(map(colours_apart, drawn.images)) < 0.005
    assert np.median([*map(colours_apart, scenes[strength, "test"].images)]) > 0.03, "elsewhere other colours do, too"
    outline = [
        abs(image[label > 0].astype(float).mean() - image[label == 0].mean())
        for image, label in zip(drawn.images, drawn.labels, strict=True)
    ]
    assert np.mean(outline) > 5, "light does tell them"
    if strength == PLAIN:
        assert np.ptp(drawn.images, axis=-1).max() == 0, "all grey"
    else:
        assert len({scene["ground_material"] for scene in drawn.metadata}) > 4


def test_camo_comes_in_the_style_of_the_strength_and_in_full_texture(scenes):
    full = scenes[TEXTURED, "camo"]
    for strength in STRENGTHS:
        fixed = scenes[strength, "camo_textured"]
        assert np.array_equal(fixed.images, full.images) and fixed.metadata == full.metadata
        assert np.array_equal(scenes[strength, "camo"].labels, full.labels)
        assert strength == TEXTURED or not np.array_equal(scenes[strength, "camo"].images, full.images)


def test_plain_is_flat_and_stands_out(scenes):
    """Inside an object all pixels are one colour, and that colour is not the ground's; textured ones vary."""
    spread = {}
    for strength in (PLAIN, TEXTURED):
        drawn = scenes[strength, "train"]
        spread[strength] = [np.median(i[m == 1].std(axis=0)) for i, m in zip(drawn.images, drawn.labels, strict=True)]
    assert np.median(spread[PLAIN]) < 0.5 * np.median(spread[TEXTURED])
    plain = scenes[PLAIN, "train"]
    for image, label in zip(plain.images.astype(int), plain.labels, strict=True):
        ground = np.median(image[label == 0], axis=0)
        for number in range(1, label.max() + 1):
            assert abs(np.median(image[label == number], axis=0) - ground).max() > 40


def test_objects_cast_shadows():
    """Right below an object the plain ground is darker than it is above."""
    drawn = generate(100, (64, 64), 0, strength=PLAIN)
    below, above = [], []
    for image, label in zip(drawn.images.astype(int), drawn.labels, strict=True):
        empty = label == 0
        ground = np.median(image[empty], axis=0).mean()
        for shift, into in ((4, below), (-4, above)):
            edge = empty & (np.roll(label, shift, axis=0) > 0)
            into.append(image[edge].mean() / ground)
    assert np.mean(below) < np.mean(above) - 0.03


SPELLINGS = {
    "plain": "plain",
    "0": "plain",
    "1.0": "textured",
    "0.40": "0.4",
    ".4": "0.4",
    "0.4004": "0.4",
    "0.0001": "plain",
    "0.9999": "textured",
    "0.4-50000scenes": "0.4-50000scenes",
    "1-4000scenes": "textured",
    "0+siblings": "plain+siblings",
    "0.20+siblings-50000scenes": "0.2+siblings-50000scenes",
    "textured+siblings": "textured",
}


@pytest.mark.parametrize(("text", "canonical"), SPELLINGS.items())
def test_a_strength_has_one_spelling(text, canonical):
    assert str(parse(f"synthetic:{text}-(32,32)")) == f"synthetic:{canonical}-(32,32)"
    assert parse(str(parse(f"synthetic:{text}"))) == parse(f"synthetic:{text}")
    assert Source().variant(canonical) == canonical


def test_the_default_variant():
    assert parse("synthetic") == parse(f"synthetic:{DEFAULT}")
    assert {"plain", "textured"} <= set(Source.variants)


@pytest.mark.parametrize("split", ["train", "outd"])
def test_siblings_share_a_colour_and_nothing_else_changes(split):
    ours, others = (generate(50, (32, 32), 0, split, 0.0, siblings=siblings) for siblings in (True, False))
    assert np.array_equal(ours.labels, others.labels)
    assert all(len({thing["color"] for thing in scene["objects"]}) == 1 for scene in ours.metadata)
    assert len({scene["objects"][0]["color"] for scene in ours.metadata}) > 3
    shapes = [[thing["shape"] for scene in scenes.metadata for thing in scene["objects"]] for scenes in (ours, others)]
    assert shapes[0] == shapes[1] and not np.array_equal(ours.images, others.images)
    full = [generate(9, (32, 32), 0, split, 1.0, siblings=siblings).images for siblings in (True, False)]
    assert np.array_equal(*full)


@pytest.mark.parametrize(
    "text",
    ["1.01", "-0.1", "-.1", "2", "nan", "inf", "-1e9", "full", "", "0.4x", "0.4-scenes", "0.4+twins", "+siblings"],
)
def test_a_strength_that_cannot_be_is_named(text):
    with pytest.raises(ValueError, match=r"a strength of texture from 0 to 1|part 'scenes'") as error:
        parse(f"synthetic:{text}")
    assert repr(text) in str(error.value) or "scenes" in text
    assert "\n" not in str(error.value)


def test_a_variant_draws_at_its_strength():
    found = source.load("synthetic").find("0.3", None)
    (drawn,) = itertools.islice(found.scenes("val", False, (16, 16)), 1)
    assert np.array_equal(drawn.images[:5], generate(5, (16, 16), 0, "val", 0.3).images)
    assert "camo_textured" in source.load("synthetic").counts("plain")
    assert set(found.counts) == set(SPLITS) - {"camo_textured"}


def test_more_scenes_to_train_on_leave_the_others_as_they_are():
    few, usual = (Source().find(variant, None) for variant in ("0.3-500scenes", "0.3"))
    assert few.counts == usual.counts | {"train": 500}
    of_few, of_usual = (joined([*found.scenes("train", False, (16, 16))]) for found in (few, usual))
    assert len(of_few.index) == 500 and len(of_usual.index) == 4000
    assert np.array_equal(of_few.images, of_usual.images[:500])


def test_processes_draw_what_one_does():
    """Three pieces and part of a fourth, in order."""
    size, count = (64, 64), 3 * 128 + 40
    together = [*processes.batches(count, size, 3, "outd", 0.4, processes=2)]
    alone = [*drawing.batches(count, size, 3, "outd", 0.4)]
    assert len(together) == len(alone) > 20
    for ours, theirs in zip(together, alone, strict=True):
        assert np.array_equal(ours.index, theirs.index) and ours.metadata == theirs.metadata
        assert np.array_equal(ours.images, theirs.images) and np.array_equal(ours.labels, theirs.labels)


def test_many_pixels_are_drawn_by_all_cores(monkeypatch):
    asked = []
    monkeypatch.setattr(machine, "usable_cores", lambda: 1)  # else this would take processes
    monkeypatch.setattr(processes, "ProcessPoolExecutor", lambda *_: asked.append(_) or 1 / 0)
    assert next(processes.batches(50_000, (32, 32), 0, "train", 0.4)).index[0] == 0
    monkeypatch.setattr(machine, "usable_cores", lambda: 64)
    assert next(processes.batches(4000, (32, 32), 0, "train", 0.4)).index[0] == 0 and not asked
    with pytest.raises(ZeroDivisionError):
        next(processes.batches(50_000, (32, 32), 0, "train", 0.4))
    assert asked[0][0] == 64


DIES = """
import os, signal
from data.sources.synthetic import processes
if __name__ == "__main__":
    import multiprocessing
    drawn = processes.batches(10_000, (64, 64), 0, "train", 0.4, processes=2)
    next(drawn)
    os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
    try:
        print(sum(1 for _ in drawn))
    except ValueError as error:
        print(error)
"""


def test_a_process_that_dies_is_one_line(tmp_path):
    (tmp_path / "dies.py").write_text(DIES)
    done = subprocess.run([sys.executable, tmp_path / "dies.py"], capture_output=True, text=True, timeout=120)
    assert done.stdout == "a process that drew scenes has died; free some memory, or ask for fewer --scenes\n", done
