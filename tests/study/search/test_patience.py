"""When a search has had its patience, and what it expects of more trials."""

import itertools
import math

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState, create_trial
from ray.tune.search import Searcher

from study.search import finalists
from study.search.patience import Patience, expected_gain, more_trials, noise_of, seeds_noise
from tests.study.search.made_up import result

REPORTS = 4


def with_patience(make_searcher, limit, trials=50, noise=0.05, **more):
    searcher = make_searcher(trials, pruner="none", sampler="random", reports=REPORTS, **more)
    searcher.patience = Patience(searcher.study, REPORTS, limit, noise)
    return searcher


def run(searcher, values, reports=REPORTS):
    """One trial after the other gets to ``reports``; the number of those that began."""
    for i, value in enumerate(values):
        if searcher.suggest(str(i)) == Searcher.FINISHED:
            return i
        for report in range(1, reports + 1):
            if report == REPORTS:
                searcher.on_trial_complete(str(i), result(report, value, done=True))
            else:
                searcher.record(str(i), result(report, value))
    return len(values)


def test_a_search_ends_after_as_many_full_trials_without_an_improvement_beyond_the_noise(make_searcher):
    searcher = with_patience(make_searcher, 3)
    values = [0.2, 0.3, 0.31, 0.34, 0.36, 0.1, 0.2, 0.3, 0.9]
    assert run(searcher, values) == 8, "0.36 is an improvement over 0.3; 0.31 and 0.34 are not"
    assert searcher.patience.over() and not searcher.pending()
    assert searcher.patience.text() == "--patience 3 is over: 3.0 full trials without an improvement above 0.05"


def test_half_trials_count_half_and_none_before_the_first_complete_one(make_searcher):
    searcher = with_patience(make_searcher, 1)
    assert run(searcher, [0.1] * 4, reports=2) == 4
    searcher.on_trial_complete("0", result(REPORTS, 0.1, done=True))
    assert searcher.patience.since() == 0 and searcher.patience.spent() == 2.5
    searcher.record("1", result(3, 0.1))
    searcher.record("1", result(3, 0.1))  # once more, after its worker had died
    assert searcher.patience.since() == 0.25
    for name in "23":
        searcher.record(name, result(3, 0.1))
    searcher.suggest("new")
    assert searcher.patience.since() == 0.75
    searcher.record("new", result(1, 0.1))
    assert searcher.suggest("newer") is None


def test_a_patience_that_is_over_waits_for_the_trials_that_run(make_searcher):
    searcher = with_patience(make_searcher, 1)
    for name in "abc":
        searcher.suggest(name)
    for name in "ab":
        for report in (1, 2, 3):
            searcher.record(name, result(report, 0.2))
        searcher.on_trial_complete(name, result(REPORTS, 0.2, done=True))
    assert searcher.patience.over() and searcher.suggest("d") is None
    searcher.on_trial_complete("c", result(REPORTS, 0.9, done=True))
    assert not searcher.patience.over() and isinstance(searcher.suggest("d"), dict)


def test_another_noise_does_not_judge_old_trials_anew(make_searcher):
    assert run(with_patience(make_searcher, 3), [0.2, 0.3, 0.31, 0.1, 0.1, 0.1]) == 5
    assert not with_patience(make_searcher, 3, noise=0.001).pending(), "0.31 was no improvement when it came"


def test_a_trial_that_ended_just_before_a_kill_is_judged_at_the_restart(make_searcher):
    searcher = with_patience(make_searcher, 3)
    assert run(searcher, [0.2, 0.1, 0.1]) == 3
    searcher.suggest("last")
    searcher.patience = None
    searcher.on_trial_complete("last", result(REPORTS, 0.9, done=True))
    assert with_patience(make_searcher, 3).patience.since() == 0


def test_a_restart_knows_how_long_it_has_waited_and_a_larger_patience_goes_on(make_searcher):
    assert run(with_patience(make_searcher, 5), [0.2, 0.3, 0.1, 0.1]) == 4
    again = with_patience(make_searcher, 5)
    assert again.patience.since() == 2
    assert run(again, [0.1] * 9) == 3
    assert not with_patience(make_searcher, 5).pending()
    assert with_patience(make_searcher, 6).pending() and with_patience(make_searcher, None).pending()


