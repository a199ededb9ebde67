"""What samplers see of trials that pause and of trials that failed."""

import itertools

import optuna
import pytest
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from study.search import evidence, prior, strategies
from study.search.evidence import Informed
from study.search.prior import PriorSampler
from study.search.shown import ShownStudy


def ask(study, x=None):
    if x is not None:
        study.enqueue_trial({"x": x})
    trial = study.ask()
    trial.suggest_float("x", 0.0, 1.0)
    return trial


class Looking(optuna.samplers.RandomSampler):
    """Keeps what it sees."""

    def sample_independent(self, study, trial, name, distribution):
        assert [t.state for t in study.trials] == [t.state for t in study.get_trials()]
        self.seen = {t.number: (t.state.name, t.intermediate_values) for t in study.get_trials()}
        complete = study.get_trials(states=(TrialState.COMPLETE,))
        assert [t.number for t in complete] == [n for n, (state, _) in self.seen.items() if state == "COMPLETE"]
        return super().sample_independent(study, trial, name, distribution)


def test_trials_beyond_a_rung_and_those_that_failed_by_themselves_are_shown_as_pruned():
    looking = Looking(seed=0)
    study = optuna.create_study(direction="maximize", sampler=Informed(looking, [1, 3]))
    for report, reason in ((None, None), (1, None), (2, None), (3, "training loss is nan"), (None, "its worker died")):
        trial = ask(study)
        if report:
            trial.report(0.5, report)
        if reason:
            trial.set_user_attr("reason", reason)
            study.tell(trial, state=TrialState.FAIL)
    done = ask(study)
    done.report(0.1, 1)
    study.tell(done, 0.7)
    ask(study)
    assert looking.seen == {
        0: ("RUNNING", {}),
        1: ("PRUNED", {1: 0.5}),
        2: ("RUNNING", {2: 0.5}),  # it never passed a rung
        3: ("PRUNED", {}),
        4: ("FAIL", {}),
        5: ("COMPLETE", {1: 0.1}),
        6: ("RUNNING", {}),
    }
    stored = [trial.state.name for trial in study.get_trials()]
    assert stored == ["RUNNING", "RUNNING", "RUNNING", "FAIL", "FAIL", "COMPLETE", "RUNNING"]


@pytest.mark.parametrize("name", strategies.SAMPLERS)
def test_every_sampler_reads_the_evidence(name, monkeypatch):
    """``ShownStudy._get_trials``, a private method of Optuna's studies, is how its samplers read."""
    read = []
    original = ShownStudy._get_trials

    def reading(self, *args, **keywords):
        read.append(name)
        return original(self, *args, **keywords)

    monkeypatch.setattr(ShownStudy, "_get_trials", reading)
    study = optuna.create_study(sampler=Informed(strategies.sampler(name, 0), ()))
    for i in range(12):
        study.tell(ask(study), i / 12)
    assert read or name == "random"


def divergers(seed, informed):
    """Of 60 proposals, how many lie beyond the cliff at 0.4, just before which the best is."""
    sampler = strategies.sampler("tpe", seed)
    study = optuna.create_study(direction="maximize", sampler=Informed(sampler, ()) if informed else sampler)
    beyond = 0
    for _ in range(60):
        trial = study.ask()
        x, _ = trial.suggest_float("x", 0.0, 1.0), trial.suggest_float("y", 0.0, 1.0)
        if x > 0.4:
            beyond += 1
            trial.set_user_attr("reason", "training loss is nan")
            study.tell(trial, state=TrialState.FAIL)
        else:
            study.tell(trial, x)
    return beyond


def test_tpe_turns_away_from_a_cliff_that_trials_have_fallen_from():
    with_evidence = [divergers(seed, True) for seed in range(4)]
    without = [divergers(seed, False) for seed in range(4)]
    assert max(with_evidence) < min(without), (with_evidence, without)
    assert sum(with_evidence) < 0.7 * sum(without)


