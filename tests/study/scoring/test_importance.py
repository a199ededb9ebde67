"""Importance and rank correlation per report, from curves that are made so that the answer is known."""

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial

from study.scoring import importance

STATES = [TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING]


def made(trials, early="lr", late="width", direction="maximize", full=3):
    """Of 27 reports, the first two rungs follow ``early`` and the rest ``late``; one of ``full`` trials is complete."""
    draw = np.random.default_rng(0)
    study = optuna.create_study(direction=direction)
    for i in range(trials):
        params = {"lr": draw.random(), "width": draw.random(), "kind": str(draw.choice(["a", "b"]))}
        complete = i % full == 0
        curve = {k: params[early if k <= 3 else late] for k in range(1, 28 if complete else 9 if i % 2 else 4)}
        if complete:
            curve[27] = params[late]
        study.add_trial(
            create_trial(
                state=TrialState.COMPLETE if complete else STATES[i % 3],
                value=curve[27] if complete else None,
                params=params,
                distributions={
                    "lr": FloatDistribution(0, 1),
                    "width": FloatDistribution(0, 1),
                    "kind": CategoricalDistribution(["a", "b"]),
                },
                intermediate_values=curve,
            )
        )
    return study


def test_each_report_has_the_trials_that_reached_it_and_the_importances_there():
    levels = importance.levels(made(90), 27)
    assert [(level.report, level.trials) for level in levels] == [(1, 90), (3, 90), (9, 30), (27, 30)]
    assert [next(iter(level.importances)) for level in levels] == ["lr", "lr", "width", "width"]
    assert all(sum(level.importances.values()) == pytest.approx(1) for level in levels)
    assert importance.most_important(levels)[0] == "width"
    assert importance.unknown(levels) == []


@pytest.mark.parametrize(("direction", "sign"), [("minimize", 1), ("maximize", -1)])
def test_the_direction_counts(direction, sign):
    """Importance looks at the best tenth: here the values that only one category reaches."""
    study = optuna.create_study(direction=direction)
    for i in range(100):
        kind = "bad" if i % 10 else "good"
        study.add_trial(
            create_trial(
                value=0.0,
                params={"kind": kind, "x": (i * 37 % 100) / 100},
                distributions={"kind": CategoricalDistribution(["good", "bad"]), "x": FloatDistribution(0, 1)},
                intermediate_values={1: 0.0 if kind == "good" else sign * (1.0 + i)},
            )
        )
    (level,) = importance.levels(study, 1)
    assert level.importances["kind"] > 0.8


def test_few_trials_cannot_tell():
    levels = importance.levels(made(19), 27)
    assert [level.importances for level in levels] == [None] * 4 and importance.most_important(levels) is None
    assert importance.unknown(levels)[0] == "report 1 of 27: importance cannot be known from 19 trials; it takes 20"
    assert "from 1 trial; it takes 20" in importance.unknown(importance.levels(made(1), 27))[0]
    levels = importance.levels(made(20), 27)
    assert levels[0].importances and not levels[-1].importances, "20 trials there, 7 at the end"
    assert next(iter(importance.most_important(levels))) == "lr"


def test_equal_values_have_no_importance():
    study = optuna.create_study()
    for i in range(30):
        distributions = {"x": FloatDistribution(0, 1)}
        study.add_trial(
            create_trial(value=1.0, params={"x": i / 30}, distributions=distributions, intermediate_values={1: 1.0})
        )
    (level,) = importance.levels(study, 1)
    assert level.importances is None
    assert importance.unknown([level])[0].endswith("their values are all equal")


def test_the_rank_correlation_is_with_the_last_report_among_trials_that_have_both():
    levels = importance.levels(made(60, early="lr", late="lr"), 27)
    assert [level.correlation for level in levels] == [pytest.approx(1)] * 3 + [None]
    assert {level.pairs for level in levels} == {20}
    assert importance.carried(levels)[0] == (
        "rank correlation of report 1 with the last, 27: +1.00 (trials that have both: 20)"
    )
    unrelated = importance.levels(made(300), 27)
    assert abs(unrelated[0].correlation) < 0.3 and unrelated[2].correlation == pytest.approx(1)


def test_ranks_and_not_values_are_compared():
    study = optuna.create_study()
    for i in range(5):
        study.add_trial(create_trial(value=0.0, intermediate_values={1: float(i), 3: -float(10**i)}))
    assert importance.levels(study, 3)[0].correlation == pytest.approx(-1)


def test_two_trials_and_equal_values_have_no_rank_correlation():
    levels = importance.levels(made(6), 27)
    assert [level.pairs for level in levels] == [2] * 4
    assert (
        importance.carried(levels)[0]
        == "rank correlation of report 1 with the last, 27: not known (trials that have both: 2)"
    )
    study = optuna.create_study()
    for i in range(5):
        study.add_trial(create_trial(value=0.0, intermediate_values={1: 1.0, 3: float(i)}))
    assert importance.levels(study, 3)[0].correlation is None


def test_a_study_in_which_no_trial_is_complete_has_no_line_on_ranks():
    study = optuna.create_study()
    for i in range(5):
        study.add_trial(create_trial(state=TrialState.PRUNED, intermediate_values={1: float(i)}))
    assert importance.carried(importance.levels(study, 3)) == []


def test_values_that_are_not_finite_are_left_out():
    study = made(60)
    for bad in (float("nan"), float("inf")):
        study.add_trial(create_trial(state=TrialState.FAIL, intermediate_values={1: bad}))
    study.add_trial(create_trial(value=1.0, intermediate_values={1: float("nan"), 27: 1.0}))
    first, *_, last = importance.levels(study, 27)
    assert (first.trials, first.pairs, last.trials) == (60, 20, 21)


def test_studies_without_a_report_have_no_levels():
    assert importance.levels(optuna.create_study(), None) == []
    assert importance.levels(optuna.create_study(directions=["minimize", "maximize"]), None) == []
    assert [level.report for level in importance.levels(made(3), None)] == [1, 3, 9, 27], "the most that a trial has"
