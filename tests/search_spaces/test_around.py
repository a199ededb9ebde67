"""The ranges that search spaces are made from."""

from collections.abc import Callable
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

import trainables
from search_spaces.around import Around


def suggested(base: Any, ask: Callable[[Around], Any], base_first: bool = True) -> Any:
    """The distribution that ``ask`` suggests for "key" around ``base``. The base's own value must come back."""
    trial = optuna.trial.FixedTrial({"key": base})
    assert ask(Around(trial, {"key": base}, base_first)) == base
    return trial.distributions["key"]


@pytest.mark.parametrize(
    ("base", "low", "high"), [(0.5, 0.2, 0.8), (0.1, 0.1, 0.8), (0.9, 0.2, 0.9)], ids=["inside", "below", "above"]
)
def test_a_float_range_holds_the_base(base: float, low: float, high: float) -> None:
    assert suggested(base, lambda around: around.within("key", 0.2, 0.8)) == FloatDistribution(low, high)
    logarithmic = suggested(base, lambda around: around.within("key", 0.2, 0.8, log=True))
    assert logarithmic == FloatDistribution(low, high, log=True)


@pytest.mark.parametrize(("base", "low", "high"), [(5, 4, 6), (2, 2, 6), (9, 4, 9)], ids=["inside", "below", "above"])
def test_an_integer_range_holds_the_base(base: int, low: int, high: int) -> None:
    assert suggested(base, lambda around: around.count("key", 4, 6)) == IntDistribution(low, high)
    logarithmic = suggested(base, lambda around: around.count("key", 4, 6, log=True))
    assert logarithmic == IntDistribution(low, high, log=True)


def test_factors_and_shifts_go_both_ways_and_may_differ() -> None:
    assert suggested(8.0, lambda around: around.near("key", 4)) == FloatDistribution(2.0, 32.0, log=True)
    assert suggested(8.0, lambda around: around.near("key", 4, 1.5)) == FloatDistribution(2.0, 12.0, log=True)
    assert suggested(-1.0, lambda around: around.shifted("key", 2)) == FloatDistribution(-3.0, 1.0)
    assert suggested(-1.0, lambda around: around.shifted("key", 2, 0.5)) == FloatDistribution(-3.0, -0.5)


@pytest.mark.parametrize(
    ("base", "base_first", "choices"),
    [
        ("b", True, ("b", "a", "c")),
        ("b", False, ("a", "b", "c")),
        ("d", True, ("d", "a", "b", "c")),
        ("d", False, ("a", "b", "c", "d")),
    ],
)
def test_choices_keep_their_order(base: str, base_first: bool, choices: tuple[str, ...]) -> None:
    distribution = suggested(base, lambda around: around.among("key", "a", "b", "c"), base_first)
    assert distribution == CategoricalDistribution(choices)


def test_portions_are_integers_of_at_least_one() -> None:
    assert suggested(5, lambda around: around.portion("key", 0.1, 0.5, 2)) == CategoricalDistribution((5, 1, 2, 10))
    ascending = suggested(5, lambda around: around.portion("key", 0.5, 1, 2), base_first=False)
    assert ascending == CategoricalDistribution((2, 5, 10))


def test_the_file_of_ranges_is_no_model() -> None:
    assert "around" not in trainables.names()
