"""The interval of a difference, beside SciPy's Welch test and on drawn noise."""

import math

import numpy as np
import pytest
from scipy import stats

from study.scoring.interval import difference

TRIAL, BASE = [0.40, 0.50, 0.47], [0.35, 0.41]


def test_it_is_welchs_interval() -> None:
    mean, half = difference(TRIAL, BASE)
    expected = stats.ttest_ind(TRIAL, BASE, equal_var=False).confidence_interval(0.95)
    assert (mean - half, mean + half) == pytest.approx((expected.low, expected.high))
    assert difference(BASE, TRIAL) == pytest.approx((-mean, half))


def test_the_order_of_seeds_does_not_count() -> None:
    assert difference(TRIAL[::-1], BASE) == pytest.approx(difference(TRIAL, BASE))


@pytest.mark.parametrize("one", [[0.4], [0.4, 0.5]])
def test_one_seed_has_no_interval(one: list[float]) -> None:
    mean, half = difference(one, [0.38])
    assert mean == pytest.approx(np.mean(one) - 0.38) and math.isnan(half)


def test_no_seed_has_no_difference() -> None:
    assert all(math.isnan(figure) for figure in difference([], BASE))


def test_scores_that_are_all_the_same_differ_surely() -> None:
    assert difference([0.5, 0.5], [0.25, 0.25]) == (0.25, 0.0)


@pytest.mark.parametrize("other", [0.02, 0.2])
def test_an_interval_covers_the_truth_as_often_as_it_says(other: float) -> None:
    """Three seeds each, of configurations with equal noise and with very different ones."""
    generator, covered = np.random.default_rng(0), 0
    for _ in range(4000):
        mean, half = difference(generator.normal(3, 0.02, 3), generator.normal(0, other, 3))
        covered += abs(mean - 3) <= half
    assert 0.93 < covered / 4000 < 0.975
