"""Schedules at, between and beyond their ends."""

import pytest

from trainables.schedules import half_cosine, linear, warm_up


def test_linear_holds_its_ends():
    assert [linear(step, 1.0, 3.0, 10, 20) for step in (0, 10, 15, 20, 99)] == [1.0, 1.0, 2.0, 3.0, 3.0]


def test_linear_without_duration_has_arrived():
    assert linear(0, 1.0, 3.0, 0, 0) == 3.0
    assert [linear(step, 1.0, 3.0, 5, 5) for step in (4, 5)] == [1.0, 3.0]


def test_a_warm_up_wastes_no_step_but_where_it_is_published_so():
    assert [warm_up(step, 4) for step in (0, 1, 3, 4, 99)] == [0.25, 0.5, 1, 1, 1]
    assert [warm_up(step, 4, from_zero=True) for step in (0, 1, 4, 99)] == [0, 0.25, 1, 1]
    assert [warm_up(step, 2.5) for step in (0, 1, 2)] == pytest.approx([0.4, 0.8, 1])
    assert warm_up(0, 0) == warm_up(0, 0, from_zero=True) == 1


def test_half_a_cosine_ends_at_zero_and_stays_there():
    assert [half_cosine(step, 100) for step in (0, 25, 50, 100, 150)] == pytest.approx([1, 0.8535534, 0.5, 0, 0])
