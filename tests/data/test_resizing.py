import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from data import resizing

SIZES = [(192, 192, 128, 128), (192, 192, 32, 32), (192, 192, 96, 64), (240, 320, 48, 64), (192, 192, 100, 37)]
SIZES += [(240, 320, 240, 320), (7, 5, 3, 11), (1, 1, 4, 4), (192, 192, 384, 192)]


@pytest.mark.parametrize("sizes", SIZES)
def test_bilinear_is_that_of_torch(sizes):
    """Of whole numbers at sizes whose weights are exact; halves are rounded to even ones, as ``torch.round`` does."""
    height, width, *size = sizes
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    theirs = interpolate(torch.from_numpy(image).permute(2, 0, 1)[None].float(), size=size, mode="bilinear")
    assert np.array_equal(resizing.bilinear(image, tuple(size)), theirs[0].permute(1, 2, 0).round().byte().numpy())


def test_nearest_is_that_of_torch():
    for length in range(1, 330):
        for wanted in (1, 3, 10, 32, 37, 64, 96, 100, 128, 131, 240):
            theirs = interpolate(torch.arange(length).view(1, 1, -1).float(), size=wanted, mode="nearest")
            assert resizing.nearest(length, wanted).tolist() == theirs.flatten().tolist(), (length, wanted)


def test_the_recipe_spelled_out():
    """A crop of 192 pixels to 128: labels take every pixel but each third, and thin lines are not averaged away."""
    assert resizing.nearest(192, 128)[:7].tolist() == [0, 1, 3, 4, 6, 7, 9]
    line = np.zeros((192, 192, 1), np.uint8)
    line[:, 30] = 240
    assert resizing.bilinear(line, (128, 128))[5, 18:22, 0].tolist() == [0, 0, 180, 0]
    line = np.roll(line, 1, axis=1)
    assert resizing.bilinear(line, (128, 128))[5, 18:22, 0].tolist() == [0, 0, 60, 60]


def test_the_central_square():
    assert resizing.central_square((240, 320), 0.8) == (slice(24, 216), slice(64, 256))
    assert resizing.central_square((5, 8), 0.8) == (slice(0, 4), slice(2, 6))
