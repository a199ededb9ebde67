"""Trials of a database that one process writes to: what is known is right, and is not read again."""

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.trial import TrialState, create_trial

from study.search.only_writer import OnlyWriter


class Counting(RDBStorage):
    """Counts how many trials were read."""

    trials_read = 0

    def _get_trials(self, *args, **named):
        found = super()._get_trials(*args, **named)
        self.trials_read += len(found)
        return found

    def get_trial(self, trial_id):
        self.trials_read += 1
        return super().get_trial(trial_id)


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'study.db'}"


def everything(study):
    """All that a trial has, of all trials."""
    return [vars(trial) for trial in study.get_trials()]


def test_each_write_is_seen_as_another_process_sees_it(url):
    study = optuna.create_study(storage=OnlyWriter(RDBStorage(url)), study_name="a")
    other = optuna.create_study(storage=study._storage, study_name="b")
    assert study.get_trials() == other.get_trials() == []
    study.add_trial(create_trial(value=3.0))
    study.enqueue_trial({"x": 0.5})
    for ask, numbers in ((study, (1, 2, 3)), (other, (0, 1))):
        for number in numbers:
            trial = ask.ask()
            assert trial.number == number and trial.suggest_float("x", 0, 1) <= 1
            trial.report(0.25, 1)
            assert ask.get_trials()[number].intermediate_values == {1: 0.25}
            trial.set_user_attr("state", "paused")
            trial.report(0.5, 2)
    study._storage.set_trial_system_attr(study.get_trials()[1]._trial_id, "note", [1])
    study.tell(2, 0.5)
    study.tell(3, state=TrialState.PRUNED)
    for mine in (study, other):
        theirs = optuna.load_study(storage=url, study_name=mine.study_name)
        assert everything(mine) == everything(theirs)
        assert mine.get_trials(states=(TrialState.RUNNING,)) == theirs.get_trials(states=(TrialState.RUNNING,))
    assert study.get_trials()[1].system_attrs["note"] == [1] and study.best_trial.number == 2


def test_paused_trials_are_not_read_again(url):
    database = Counting(url)
    study = optuna.create_study(storage=OnlyWriter(database))
    paused = [study.ask({"x": optuna.distributions.FloatDistribution(0, 1)}) for _ in range(30)]
    study.get_trials(deepcopy=False)
    before = database.trials_read
    paused[7].report(0.5, 1)
    for _ in range(20):
        assert len(study.get_trials(deepcopy=False)) == 30
    assert database.trials_read - before <= 2
    assert optuna.load_study(storage=url, study_name=study.study_name).get_trials() == study.get_trials()


def test_a_study_that_is_there_is_read_whole(url):
    for trial in (first := optuna.create_study(storage=url, study_name="a")).get_trials():
        raise AssertionError(trial)
    running = first.ask()
    running.report(0.5, 1)
    first.add_trial(create_trial(value=3.0))
    again = optuna.load_study(storage=OnlyWriter(RDBStorage(url)), study_name="a")
    again._storage.set_trial_intermediate_value(running._trial_id, 2, 0.75)
    assert everything(again) == everything(first) and len(again.get_trials()) == 2
