"""What each slot of a model does, and its picture."""

import numpy as np
import torch
from torch import nn

from study.scoring import slots
from tests.study.scoring.test_objects import Scenes
from trainables.output import SegmentationOutput


class Halves(nn.Module):
    """Twenty slots: the fourth has the left half of each image, the last the right one, the second a tenth of both."""

    image_size = 6

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, image: torch.Tensor, step: int) -> SegmentationOutput:
        masks = torch.zeros(len(image), 20, 1, 6, 6)
        masks[:, 3, :, :, :3] = 0.9
        masks[:, 19, :, :, 3:] = 0.9
        masks[:, 1] = 0.1
        return SegmentationOutput(torch.tensor(0.0), image, masks, {})


def predicted() -> np.ndarray:
    labels = np.full((3, 6, 6), 3)
    labels[:, :, 3:] = 19
    labels[0, 0, 0] = 1
    return labels


def test_shares_and_use_of_each_slot() -> None:
    found = slots.usage(predicted(), 20)
    assert len(found) == 20 and found[1] == slots.Slot(1, round(1 / 108, 6), round(1 / 3, 6))
    assert (found[19].share, found[19].used) == (0.5, 1.0) and found[0] == slots.Slot(0, 0.0, 0.0)
    few = np.zeros((1, 20, 20), int)
    few[0, 0, :3] = 1
    assert [slot.used for slot in slots.usage(few, 2)] == [1.0, 0.0], "3 of 400 pixels are not a use"


def test_the_picture_has_the_masks_of_the_largest_slots_in_their_order() -> None:
    png = slots.picture(Halves(), Scenes(), predicted(), step=0)  # type: ignore[arg-type]
    found = slots.read(png)
    assert found is not None and found.count == 20 and len(found.slots) == slots.MOST
    numbers = [slot.number for slot in found.slots]
    assert numbers == sorted(numbers) and {1, 3, 19} < set(numbers)
    assert len(found.inputs) == 3 and {len(cells) for cells in found.cells} == {3}
    shown = dict(zip(numbers, found.cells, strict=True))
    width, height = shown[3][0].size
    assert shown[3][2].getpixel((2, 2)) == (230, 230, 230) and shown[3][2].getpixel((width - 2, 2)) == (0, 0, 0)
    assert shown[19][0].getpixel((width - 2, height - 2)) == (230, 230, 230), "masks before the largest wins"
    assert shown[1][1].getpixel((2, 2)) == (26, 26, 26)
    assert slots.read(_plain()) is None


def _plain() -> bytes:
    from trainables.pictures import encode_png

    return encode_png(np.zeros((4, 4, 3), np.uint8))
