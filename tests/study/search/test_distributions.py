"""What a space suggests, found by asking it."""

import random

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from study.search import distributions
from study.search.distributions import Recorder, found, holds, nearest, recorded, text


def nested(trial):
    """A key that depends on two others, one of them numeric."""
    if trial.suggest_categorical("a", ["x", "y"]) == "y":
        if trial.suggest_float("b", 0.0, 1.0) > 0.5:
            trial.suggest_int("c", 1, 9)


def test_keys_that_depend_on_others_are_found():
    assert list(found(nested, {"a": "x", "b": 0.2, "c": 3})) == ["a", "b", "c"]


def test_the_last_choice_and_the_upper_end_are_tried():
    def space(trial):
        if trial.suggest_categorical("a", list(range(2000))) == 1999:
            trial.suggest_int("c", 1, 9)
        if trial.suggest_float("b", 0.0, 1.0) == 1.0:
            trial.suggest_int("d", 1, 9)

    assert set(found(space, {"a": 0, "b": 0.5})) == set("abcd")


def test_keys_in_the_middle_of_two_ranges_are_found_by_chance_that_is_always_the_same():
    def space(trial):
        inside = [0.2 < trial.suggest_float(key, 0.0, 1.0) < 0.8 for key in "ab"]
        if all(inside):
            trial.suggest_int("c", 1, 9)

    assert [list(found(space, {"a": 0.0, "b": 0.0})) for _ in range(2)] == [["a", "b", "c"]] * 2


def test_two_ranges_of_a_key_are_refused():
    def space(trial):
        trial.suggest_int("b", 1, 9 if trial.suggest_categorical("a", ["x", "y"]) == "y" else 5)

    with pytest.raises(ValueError, match="two ranges for b, integer 1 to 5 and integer 1 to 9"):
        found(space, {"a": "x", "b": 3})


@pytest.mark.parametrize(
    ("distribution", "value", "inside", "near"),
    [
        (FloatDistribution(1e-4, 1e-2, log=True), 1e-3, True, 1e-3),
        (FloatDistribution(1e-4, 1e-2, log=True), 1.0, False, 1e-2),
        (FloatDistribution(1e-4, 1e-2, log=True), None, False, pytest.approx(1e-3)),
        (IntDistribution(2, 8), 1, False, 2),
        (IntDistribution(2, 8), 2.5, False, 2),
        (IntDistribution(2, 8), True, False, 5),
        (IntDistribution(3, 11, step=4), 6, False, 7),
        (IntDistribution(3, 11, step=4), 7, True, 7),
        (IntDistribution(3, 11, step=4), 40, False, 11),
        (FloatDistribution(0.1, 0.7, step=0.2), 0.35, False, pytest.approx(0.3)),
        (FloatDistribution(0.1, 0.7, step=0.2), 0.5, True, 0.5),
        (CategoricalDistribution([8, 16, 32]), 30, False, 32),
        (CategoricalDistribution([8, 16, 32]), 16, True, 16),
        (CategoricalDistribution([False, 2]), 0, False, 2),
        (CategoricalDistribution(["adam", None]), "sgd", False, "adam"),
        (CategoricalDistribution(["adam", None]), None, True, None),
    ],
)
def test_what_a_distribution_holds_and_what_is_nearest(distribution, value, inside, near):
    assert holds(distribution, value) is inside
    assert nearest(distribution, value) == near and type(nearest(distribution, value)) is not bool
    recorder = Recorder({"key": value})
    assert recorder._suggest("key", distribution) == near


def test_a_record_tells_integers_scales_and_orders_apart():
    one = [IntDistribution(1, 4), FloatDistribution(1, 4), FloatDistribution(1, 4, log=True)]
    one += [CategoricalDistribution([1, 4]), CategoricalDistribution([4, 1]), CategoricalDistribution([None, 4])]
    assert len({str(recorded(each)) for each in one}) == len({text(recorded(each)) for each in one}) == len(one)
    assert text(recorded(one[-1])) == "one of none, 4"
    assert distributions.ends(one[0]) == [1, 4]


def test_draws_are_on_the_steps_of_a_range():
    recorder = Recorder({}, random.Random(0))
    assert all(recorder.suggest_int(f"k{i}", 3, 7, step=2) in (3, 5, 7) for i in range(30))
    values = [recorder.suggest_float(f"x{i}", 0.0, 1.0, step=0.25) * 4 for i in range(30)]
    assert values == [round(value) for value in values] and len(set(values)) == 5
