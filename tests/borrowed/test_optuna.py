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


def test_a_sampler_can_write_to_the_trial_that_it_is_asked_for(journal):
    """study/search/prior.py notes how it drew a trial, as Optuna's own samplers do."""
    study = journal()
    trial = study.ask()
    study._storage.set_trial_system_attr(trial._trial_id, "way", "uniform")
    assert study.get_trials()[0].system_attrs["way"] == "uniform"


def test_a_storage_counts_the_trials_of_a_study_by_this_name(journal):
    """study/search/storage.py and starting_over.py count without reading the trials."""
    study = journal()
    assert study._storage.get_n_trials(study._study_id) == 0
    study.ask()
    assert study._storage.get_n_trials(study._study_id) == 1


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("name", ["TPESampler", "RandomSampler", "GPSampler"])
def test_samplers_read_trials_by_these_methods_only(journal, name):
    """study/search/evidence.py shows them other trials than the stored ones, so no sampler may go round it."""

    class Watched:
        def __init__(self, study):
            self.study, self.asked = study, set()

        def __getattr__(self, name):
            self.asked.add(name)
            return getattr(self.study, name)

    sampler = getattr(optuna.samplers, name)(**({} if name == "RandomSampler" else {"n_startup_trials": 1}))
    study = journal()
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    trial = study.ask()
    watched = Watched(study)
    space = sampler.infer_relative_search_space(watched, study.get_trials()[-1])
    sampler.sample_relative(watched, study.get_trials()[-1], space)
    sampler.sample_independent(watched, study.get_trials()[-1], "x", optuna.distributions.FloatDistribution(0, 1))
    readers = {name for name in watched.asked if "trial" in name and not name.startswith("best")}
    assert readers <= {"_get_trials", "get_trials", "trials"}
    study.tell(trial, 0.5)


def test_a_study_of_two_goals_refuses_reports_and_its_storage_takes_them():
    """``StudySearcher._store_value``: the curve of the first goal."""
    study = optuna.create_study(directions=["maximize", "minimize"])
    trial = study.ask()
    with pytest.raises(NotImplementedError):
        trial.report(0.5, 1)
    trial.storage.set_trial_intermediate_value(trial._trial_id, 1, 0.5)
    study.tell(trial, [0.5, 2.0])
    assert study.get_trials()[0].intermediate_values == {1: 0.5}
