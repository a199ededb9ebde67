import io

import numpy as np
import pytest
import torch
from PIL import Image

from trainables import pictures

LEFT = pictures.GAP
TOP = pictures.CAPTION_HEIGHT


def cell(panel: np.ndarray, row: int, column: int, size: int) -> np.ndarray:
    """The picture (size, size, 3) in a row and column of a panel whose cells are ``size`` pixels wide."""
    y = TOP + row * (size + pictures.GAP)
    x = LEFT + column * (size + pictures.GAP)
    return panel[y : y + size, x : x + size]


def labels() -> np.ndarray:
    """(1, 32, 32): two objects on a background."""
    true = np.zeros((1, 32, 32), np.int64)
    true[0, 4:14, 4:14] = 1
    true[0, 18:28, 18:28] = 2
    return true


def test_columns_are_input_reconstruction_true_and_predicted() -> None:
    image = torch.randint(256, (2, 3, 32, 32), generator=torch.Generator().manual_seed(0)) / 255
    reconstruction = torch.full((2, 3, 32, 32), 1.7)  # unclamped, as models give it
    reconstruction[1] = float("nan")
    true = np.repeat(labels(), 2, axis=0)
    panel = pictures.panel(image, reconstruction, torch.as_tensor(true), true)
    assert panel.dtype == np.uint8 and panel.shape == (TOP + 2 * 134, LEFT + 4 * 134, 3)
    expected = (image * 255).round().byte().permute(0, 2, 3, 1).numpy()
    for row in range(2):
        np.testing.assert_array_equal(cell(panel, row, 0, 128)[2::4, 2::4], expected[row])
    assert (cell(panel, 0, 1, 128) == 255).all() and (cell(panel, 1, 1, 128) == 0).all()
    colours = pictures.palette(3)
    np.testing.assert_array_equal(cell(panel, 0, 2, 128)[2::4, 2::4], colours[true[0]])
    np.testing.assert_array_equal(cell(panel, 0, 3, 128), cell(panel, 0, 2, 128))
    assert (panel[:TOP] < 128).any(), "no captions"


@pytest.mark.parametrize(("size", "expected"), [(32, 128), (48, 96), (64, 128), (128, 128), (200, 200)])
def test_small_images_are_enlarged_by_whole_factors(size: int, expected: int) -> None:
    image = np.zeros((1, 3, size, size), np.float32)
    flat = np.zeros((1, size, size), np.uint8)
    assert pictures.panel(image, image, flat, flat).shape[1] == LEFT + 4 * (expected + pictures.GAP)
    assert pictures.panel(image, image, flat, flat, scale=1).shape[1] == LEFT + 4 * (size + pictures.GAP)


def test_predicted_segments_take_the_labels_they_match() -> None:
    true = labels()[0]
    pred = np.select([true == 0, true == 1], [7, 0], default=3)
    pred[:2] = 5  # a slot of its own on the background
    matched = pictures.match_labels(true, pred)
    np.testing.assert_array_equal(matched[2:], true[2:])
    assert (matched[:2] == 3).all(), "an unmatched segment is numbered on from the highest true label"


def test_a_single_predicted_slot_is_background() -> None:
    assert (pictures.match_labels(labels()[0], np.full((32, 32), 4)) == 0).all()


def test_matching_keeps_gaps_in_true_labels_and_the_partition() -> None:
    true = labels()[0]
    true[true == 2] = 9
    pred = np.arange(32 * 32).reshape(32, 32) % 65  # as many slots as SPACE has
    matched = pictures.match_labels(true, pred)
    assert len(np.unique(matched)) == 65 and len(set(zip(pred.flat, matched.flat, strict=True))) == 65
    assert {0, 1, 9} <= set(matched.flat)


def test_palette_starts_with_grey_and_does_not_repeat() -> None:
    colours = pictures.palette(66)
    assert tuple(colours[0]) == pictures.BACKGROUND
    assert len({tuple(colour) for colour in colours}) == 66
    np.testing.assert_array_equal(pictures.palette(1), colours[:1])


def test_present_boxes_are_drawn_on_the_input_only() -> None:
    image = torch.zeros(1, 3, 32, 32)
    nowhere = float("nan")
    boxes = torch.tensor(
        [[[4, 6, 14, 16], [18, 18, 28, 28], [-9, -9, 40, 40], [nowhere, 0, 1, 1]]], dtype=torch.float32
    )
    presence = torch.tensor([[0.9, 0.4, 0.8, 1.0]])
    panel = pictures.panel(image, image, labels(), labels(), boxes, presence)
    drawn = (cell(panel, 0, 0, 128) == pictures.BOX_COLOUR).all(-1)
    assert drawn[24, 16:56].all() and drawn[24:64, 16].all(), "the edges of the first box, four times as large"
    assert drawn[0].all() and drawn[:, 127].all(), "a box beyond the image is drawn at its border"
    assert not drawn[70:120, 70:120].any(), "an absent box is not drawn"
    assert (cell(panel, 0, 1, 128) == 0).all()


def test_png_holds_the_same_pixels() -> None:
    panel = pictures.panel(torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32), labels(), labels())
    encoded = pictures.encode_png(panel)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(encoded))), panel)
