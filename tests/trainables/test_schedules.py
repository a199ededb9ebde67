"""Schedules at, between and beyond their ends."""

from trainables.schedules import linear


def test_linear_holds_its_ends():
    assert [linear(step, 1.0, 3.0, 10, 20) for step in (0, 10, 15, 20, 99)] == [1.0, 1.0, 2.0, 3.0, 3.0]


def test_linear_without_duration_has_arrived():
    assert linear(0, 1.0, 3.0, 0, 0) == 3.0
    assert [linear(step, 1.0, 3.0, 5, 5) for step in (4, 5)] == [1.0, 3.0]
