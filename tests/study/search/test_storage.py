"""The Optuna storage, a real one each time."""

import pytest
from optuna.trial import create_trial

from study.config import StudyConfig
from study.results_folder import StudyFolder
from study.search import storage
from tests.study.search.made_up import result


def test_minimised_objectives_are_ranked_from_below(make_searcher):
    searcher = make_searcher(trials=3, metric="MSE", pruner="none")
    for name, objective in (("a", 5.0), ("b", 3.0), ("c", 4.0)):
        searcher.suggest(name)
        searcher.on_trial_complete(name, result(10, objective, done=True))
    assert storage.best_trials(searcher.study, 2) == [1, 2]


def test_a_large_study_and_a_large_seed_can_be_continued(make_searcher):
    searcher = make_searcher(trials=1, seed=2**40)
    searcher.study.add_trials([create_trial(value=0.5)] * 5000)
    again = make_searcher(trials=9000, seed=2**40, sampler="tpe")
    assert again.study.sampler is not None and again.pending()


def test_a_shared_storage_keeps_studies_of_one_name_apart(tmp_path):
    url = f"sqlite:///{tmp_path / 'studies.db'}"
    asked = StudyConfig(model="slot_attention", storage=url)
    here, there = StudyFolder(tmp_path / "a" / "study"), StudyFolder(tmp_path / "b" / "study")
    storage.open_study(asked, here, {"seed": 0}).ask()
    assert len(storage.open_study(asked, here, {"seed": 0}).get_trials()) == 1
    with pytest.raises(ValueError, match=r"has a study study already, of .*a/study"):
        storage.open_study(asked, there, {"seed": 0})
    with pytest.raises(ValueError, match="seed is 0 there and 1 here"):
        storage.open_study(asked, here, {"seed": 1})
    fresh = StudyConfig(model="slot_attention", storage=url, fresh=True)
    assert storage.open_study(fresh, there, {"seed": 0}).get_trials() == []
    assert len(storage.open_study(asked, here, {"seed": 0}).get_trials()) == 1, "of another folder, and still there"


@pytest.mark.parametrize("metric", ["ARI_FG", "mIoU_fg,seconds"])
def test_optunas_own_tools_know_the_goals_by_name(tmp_path, metric):
    asked = StudyConfig(model="slot_attention", metric=metric)
    folder = StudyFolder(tmp_path / "study")
    folder.path.mkdir()
    for _ in range(2):
        assert storage.open_study(asked, folder, {"seed": 0}).metric_names == metric.split(",")
    assert (folder.path / "optuna.journal").read_text().count("metric_names") == 1


def test_an_unreachable_storage_is_one_clear_line(tmp_path):
    with pytest.raises(ValueError, match="cannot be opened"):
        storage.open_storage(StudyFolder(tmp_path), "nosuch://database")


def test_a_restart_does_not_propose_the_same_random_trials_again(make_searcher):
    first = make_searcher(trials=3, sampler="random")
    before = {first.suggest(name)["hyperparameters"]["lr"] for name in "abc"}
    for name in "abc":
        first.on_trial_complete(name, result(10, 0.5, done=True))
    second = make_searcher(trials=6, sampler="random")
    after = {second.suggest(name)["hyperparameters"]["lr"] for name in "xyz"}
    assert len(before | after) == 6
