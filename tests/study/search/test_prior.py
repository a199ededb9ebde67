"""PriorSampler, on real Optuna studies."""

import math

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import TrialState

from study.search import prior
from study.search.prior import WAY, PriorSampler, near, ranked

BASE = {"lr": 0.004, "width": 16, "layers": 4, "share": 0.9, "kind": "b", "extra": 0.1, "off": None}


def space(trial):
    """All kinds of ranges, and one parameter that depends on another."""
    found = {
        "lr": trial.suggest_float("lr", 1e-4, 1e-1, log=True),
        "width": trial.suggest_int("width", 8, 64, log=True),
        "layers": trial.suggest_int("layers", 2, 8, step=2),
        "share": trial.suggest_float("share", 0.0, 1.0),
        "kind": trial.suggest_categorical("kind", ["a", "b", "c", "d"]),
        "off": trial.suggest_categorical("off", [None, 1.0]),
    }
    if found["kind"] != "b":
        found["extra"] = trial.suggest_float("extra", 0.0, 1.0)
    return found


def study_of(seed=0, base=BASE, direction="maximize"):
    return optuna.create_study(direction=direction, sampler=PriorSampler(base, seed))


def distance(parameters):
    """How far a trial is from the base in lr, in units of the range."""
    return abs(math.log(parameters["lr"] / BASE["lr"])) / math.log(1000)


def search(study, trials, value):
    """Run ``trials`` trials; ``value`` of the parameters is a trial's final value, and its only report."""
    for _ in range(trials):
        trial = study.ask()
        found = value(space(trial))
        trial.report(found, 1)
        study.tell(trial, found)
    return study.get_trials(deepcopy=False)


def ways(trials):
    return [trial.system_attrs.get(WAY) for trial in trials]


@pytest.fixture
def only(monkeypatch):
    """Makes all trials be drawn in one way."""

    def make(way):
        for name in prior.WEIGHTS:
            monkeypatch.setitem(prior.WEIGHTS, name, float(name == way))
        monkeypatch.setattr(prior, "HAND_OVER", 10**9)

    return make


def asked(study, trials=300):
    """Parameters of trials of which none ends."""
    return [space(study.ask()) for _ in range(trials)]


def test_draws_lie_around_the_base_in_their_own_units(only):
    only("base")
    drawn = asked(study_of(), 400)
    assert np.median([distance(found) for found in drawn]) < 0.2  # uniform draws: 0.26
    assert 0.35 < np.mean([found["lr"] < BASE["lr"] for found in drawn]) < 0.65  # symmetric on the logarithmic scale
    assert {found["layers"] for found in drawn} == {2, 4, 6, 8}
    assert all(8 <= found["width"] <= 64 and 0 <= found["share"] <= 1 for found in drawn)
    # the base is near the upper end: the normal distribution is truncated, not heaped up at the end
    assert max(found["share"] for found in drawn) < 1.0
    assert np.mean([found["share"] > 0.5 for found in drawn]) > 0.8


def test_the_base_choice_is_probable_and_no_other_is_impossible(only):
    only("base")
    kinds = [found["kind"] for found in asked(study_of(), 400)]
    keeps = prior.KEEPS_CHOICE
    assert abs(kinds.count("b") / 400 - (keeps + (1 - keeps) / 4)) < 0.08
    assert set(kinds) == set("abcd")


def test_a_parameter_that_depends_on_another_is_drawn_around_the_base_too(only):
    only("base")
    extra = [found["extra"] for found in asked(study_of(), 400) if "extra" in found]
    assert len(extra) > 50
    assert np.mean(np.array(extra) < 0.5) > 0.75


@pytest.mark.parametrize("base", [{}, {"lr": 1.0}, {"lr": None}, {"lr": "adam", "kind": "z"}])
def test_a_base_that_is_missing_or_outside_gives_uniform_draws(only, base):
    only("base")
    drawn = asked(study_of(base=base), 400)
    middle = math.sqrt(1e-4 * 1e-1)
    assert 0.4 < np.mean([found["lr"] < middle for found in drawn]) < 0.6
    assert 0.15 < np.mean([found["kind"] == "b" for found in drawn]) < 0.35


@pytest.mark.parametrize("at_end", [0.001, 1.0])
def test_near_is_truncated_at_both_ends(at_end):
    rng = np.random.default_rng(0)
    drawn = [near(at_end, 0.2, FloatDistribution(0.001, 1.0, log=True), rng) for _ in range(500)]
    assert all(0.001 <= value <= 1.0 for value in drawn)
    assert len(set(drawn)) == 500


def test_near_gives_the_ends_of_an_integer_range_their_share():
    rng = np.random.default_rng(0)
    drawn = [near(2, 10.0, IntDistribution(1, 3), rng) for _ in range(600)]  # almost uniform
    assert all(150 < drawn.count(value) < 250 for value in (1, 2, 3))
    assert all(isinstance(value, int) for value in drawn)


