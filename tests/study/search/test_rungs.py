"""Where rungs are, and who goes on from them."""

import random

import pytest

from study.search.rungs import FACTOR, Promotion, pauses, positions


@pytest.mark.parametrize(
    ("reports", "expected"),
    [
        (1, []),
        (2, []),
        (3, [1]),
        (8, [2]),
        (9, [1, 3]),
        (10, [1, 3]),
        (27, [1, 3, 9]),
        (30, [1, 3, 10]),
        (81, [3, 9, 27]),
    ],
)
def test_rungs_are_at_a_27th_a_ninth_and_a_third(reports, expected):
    assert positions(reports) == expected


def test_no_one_goes_on_before_three_have_reached_a_rung_then_the_best_does():
    promotion = Promotion(9, maximize=True)
    for number, value in enumerate((0.2, 0.9)):
        promotion.reached(number, 1, value)
        assert promotion.next() is None
    promotion.reached(2, 1, 0.5)
    assert promotion.next() == 1 == promotion.next()
    promotion.mark_promoted(1, 1)
    assert promotion.next() is None
    assert promotion.paused() == {0: 1, 2: 1}


def test_with_a_loss_the_lowest_goes_on_and_of_equals_the_first():
    promotion = Promotion(9, maximize=False)
    for number, value in ((7, 0.5), (5, 0.5), (6, 0.7)):
        promotion.reached(number, 1, value)
    assert promotion.next() == 5


def test_who_collapsed_like_the_others_does_not_go_on():
    promotion = Promotion(9, maximize=True)
    for number in range(9):
        promotion.reached(number, 1, 0.0)
    assert promotion.next() is None, "no one is better than another"
    promotion.reached(9, 1, 0.3)
    assert promotion.next() == 9
    promotion.mark_promoted(9, 1)
    assert promotion.next() is None, "the second of ten has the worst value"
    assert promotion.last() == 0


def test_the_highest_rung_comes_first():
    promotion = Promotion(9, maximize=True)
    for number in range(12):
        promotion.reached(number, 1, number)
    for number in (11, 10, 9):
        assert promotion.next() == number
        promotion.mark_promoted(number, 1)
    for number in (9, 10, 11):
        promotion.reached(number, 3, -number)
    assert promotion.next() == 9, "8 is in the best third of the first rung, but 9 of the second"
    promotion.mark_promoted(9, 3)
    assert promotion.next() == 8


def test_who_has_ended_counts_in_the_rung_and_does_not_go_on():
    promotion = Promotion(9, maximize=True)
    for number, value in enumerate((0.9, 0.5, 0.1)):
        promotion.reached(number, 1, value)
    promotion.mark_promoted(0, 1)
    promotion.mark_promoted(0, 1)  # said twice
    assert promotion.next() is None, "the second of three is not in the best third"
    for number in (3, 4, 5):
        promotion.reached(number, 1, 0.0)
    assert promotion.next() == 1


def test_at_the_end_the_best_of_the_highest_rung_goes_on_until_none_pauses():
    promotion = Promotion(9, maximize=True)
    assert promotion.last() is None
    for number, rung, value in ((0, 1, 0.9), (1, 1, 0.8), (2, 1, 0.95)):
        promotion.reached(number, rung, value)
    promotion.mark_promoted(0, 1)
    promotion.reached(0, 3, 0.1)
    order = []
    while (number := promotion.last()) is not None:
        order.append(number)
        promotion.mark_promoted(number, promotion.paused()[number])
    assert order == [0, 2, 1]


@pytest.mark.parametrize("seed", range(5))
def test_the_promoted_are_those_of_the_papers_algorithm(seed):
    """Against algorithm 2 written as in the paper: sort a rung, take its best third, leave out the promoted."""
    chance = random.Random(seed)
    promotion = Promotion(27, maximize=True)
    values = {rung: {} for rung in promotion.rungs}
    promoted = {rung: set() for rung in promotion.rungs}

    def by_the_paper():
        for rung in reversed(promotion.rungs):
            best = sorted(values[rung], key=lambda number: (-values[rung][number], number))
            for number in best[: len(best) // FACTOR]:
                if number not in promoted[rung]:
                    return number, rung
        return None

    number = 0
    for _ in range(600):
        expected = by_the_paper()
        if expected is None:
            who, rung = number, promotion.rungs[0]
            number += 1
        else:
            who, before = expected
            assert promotion.next() == who and promotion.paused()[who] == before
            promotion.mark_promoted(who, before)
            promoted[before].add(who)
            above = [rung for rung in promotion.rungs if rung > before]
            if not above:
                continue
            rung = above[0]
        values[rung][who] = round(chance.random(), 1)  # with ties
        promotion.reached(who, rung, values[rung][who])
    assert all(promoted.values())


@pytest.mark.parametrize(
    ("report", "promoted", "expected"),
    [(None, 0, False), (2, 0, False), (3, 0, True), (3, 1, True), (3, 3, False), (1, 3, False)],
)
def test_a_trial_pauses_at_a_rung_that_it_was_not_promoted_from(report, promoted, expected):
    assert pauses(report, promoted, [1, 3]) == expected
