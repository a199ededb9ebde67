"""Maps of positions, and the cells of a grid."""

import torch

from trainables.positions import cells, centres, coordinates, ramps


def test_coordinates_are_row_and_column():
    row, column = coordinates(5)
    assert row[:, 0].tolist() == column[0].tolist() == [-1, -0.5, 0, 0.5, 1]
    assert (row == column.T).all()


def test_ramps_include_both_ends():
    assert ramps(5)[1, 4].tolist() == [0.25, 1.0, 0.75, 0.0]
    assert ramps(5)[4, 0].tolist() == [1.0, 0.0, 0.0, 1.0]


def test_cells_are_counted_row_by_row():
    assert cells(2).tolist() == [[0, 0], [1, 0], [0, 1], [1, 1]]


def test_a_centre_moves_at_most_one_cell():
    at_rest = centres(torch.zeros(1, 16, 2))
    assert at_rest[0, 1].tolist() == [-0.25, -0.75]
    moved = centres(torch.full((1, 16, 2), 100.0))
    torch.testing.assert_close(moved - at_rest, torch.full((1, 16, 2), 0.5))