def test_a_seed_fixes_the_draws_whatever_runs_in_between():
    def drawn(seed):
        return [dict(trial.params) for trial in search(study_of(seed), 15, lambda found: -distance(found))]

    assert drawn(1) == drawn(1) != drawn(2)


@pytest.mark.parametrize(("model", "first"), [("gp", "HAND_OVER"), ("tpe", "LARGEST_PROCESS")])
def test_models_take_over(model, first, monkeypatch):
    monkeypatch.setattr(prior, "LARGEST_PROCESS", 14)
    before, after = getattr(prior, first), {"gp": 14, "tpe": 18}[model]

    def drawn():
        return search(study_of(), after, lambda found: -distance(found))

    trials = drawn()
    assert model not in ways(trials)[:before] and set(ways(trials)[before:]) == {model}
    # The model's own proposals, not draws in its name: another model changes them.
    another = optuna.samplers.RandomSampler(seed=5)
    original = PriorSampler._model
    monkeypatch.setattr(
        PriorSampler,
        "_model",
        lambda self, trial: another if self._draws[trial.number].way == model else original(self, trial),
    )
    without = drawn()
    assert [t.params for t in trials[:before]] == [t.params for t in without[:before]]
    assert all(one.params != other.params for one, other in zip(trials[before:], without[before:], strict=True))


def test_where_trials_collapse_draws_go_on():
    trials = search(study_of(), 20, lambda found: 0.5 * (distance(found) < 0.02))
    values = [trial.value for trial in trials]
    assert set(values) == {0.0, 0.5} and set(ways(trials)) <= {"base", "uniform"}


def test_a_process_comes_nearer_than_its_draws(monkeypatch):
    trials = search(study_of(base={}), 30, lambda found: -distance(found))
    assert np.median([distance(t.params) for t in trials[20:]]) < 0.5 * np.median(
        [distance(t.params) for t in trials[:10]]
    )


def test_a_wrong_base_loses_its_share(monkeypatch):
    """Where trials near the base are bad, fewer are drawn there; where they are good, more."""
    monkeypatch.setattr(prior, "HAND_OVER", 10**9)

    def share(value):
        counts = [0, 0]
        for seed in range(30):
            late = ways(search(study_of(seed), 20, value))[10:]
            counts[0] += late.count("base")
            counts[1] += len(late)
        return counts[0] / counts[1]

    assert share(distance) < 0.7 * share(lambda found: -distance(found))


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_the_trial_that_got_further_is_the_better_one(direction):
    study = study_of(direction=direction)
    sign = 1 if direction == "maximize" else -1
    curves = [{1: 9.0}, {1: 0.1, 3: 0.2}, {1: 0.1, 3: 0.3}, {}, {1: 0.0, 3: 0.0, 9: 0.1}]
    for curve in curves:
        trial = study.ask()
        for report, value in curve.items():
            trial.report(sign * value, report)
        if 9 in curve:
            study.tell(trial, sign * curve[9])
        else:
            study.tell(trial, state=TrialState.PRUNED)
    study.tell(study.ask(), state=TrialState.FAIL)
    study.ask()
    assert [trial.number for trial in ranked(study)] == [4, 2, 1, 0, 3]


def test_a_trial_that_goes_on_draws_nothing():
    """A promoted trial is rebuilt from the storage: the trials after it must not depend on that."""
    first, second = study_of(3), study_of(3)
    for study in (first, second):
        search(study, 4, distance)
    trial = first.ask()
    suggested = space(trial)
    again = optuna.Trial(first, trial._trial_id)
    assert space(again) == suggested
    assert space(second.ask()) == suggested
    assert space(first.ask()) == space(second.ask())


def test_an_enqueued_trial_keeps_its_values():
    study = study_of()
    study.enqueue_trial({"lr": 0.03, "kind": "d"})
    found = space(study.ask())
    assert (found["lr"], found["kind"]) == (0.03, "d")
    assert ways(study.get_trials(deepcopy=False)) == [None]


@pytest.mark.parametrize(("way", "name"), [("base", "lr"), ("uniform", "lr")])
def test_the_seed_reaches_every_source_of_draws(only, way, name):
    only(way)
    values = [asked(study_of(seed), 1)[0][name] for seed in (1, 1, 2)]
    assert values[0] == values[1] != values[2]


def test_a_study_with_the_sampler_begins_around_its_base(make_searcher, only, monkeypatch):
    only("base")
    monkeypatch.setattr(prior, "WIDTHS", (0.001, 0.002))
    searcher = make_searcher(trials=6, sampler="prior")
    rates = [searcher.suggest(str(number))["hyperparameters"]["lr"] for number in range(6)]
    assert rates[0] == 0.01 and len(set(rates)) == 6
    assert all(0.009 < rate < 0.011 for rate in rates)
