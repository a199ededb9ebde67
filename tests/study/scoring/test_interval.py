"""The interval of a difference, on numbers worked out by hand."""

import math

import numpy as np
import pytest

from study.scoring.interval import paired, quantile

BASE = {11: 0.35, 12: 0.41}
TRIAL = {11: 0.40, 12: 0.50}


def test_two_entries_have_the_paired_t_interval() -> None:
    # the differences are 0.05 and 0.09: mean 0.07, standard error 0.02, one degree of freedom
    difference, half = paired({"trial": TRIAL, "base": BASE}, "trial", "base")
    assert difference == pytest.approx(0.07) and half == pytest.approx(12.706 * 0.02)
    swapped, same = paired({"trial": TRIAL, "base": BASE}, "base", "trial")
    assert swapped == pytest.approx(-0.07) and same == pytest.approx(half)


def test_what_a_seed_adds_to_all_entries_does_not_count() -> None:
    shifted = {name: {11: scores[11], 12: scores[12] + 5} for name, scores in (("trial", TRIAL), ("base", BASE))}
    assert paired(shifted, "trial", "base") == pytest.approx(paired({"trial": TRIAL, "base": BASE}, "trial", "base"))


def test_the_noise_is_that_of_all_entries() -> None:
    # Means 0.62, 0.45, 0.38 of the entries, 0.45, 0.51667 of the seeds, 0.48333 of all: residuals of seed 11 are
    # 0.01333, -0.01667, 0.00333, those of seed 12 the opposite. Sum of squares 0.00093333, two degrees of freedom.
    scores = {"third": {11: 0.60, 12: 0.64}, "trial": TRIAL, "base": BASE}
    difference, half = paired(scores, "trial", "base")
    assert difference == pytest.approx(0.07)
    assert half == pytest.approx(4.303 * math.sqrt(2 * 0.00093333 / 2 / 2), rel=1e-4)
    del scores["third"][12]  # it failed with this seed, and says nothing about the noise
    assert paired(scores, "trial", "base")[1] == pytest.approx(12.706 * 0.02)


def test_one_common_seed_has_no_interval() -> None:
    difference, half = paired({"trial": {11: 0.4}, "base": BASE}, "trial", "base")
    assert difference == pytest.approx(0.02) and math.isnan(half)


def test_an_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Four entries, three seeds: noise of seeds, and independent noise of each run."""
    generator, covered = np.random.default_rng(0), 0
    for _ in range(2000):
        noise = generator.normal(0, 0.05, 3) + generator.normal(0, 0.02, (4, 3))
        scores = {name: dict(enumerate(level + row)) for name, level, row in zip("abcd", range(4), noise, strict=True)}
        difference, half = paired(scores, "d", "a")
        covered += abs(difference - 3) <= half
    assert 0.935 < covered / 2000 < 0.965


@pytest.mark.parametrize(("freedom", "expected"), [(1, 12.706), (10, 2.228), (11, 2.201), (30, 2.042), (120, 1.980)])
def test_quantiles_are_those_of_tables(freedom: int, expected: float) -> None:
    assert quantile(freedom) == pytest.approx(expected, abs=5e-4)