class Shown(optuna.samplers.TPESampler):
    """Keeps what TPE would see of the trials that ended."""

    def sample_independent(self, study, trial, name, distribution):
        self.seen = study.get_trials(deepcopy=False, states=prior.ENDED)
        both = study.get_trials(deepcopy=False, states=(*prior.ENDED, TrialState.RUNNING))
        self.running = [t.number for t in both if t.state == TrialState.RUNNING]
        assert [t.number for t in both] == sorted(t.number for t in both)
        return 0.5


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_of_very_many_trials_tpe_is_shown_the_best_and_some_from_all_of_the_study(direction):
    shown = Shown(seed=0)
    study = optuna.create_study(direction=direction, sampler=Informed(shown, ()))
    values = [(7919 * i) % 1999 for i in range(1999)]  # each once
    for number, value in enumerate(values):
        study.add_trial(optuna.trial.create_trial(value=value, state=TrialState.COMPLETE))
        if number == 499:
            ask(study)
            assert [t.value for t in shown.seen] == values[:500]
    study.tell(500, state=TrialState.FAIL)  # the one that was asked for: Optuna numbers it 500
    ask(study)
    numbers = [t.number for t in shown.seen]
    assert numbers == sorted(numbers) and 400 <= len(numbers) <= evidence.BEST + evidence.OTHERS
    best = sorted(values, reverse=direction == "maximize")[: evidence.BEST]
    assert set(best) <= {t.value for t in shown.seen}
    others = [t.number for t in shown.seen if t.value not in best]
    assert max(b - a for a, b in itertools.pairwise([0, *others, 2000])) < 25, "from all of the study"

    assert shown.running == [2000], "TPE keeps its distance from what runs"
    better = 3000 if direction == "maximize" else -1
    study.add_trial(optuna.trial.create_trial(value=better, state=TrialState.COMPLETE))
    ask(study)
    assert better in {t.value for t in shown.seen}


def test_a_sampler_that_counts_generations_is_shown_all():
    looking = Looking(seed=0)
    study = optuna.create_study(sampler=Informed(looking, ()))
    for value in range(evidence.BEST + evidence.OTHERS + 50):
        study.add_trial(optuna.trial.create_trial(value=value, state=TrialState.COMPLETE))
    ask(study)
    assert len(looking.seen) == evidence.BEST + evidence.OTHERS + 51


def test_another_study_brings_its_own_trials():
    shown = Shown(seed=0)
    informed = Informed(shown, ())
    for count in (700, 2):
        study = optuna.create_study(sampler=informed)
        for value in range(count):
            study.add_trial(optuna.trial.create_trial(value=value, state=TrialState.COMPLETE))
        ask(study)
    assert [t.value for t in shown.seen] == [0, 1]


def test_a_trial_that_turns_out_to_have_lost_its_worker_is_not_shown_any_more():
    shown = Shown(seed=0)
    study = optuna.create_study(sampler=Informed(shown, [1]))
    for value in range(600):
        study.add_trial(optuna.trial.create_trial(value=value, state=TrialState.COMPLETE))
    paused = ask(study)
    paused.report(-1.0, 1)
    assert paused.number in telling_numbers(study, shown)
    paused.set_user_attr("reason", "its worker died")
    study.tell(paused, state=TrialState.FAIL)
    assert paused.number not in telling_numbers(study, shown)


def telling_numbers(study, shown):
    ask(study)
    return {t.number for t in shown.seen}


@pytest.mark.parametrize("ended", [3, 20, 220])
def test_a_proposal_reads_the_stored_trials_a_few_times_whatever_its_parameters(ended, monkeypatch):
    """Each time takes longer as the study grows. Three: Optuna looks for trials that wait, then for all; GP again."""
    sampler = PriorSampler({"x": 0.5}, seed=0)
    study = optuna.create_study(sampler=Informed(sampler, ()))
    ranges = {f"x{i}": optuna.distributions.FloatDistribution(0.0, 1.0) for i in range(8)}
    for number in range(ended):
        params = {name: number / ended for name in ranges}
        study.add_trial(
            optuna.trial.create_trial(
                value=number, intermediate_values={1: number}, params=params, distributions=ranges
            )
        )
    reads = []
    original = InMemoryStorage.get_all_trials
    monkeypatch.setattr(InMemoryStorage, "get_all_trials", lambda *a, **k: reads.append(1) or original(*a, **k))
    study.ask(ranges)
    assert len(reads) <= 3
