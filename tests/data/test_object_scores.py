"""From published files to scores per shape, size and material: shards, ``Split.metadata``, ``score_objects``, means."""

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data.convert import prepare
from data.loader import Split, as_tensors
from data.spec import parse
from trainables.metrics import mean_by_tag, score_objects

ROOT = Path(__file__).parent / "clevrtex"
SIDE, SLOTS = 128, 12
KEPT = {"small": 0.5, "medium": 0.75, "large": 0.875}
"""Share of an object's pixels, in reading order, that its mask keeps; the ground's mask has the others."""


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    index = prepare(
        parse(f"clevrtex:full-crop-({SIDE},{SIDE})"), root=str(ROOT), cache=str(tmp_path_factory.mktemp("c"))
    )
    return Split([index.read(shard) for shard in index.shards("train")])


@pytest.fixture(scope="module")
def rows(train):
    """Scores of masks that keep the first pixels of each object, in slots of which none has its label's number."""
    pixels, labels = as_tensors(*train.gather(np.arange(len(train))), "cpu")
    metadata = [train.metadata(row) for row in range(len(train))]
    masks = torch.zeros(len(train), SLOTS, SIDE, SIDE)
    for label, scene, mask in zip(labels, metadata, masks, strict=True):
        mask[0] = 1
        for number, thing in enumerate(scene["objects"], start=1):
            where = (label == number).nonzero()
            y, x = where[: int(len(where) * KEPT[thing["size"]])].T
            mask[0, y, x] = 0
            mask[number % 10 + 1, y, x] = 1
    return score_objects(masks, labels, metadata, pixels + 0.5, pixels)


@pytest.fixture(scope="module")
def expected(train):
    """The same from the files: (scene, label) -> shape, size, material, IoU, pixels; label 0 is the ground."""
    found = {}
    nearest = np.floor((np.arange(SIDE) + 0.5) * 1.5).astype(int)  # the published crop and resize, as indices
    for row, number in enumerate(train.index):
        stem = ROOT / "clevrtex_full" / "0" / f"CLEVRTEX_full_{number:06d}"
        mask = np.array(Image.open(f"{stem}_flat.png"))[24 + nearest][:, 64 + nearest]
        scene = json.loads(Path(f"{stem}.json").read_text())
        ground = int((mask == 0).sum())
        taken = 0
        for label, thing in enumerate(scene["objects"], start=1):
            area = int((mask == label).sum())
            kept = int(area * KEPT[thing["size"]])
            taken += area - kept
            if area:  # else it was cropped away
                found[row, label] = (thing["shape"], thing["size"], thing["material"], kept / area, area)
        found[row, 0] = (None, None, scene["ground_material"], ground / (ground + taken), ground)
    return found


def test_a_row_for_each_ground_and_visible_object(rows, expected):
    assert [(row["image"], row["object"]) for row in rows] == sorted(expected)
    for row in rows:
        shape, size, material, iou, area = expected[row["image"], row["object"]]
        assert (row["shape"], row["size"], row["color"]) == (shape, size, None)
        assert (row["material"] if row["object"] else row["ground_material"]) == material
        assert row["iou"] == pytest.approx(iou, abs=1e-12)
        assert row["mse"] == pytest.approx(3 * 0.5**2 * area, rel=1e-5)


@pytest.mark.parametrize(("tag", "column"), [("shape", 0), ("size", 1), ("material", 2), ("ground_material", 2)])
def test_means_by_tag(rows, expected, tag, column):
    groups = defaultdict(list)
    for (_, label), facts in expected.items():
        if (label == 0) == (tag == "ground_material"):
            groups[facts[column]].append(facts[3])
    means = mean_by_tag(rows, tag, "iou")
    assert dict(means) == {key: pytest.approx(sum(ious) / len(ious)) for key, ious in groups.items()}
    assert [mean for _, mean in means] == sorted(mean for _, mean in means)


def test_figures_in_plain_numbers(rows):
    """Half, three and seven eighths of the pixels, rounded down to whole ones."""
    by_size = dict(mean_by_tag(rows, "size", "iou"))
    assert by_size == {size: pytest.approx(kept, abs=0.005) for size, kept in KEPT.items()}
    by_shape = {shape: round(mean, 3) for shape, mean in mean_by_tag(rows, "shape", "iou")}
    assert by_shape == {"cylinder": 0.631, "cube": 0.677, "sphere": 0.71, "monkey": 0.74}
    assert mean_by_tag(rows, "color", "iou") == [] and len(rows) == 75  # a material hides the colour
