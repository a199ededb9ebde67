"""What we use of Optuna that it does not document: a trial continued by its id, and what pruners store."""

import optuna
import pytest
from optuna.trial import TrialState

from study.search import interrupted, strategies


@pytest.fixture
def journal(tmp_path):
    """Opens the same journal each time, as a new process would."""

    def open_study(pruner="halving"):
        backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "optuna.journal"))
        storage = optuna.storages.JournalStorage(backend)
        made = strategies.pruner(pruner, 10)
        return optuna.create_study(
            storage=storage, study_name="study", direction="maximize", pruner=made, load_if_exists=True
        )

    return open_study


def test_a_running_trial_can_be_continued_by_its_id(journal):
    """``optuna.Trial(study, trial._trial_id)`` in ``StudySearcher.suggest``."""
    study = journal()
    study.enqueue_trial({"lr": 0.25})
    first = study.ask()
    lr = first.suggest_float("lr", 0.0, 1.0)
    first.report(0.5, 1)
    (left,) = journal().get_trials(states=(TrialState.RUNNING,))
    again = optuna.Trial(journal(), left._trial_id)
    assert again.number == 0 and lr == again.suggest_float("lr", 0.0, 1.0) == 0.25
    again.report(0.75, 2)
    journal().tell(again.number, 0.75)
    assert journal().get_trials()[0].intermediate_values == {1: 0.5, 2: 0.75}


def test_a_repeated_report_is_ignored_with_this_warning(journal):
    """The filter in ``StudySearcher._store_value``."""
    trial = journal().ask()
    trial.report(0.5, 1)
    with pytest.warns(UserWarning, match="is already reported"):
        trial.report(0.6, 1)
    assert journal().get_trials()[0].intermediate_values == {1: 0.5}


@pytest.mark.parametrize("name", ["halving", "hyperband"])
def test_a_pruner_stores_the_rung_before_it_answers_and_does_not_answer_twice(journal, name):
    """study/search/interrupted.py: the attribute's name, its value, and why the pruner is asked in a copy."""
    study = journal(name)
    pruned = False
    value = 1.0
    while not pruned:
        trial, value = study.ask(), value / 2
        for step in range(1, 10):
            trial.report(value, step)
            if pruned := trial.should_prune():
                break
    stored = study.get_trials()[trial.number]
    assert value in [stored.system_attrs[key] for key in stored.system_attrs if key.startswith(interrupted.RUNG)]
    assert not optuna.Trial(journal(name), stored._trial_id).should_prune()


def test_a_study_can_be_copied_with_trials_that_run(journal):
    """``interrupted._pruned``: numbers, intermediate values and system attributes are kept."""
    study = journal()
    study.enqueue_trial({"lr": 0.25})
    for value in (0.9, 0.1):
        trial = study.ask()
        trial.report(value, 2)
        trial.should_prune()
    copy = optuna.create_study(study_name="study", direction="maximize")
    copy.add_trials(study.get_trials())
    kept = [(t.number, t.state, t.intermediate_values, t.system_attrs) for t in study.get_trials()]
    assert [(t.number, t.state, t.intermediate_values, t.system_attrs) for t in copy.get_trials()] == kept
    assert kept[1][1] == TrialState.RUNNING and kept[1][3]
