"""What a trial gets from the base, the search space and the fixed hyperparameters."""

import pytest
from optuna.trial import FixedTrial

from study.search.proposal import Proposal
from tests.study.search.made_up import BASE, SEARCHED, space


def test_the_first_trial_is_the_base_and_constants_do_not_reach_the_model(make_searcher):
    searcher = make_searcher()
    config = searcher.suggest("a")
    assert config["hyperparameters"] == {"lr": 0.01, "optimizer": "adam", "momentum": 0.0}
    assert config["number"] == 0 and config["folder"].endswith("trials/trial_0000")


def test_fixed_hyperparameters_are_not_searched(make_searcher):
    searcher = make_searcher(fixed={"optimizer": "rmsprop", "lr": 0.5})
    for name in "abcd":
        config = searcher.suggest(name)
        assert config["hyperparameters"]["lr"] == 0.5
        assert config["hyperparameters"]["optimizer"] == "rmsprop"
    assert all(set(trial.params) == {"momentum"} for trial in searcher.study.get_trials())


def test_the_searched_keys_are_those_that_the_space_suggests_around_the_base():
    proposal = Proposal(space, BASE, {"lr": 0.5}, SEARCHED)
    assert set(proposal.base_parameters()) == {"optimizer"}
    assert set(proposal.searched()) == {"optimizer", "momentum"}, "also the one that depends on the other"
    free = Proposal(space, BASE, {}, SEARCHED)
    assert free.base_parameters() == {"lr": 0.01, "optimizer": "adam"}
    assert (free.searched()["lr"].low, free.searched()["lr"].high) == pytest.approx((0.001, 0.1))


def test_what_is_fixed_beats_the_base_also_where_the_space_does_not_suggest_it():
    proposal = Proposal(space, BASE, {"momentum": 0.9}, SEARCHED)
    assert proposal.hyperparameters(FixedTrial(BASE)) == {"lr": 0.01, "optimizer": "adam", "momentum": 0.9}