def test_a_process_that_was_killed_before_it_recorded_an_improvement_counts_from_now(make_searcher):
    older = make_searcher(50, pruner="none", reports=REPORTS)
    run(older, [0.2, 0.3, 0.1])
    assert with_patience(make_searcher, 5).patience.since() == 0


def test_paused_trials_end_as_they_do_after_the_last_trial(make_searcher):
    searcher = make_searcher(50, pruner="asha", sampler="random", reports=9)
    searcher.patience = Patience(searcher.study, 9, 0.5, 0.0)
    names = map(str, itertools.count())
    for _ in range(200):
        config = searcher.suggest(name := next(names))
        if config == Searcher.FINISHED:
            break
        number = config["number"]
        last = searcher.study.get_trials(deepcopy=False)[number].last_step or 0
        for report in range(last + 1, 10):
            if report == 9:
                searcher.on_trial_complete(name, result(report, 0.5 - number / 100, done=True))
            elif searcher.record(name, result(report, 0.5 - number / 100)):
                searcher.on_trial_complete(name, result(report, 0.5))
                break
    found = [trial.state for trial in searcher.study.get_trials()]
    assert config == Searcher.FINISHED and len(found) < 20 and set(found) == {TrialState.COMPLETE, TrialState.PRUNED}


def test_a_goal_that_is_to_be_small_improves_downwards(make_searcher):
    assert run(with_patience(make_searcher, 2, metric="MSE"), [0.3, 0.2, 0.1, 0.3, 0.3, 0.3]) == 5


def complete(curve):
    return create_trial(value=curve[-1], intermediate_values=dict(enumerate(curve, start=1)))


def test_noise_is_what_a_straight_line_leaves_over():
    rng = np.random.default_rng(0)
    trials = [complete([0.1 * x + rng.normal(0, 0.02) for x in range(6)]) for _ in range(400)]
    assert noise_of(trials) == pytest.approx(0.02, rel=0.15)
    assert noise_of([complete([0.1, 0.5]), create_trial(state=TrialState.FAIL)]) == 0.0


def test_noise_over_seeds_is_pooled_over_configurations():
    assert seeds_noise([[0.1, 0.3], [0.5, 0.5, 0.5], [0.9]]) == pytest.approx(math.sqrt(0.02 / 3))
    assert seeds_noise([[0.1], []]) is None


def test_the_finalists_of_an_earlier_call_tell_the_noise(make_searcher, tmp_path):
    from study.config import StudyConfig
    from study.results_folder import StudyFolder

    searcher = make_searcher()
    config, folder = StudyConfig(model="slot_attention"), StudyFolder(tmp_path)
    assert finalists.noise(config, folder) is None
    reruns = finalists.open_reruns(config, folder, searcher.study.direction)
    for lr, value in ((0.1, 0.5), (0.1, 0.7), (0.2, 0.9)):
        reruns.add_trial(create_trial(value=value, user_attrs={"hyperparameters": {"lr": lr}}))
    assert finalists.noise(config, folder) == pytest.approx(math.sqrt(0.02))


def study_with(values, direction="maximize"):
    made = optuna.create_study(direction=direction)
    made.add_trials([create_trial(value=value) for value in values])
    return made


def test_what_more_trials_bring_is_what_the_best_loses_without_half_of_them():
    values = [0.0, *np.random.default_rng(1).permutation(12) / 10.0]
    halves = [max(half) for half in itertools.combinations(sorted(values), 6)]
    assert expected_gain(study_with(values)) == pytest.approx(1.1 - np.mean(halves))
    assert expected_gain(study_with([-value for value in values], "minimize")) == pytest.approx(1.1 - np.mean(halves))
    assert "would improve the best score by about 0.1000" in more_trials(study_with(values))


def test_the_base_is_no_luck():
    assert expected_gain(study_with([5.0, *range(5), *range(5)])) == pytest.approx(0.0)


def test_of_a_few_trials_nothing_is_said():
    few = study_with([0.1] * 9)
    assert expected_gain(few) is None
    assert more_trials(few) == "what more trials would bring cannot be known from 9 complete ones"
