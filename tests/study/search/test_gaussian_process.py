"""What a Gaussian process learns of trials that were stopped, or failed."""

import optuna
import pytest
import torch
from optuna.trial import TrialState

from study.search import gaussian_process
from study.search.evidence import Informed
from study.search.gaussian_process import StoppedGPSampler, estimated


def trials_of(curves, direction="maximize"):
    """Trials with these curves, and one that runs. One of three reports is complete; one of none failed."""
    study = optuna.create_study(direction=direction)
    for curve in curves:
        trial = study.ask()
        for report, value in enumerate(curve, start=1):
            trial.report(value, report)
        study.tell(
            trial, *([curve[-1]] if len(curve) == 3 else []), state=None if len(curve) == 3 else TrialState.PRUNED
        )
    study.ask()
    return study.get_trials(deepcopy=False)


CURVES = [[0.1, 0.3, 0.6], [0.2, 0.3, 0.5], [0.1, 0.1, 0.2], [0.2], [0.1, 0.4], []]


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_a_stopped_trial_has_what_complete_ones_have_gained_since(direction):
    sign = 1 if direction == "maximize" else -1
    stored = trials_of([[sign * value for value in curve] for curve in CURVES], direction)
    states = [trial.state for trial in stored]
    shown = estimated(stored, direction == "maximize")
    values = [sign * trial.values[0] for trial in shown[:-1]]
    # gains since report 1: 0.5, 0.3, 0.1; since report 2: 0.3, 0.2, 0.1. The last one is as far below the worst.
    assert values == pytest.approx([0.6, 0.5, 0.2, 0.2 + 0.3, 0.4 + 0.2, 0.2 - 0.4])
    assert {trial.state for trial in shown[:-1]} == {TrialState.COMPLETE} and shown[-1].state == TrialState.RUNNING
    assert [trial.state for trial in stored] == states, "the stored ones stay as they are"


def test_values_out_of_proportion_do_not_make_the_others_alike():
    shown = estimated(trials_of([[1.0, 1.0, 1.0], [2.0, 2.0, 2.0], [3.0, 3.0, 3.0], [1e9], []], "minimize")[:-1], False)
    assert [trial.values[0] for trial in shown] == [1.0, 2.0, 3.0, 2.5 + 3 * 1.5, 7.0 + 6.0]
    assert gaussian_process.OUTLIER == 3.0


def test_without_a_value_there_is_nothing_to_estimate():
    stored = trials_of([[], []])
    assert estimated(stored, True) == stored


def test_before_any_trial_is_complete_curves_count_as_they_are():
    shown = estimated(trials_of([[0.1], [0.2, 0.3]])[:-1], True)
    assert [trial.values[0] for trial in shown] == [0.1, 0.3]


def proposals(sampler):
    """Of a study whose trials are all stopped or failed: those beyond 0.5 fail, of the others the largest are best."""
    study = optuna.create_study(direction="maximize", sampler=Informed(sampler, [1]))
    asked = []
    for _ in range(25):
        trial = study.ask()
        x = trial.suggest_float("x", 0.0, 1.0)
        asked.append(x)
        if x > 0.5:
            trial.set_user_attr("reason", "training loss is nan")
            study.tell(trial, state=TrialState.FAIL)
        else:
            trial.report(x, 1)
            study.tell(trial, state=TrialState.PRUNED)
    return asked


def test_it_learns_from_trials_of_which_none_is_complete():
    found = proposals(StoppedGPSampler.quiet(0))[12:]
    assert sum(0.35 < x <= 0.5 for x in found) > len(found) / 2
    assert found == proposals(StoppedGPSampler.quiet(0))[12:], "the seed fixes it"
    blind = proposals(optuna.samplers.GPSampler(seed=0))[12:]
    assert sum(0.35 < x <= 0.5 for x in blind) < len(blind) / 2, "Optuna's own does not see them"


def test_two_goals_are_left_to_optuna():
    def asked(sampler):
        study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
        study.optimize(lambda trial: [trial.suggest_float("x", 0.0, 1.0)] * 2, n_trials=12)
        return [trial.params for trial in study.trials]

    assert asked(StoppedGPSampler.quiet(0)) == asked(optuna.samplers.GPSampler(seed=0))


@pytest.mark.parametrize("values", [[0.5], [0.5] * 6 + [0.1, 0.2, 0.3]])
def test_a_failed_trial_is_never_as_good_as_others(values):
    """Also where the median is the best, or all are equal."""
    for sign, direction in ((1, "maximize"), (-1, "minimize")):
        stored = trials_of([[sign * value] * 3 for value in values] + [[]], direction)[:-1]
        shown = [sign * trial.values[0] for trial in estimated(stored, direction == "maximize")]
        assert shown[:-1] == values and shown[-1] < min(values)


def test_only_the_newest_trials_that_run_are_shown():
    study = optuna.create_study()
    study.tell(study.ask(), 0.5)
    for _ in range(gaussian_process.RUNNING + 3):
        study.ask()
    shown = estimated(study.get_trials(deepcopy=False), maximize=False)
    assert [trial.number for trial in shown] == [0, *range(4, gaussian_process.RUNNING + 4)]


def test_trials_that_failed_before_any_had_a_value_need_not_have_the_parameters_of_later_ones():
    study = optuna.create_study(direction="maximize", sampler=Informed(StoppedGPSampler.quiet(0), [1]))
    for number in range(17):
        study.enqueue_trial({"kind": "b" if number < 3 else "a"})
        trial = study.ask()
        trial.suggest_categorical("kind", ["a", "b"])
        x = trial.suggest_float("x", 0.0, 1.0)
        if number < 3:
            trial.set_user_attr("reason", "out of memory")
            study.tell(trial, state=TrialState.FAIL)
        else:
            study.tell(trial, x + trial.suggest_float("extra", 0.0, 1.0))
    assert len(study.get_trials()) == 17


def test_a_study_goes_on_where_it_cannot_be_computed(monkeypatch, caplog):
    def fail(*_):
        raise torch.linalg.LinAlgError("the input is not positive-definite")

    monkeypatch.setattr(optuna.samplers.GPSampler, "sample_relative", fail)
    found = proposals(StoppedGPSampler.quiet(0))
    assert len(found) == 25 and "trial 24 is not the Gaussian process's, which failed: LinAlgError" in caplog.text


def test_a_proposal_takes_one_thread_and_leaves_torch_as_it_was(monkeypatch):
    """More than one waits for the cores of the trials: five times as long, seen beside two of them on two cores."""
    used = []

    def asked(*_):
        used.append(torch.get_num_threads())
        return {}

    monkeypatch.setattr(optuna.samplers.GPSampler, "sample_relative", asked)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        proposals(StoppedGPSampler.quiet(0))
        assert set(used) == {1} and torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
