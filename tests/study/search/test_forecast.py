"""Successive halving, simulated."""

import pytest

from study.search import forecast
from study.search.forecast import pruning


def test_without_pruning_trials_run_in_rounds():
    assert pruning(7, 3, 10, "none") == (1.0, 3.0)


def test_successive_halving_keeps_as_many_steps_as_in_the_readmes_studies():
    share, length = pruning(50, 2, 10, "asha")
    assert 0.45 < share < 0.57
    assert length == pytest.approx(50 * share / 2, rel=0.05)


def test_of_trials_proposed_alike_about_a_third_goes_on_at_each_rung(monkeypatch):
    monkeypatch.setattr(forecast, "LEARNT", 0.0)
    share, length = pruning(3000, 1, 10, "asha")
    # a fifth of the steps for all, two fifths more for a third, the rest for a ninth; more while ranks are unknown
    assert 0.2 + 0.4 / 3 + 0.4 / 9 <= share < 0.4
    assert length == pytest.approx(3000 * share)


def test_a_place_that_falls_free_is_taken_at_once():
    share, length = pruning(640, 64, 10, "asha")
    assert length < 1.3 * share * 10
