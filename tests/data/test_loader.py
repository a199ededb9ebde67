import json

import numpy as np
import pyarrow as pa
import pytest
import torch

from data.loader import Shuffle, Split, as_tensors, image_tensor, sequential


def draw(shuffle, times):
    return [shuffle.next().tolist() for _ in range(times)]


def test_every_epoch_sees_every_row_once_in_its_own_order():
    rows = np.concatenate(draw(Shuffle(10, 4, seed=0), 5))  # 20 rows, two epochs
    assert sorted(rows[:10]) == sorted(rows[10:]) == list(range(10))
    assert rows[:10].tolist() != rows[10:].tolist()
    assert rows.dtype == np.int64


def test_batches_are_never_short():
    assert [len(rows) for rows in draw(Shuffle(10, 4, seed=0), 9)] == [4] * 9
    assert [len(rows) for rows in draw(Shuffle(3, 8, seed=0), 4)] == [8] * 4  # a batch of several epochs


def test_seeds_differ_and_repeat():
    assert draw(Shuffle(50, 8, seed=1), 9) == draw(Shuffle(50, 8, seed=1), 9)
    assert draw(Shuffle(50, 8, seed=1), 9) != draw(Shuffle(50, 8, seed=2), 9)


def test_resumes_exactly_from_anywhere():
    for done in range(12):  # within an epoch, across its end, at its very end
        shuffle = Shuffle(10, 4, seed=7)
        draw(shuffle, done)
        state = json.loads(json.dumps(shuffle.state_dict()))
        resumed = Shuffle(10, 4, seed=0)
        resumed.load_state_dict(state)
        assert draw(resumed, 8) == draw(shuffle, 8)


def test_sequential_sees_everything_once():
    assert [rows.tolist() for rows in sequential(5, 2)] == [[0, 1], [2, 3], [4]]
    assert list(sequential(0, 2)) == []


def test_as_tensors():
    images = np.arange(2 * 4 * 6 * 3, dtype=np.uint8).reshape(2, 4, 6, 3)
    labels = np.full((2, 4, 6), 200, np.uint8)
    pixels, targets = as_tensors(images, labels, "cpu")
    assert pixels.shape == (2, 3, 4, 6) and pixels.dtype == torch.float32 and pixels.is_contiguous()
    assert pixels[1, 2, 3, 5] == np.float32(images[1, 3, 5, 2]) / 255
    assert targets.shape == (2, 4, 6) and targets.dtype == torch.int64 and targets.unique().tolist() == [200]
    assert as_tensors(np.full((1, 1, 1, 3), 255, np.uint8), labels[:1, :1, :1], "cpu")[0].max() == 1


def test_every_byte_becomes_the_float_that_division_by_255_gives():
    """To the last bit: a product with 1 / 255 differs for 126 of the 256."""
    bytes_of_all = np.random.default_rng(0).permutation(np.arange(3 * 256) // 3).astype(np.uint8)
    images = bytes_of_all.reshape(4, 8, 8, 3)
    pixels = image_tensor(images, "cpu").numpy()
    expected = images.transpose(0, 3, 1, 2) / np.float32(255)
    assert expected.dtype == pixels.dtype and np.array_equal(pixels, expected)
    assert not np.array_equal(pixels, images.transpose(0, 3, 1, 2) * np.float32(1 / 255))


def test_a_split_gathers_rows_of_all_tables_in_any_order():
    tables = []
    for numbers in (np.arange(3), np.arange(3, 8)):
        pixels = np.broadcast_to(numbers.astype(np.uint8)[:, None, None], (len(numbers), 2, 4)).copy()
        columns = {"image": np.stack([pixels] * 3, -1), "label": pixels + 100}
        tensors = {name: pa.FixedShapeTensorArray.from_numpy_ndarray(column) for name, column in columns.items()}
        tables.append(pa.table({"index": pa.array(numbers), **tensors}))
    split = Split(tables)
    assert len(split) == 8 and split.size == (2, 4) and split.index.tolist() == list(range(8))
    rows = np.array([3, 7, 0, 2, 3])
    images, labels = split.gather(rows)
    assert (images == rows[:, None, None, None]).all() and images.shape == (5, 2, 4, 3)
    assert (labels == rows[:, None, None] + 100).all() and labels.shape == (5, 2, 4)
    assert np.array_equal(split.images(rows), images) and split.images(rows).flags.writeable
    for row in (-1, 8):
        with pytest.raises(AssertionError, match="row outside the split"):
            split.gather(np.array([row]))
