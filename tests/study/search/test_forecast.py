"""Asynchronous promotion, simulated."""

import pytest

from study.search import forecast
from study.search.forecast import pruning


def test_without_pruning_trials_run_in_rounds():
    assert pruning(7, 3, 10, "none") == (1.0, 3.0)


def test_more_rungs_leave_fewer_steps():
    share, length = pruning(50, 2, 9, "asha")
    assert pruning(50, 2, 27, "asha")[0] < share < 0.5
    assert length == pytest.approx(50 * share / 2, rel=0.05)


def test_of_trials_proposed_alike_about_a_third_goes_on_at_each_rung(monkeypatch):
    monkeypatch.setattr(forecast, "LEARNT", 0.0)
    share, length = pruning(3000, 1, 9, "asha")
    # a ninth of the steps for all, two ninths more for a third, the rest for a ninth; more while ranks are unknown
    assert 1 / 9 + 2 / 9 / 3 + 6 / 9 / 9 <= share < 0.3
    assert length == pytest.approx(3000 * share)


def test_a_place_that_falls_free_is_taken_at_once():
    share, length = pruning(640, 64, 10, "asha")
    assert length < 1.3 * share * 10 + 2 / 3, "the last that is promoted runs alone"
