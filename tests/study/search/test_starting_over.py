"""--fresh: the old study is there until the new one has a trial, in its folder and in a database."""

import dataclasses
import shutil

import optuna
import pytest

from study import presets
from study.config import StudyConfig
from study.results_folder import StudyFolder
from study.search import finalists, starting_over, storage
from tests.study.search.test_identity import asked_for, begin, refusal

MAXIMIZE = optuna.study.StudyDirection.MAXIMIZE


def names(asked: StudyConfig) -> list[str]:
    return sorted(optuna.get_all_study_names(asked.storage)) if asked.storage else []


def start_over(asked: StudyConfig, folder: StudyFolder) -> optuna.Study:
    """As the stages do it, up to the first trial."""
    replaces = starting_over.set_aside(asked, folder)
    made = storage.open_study(asked, folder, {"seed": 1})
    config = {"model": asked.model, "data": asked.data, "size": 32, "seed": 1}
    storage.record(made, folder, config=config, storage=asked.storage, replaces=replaces)
    return made


@pytest.mark.parametrize("where", ["journal", "database"])
def test_the_old_study_goes_with_the_first_report_of_the_new_one(tmp_path, where):
    asked = asked_for(tmp_path, where, fresh=True)
    folder = begin(asked_for(tmp_path, where))
    finalists.open_reruns(asked, folder, MAXIMIZE).enqueue_trial({})
    made = start_over(asked, folder)
    assert made.get_trials() == [] and folder.aside.exists()
    assert finalists.open_reruns(asked, folder, MAXIMIZE).get_trials() == []
    callback = starting_over.RemoveOld(asked, folder)
    callback.on_trial_result(1, [], None, {"failure": "diverged", "done": True})
    assert folder.aside.exists(), "that is no report"
    made.ask()
    for _ in range(2):
        callback.on_trial_result(1, [], None, {"objective": 0.5})
    assert not folder.aside.exists()
    again = storage.load_study(folder.path, asked.storage)
    assert len(again.get_trials()) == 1 and (folder.read() or {})["replaces"] == []
    assert names(asked) in ([], ["study-2", "study-2-finalists"])


@pytest.mark.parametrize("where", ["journal", "database"])
def test_an_error_brings_the_old_study_back(tmp_path, where):
    asked = asked_for(tmp_path, where, fresh=True)
    folder = begin(asked_for(tmp_path, where))
    before, record = names(asked), folder.read()
    replaces = starting_over.set_aside(asked, folder)
    made = storage.open_study(asked, folder, {"seed": 1})
    made.enqueue_trial({})
    storage.record(made, folder, config={"seed": 1}, storage=asked.storage, replaces=replaces)
    starting_over.bring_back(asked, folder, replaces)
    assert folder.read() == record and names(asked) == before
    assert len(storage.load_study(folder.path, asked.storage).get_trials()) == 3


@pytest.mark.parametrize("where", ["journal", "database"])
def test_starting_over_again_before_a_trial_keeps_the_old_study_and_forgets_the_one_between(tmp_path, where):
    asked = asked_for(tmp_path, where, fresh=True)
    folder = begin(asked_for(tmp_path, where))
    start_over(asked, folder)
    start_over(asked, folder).ask()
    assert len(list((folder.aside / "trials").iterdir())) == 3
    starting_over.remove_old(asked, folder)
    assert names(asked) in ([], ["study-3"]) and not folder.aside.exists()


def test_the_study_of_another_folder_stays_in_the_database(tmp_path):
    asked = asked_for(tmp_path, "database", fresh=True)
    other = StudyFolder(tmp_path / "other" / "study")
    storage.open_study(asked_for(tmp_path, "database"), other, {"seed": 9}).ask()
    folder = StudyFolder(tmp_path / "results" / "study")
    folder.claim({}, fresh=True)
    start_over(asked, folder).ask()
    starting_over.remove_old(asked, folder)
    assert names(asked) == ["study", "study-2"] and not folder.aside.exists()


def test_fresh_over_nothing_sets_nothing_aside(tmp_path):
    asked = asked_for(tmp_path, fresh=True)
    folder = StudyFolder(tmp_path / "results" / "study")
    folder.claim({}, fresh=True)
    assert starting_over.set_aside(asked, folder) == [] and not folder.aside.exists()


@pytest.mark.parametrize("where", ["journal", "database"])
@pytest.mark.parametrize(
    "wrong", [{"storage": "nosuch://database"}, {"storage": "postgresql://db/x"}, {"data_root": "/nowhere"}]
)
def test_what_can_be_wrong_is_found_before_the_old_study_is_touched(tmp_path, where, wrong):
    folder = begin(asked_for(tmp_path, where))
    refusal(asked_for(tmp_path, where, **{"fresh": True, **wrong}))
    assert folder.read() and not folder.aside.exists()
    assert len(storage.load_study(folder.path, asked_for(tmp_path, where).storage).get_trials()) == 3


def test_a_missing_package_is_found_before_the_old_study_is_touched(tmp_path, monkeypatch):
    import sys

    folder = begin(asked_for(tmp_path))
    monkeypatch.setitem(sys.modules, "cmaes", None)
    assert "pip install" in refusal(asked_for(tmp_path, fresh=True, sampler="cmaes", pruner="none"))
    assert not folder.aside.exists()


def test_a_damaged_study_json_keeps_nobody_from_starting_over(tmp_path):
    folder = begin(asked_for(tmp_path))
    (folder.path / "study.json").write_text("{}")
    asked = asked_for(tmp_path, fresh=True, preset="auto")
    assert "clevrtex" in refusal(asked), "the data comes next"
    start_over(asked, folder).ask()
    assert folder.aside.exists() and storage.load_study(folder.path).get_trials()


def test_a_copy_of_a_folder_does_not_remove_the_study_of_the_original(tmp_path):
    folder = begin(asked_for(tmp_path, "database"))
    copy = StudyFolder(folder.path.with_name("copy"))
    shutil.copytree(folder.path, copy.path)
    fresh = asked_for(tmp_path, "database", fresh=True, name="copy")
    made = start_over(fresh, copy)
    made.ask()
    starting_over.remove_old(fresh, copy)
    assert len(storage.load_study(folder.path, fresh.storage).get_trials()) == 3
    assert len(storage.load_study(copy.path, fresh.storage).get_trials()) == 1


@pytest.mark.parametrize("ends", ["well", "in an error"])
def test_a_folder_that_was_renamed_keeps_its_study_when_its_old_name_starts_over(tmp_path, ends):
    folder = begin(asked_for(tmp_path, "database"))
    renamed = folder.path.rename(folder.path.with_name("renamed"))
    fresh = asked_for(tmp_path, "database", fresh=True)
    folder.path.mkdir()
    folder.trials.mkdir()
    made = start_over(fresh, folder)
    if ends == "well":
        made.ask()
        starting_over.remove_old(fresh, folder)
    else:
        starting_over.bring_back(fresh, folder, (folder.read() or {})["replaces"])
        assert names(fresh) == ["study"]
    assert len(storage.load_study(renamed, fresh.storage).get_trials()) == 3


def test_an_error_leaves_an_old_study_that_has_no_trials_yet(tmp_path):
    asked = asked_for(tmp_path, "database")
    folder = presets.resolve(asked, has_gpu=False).folder
    folder.claim({"seed": 1}, fresh=False)
    old = storage.open_study(asked, folder, {"seed": 1})
    storage.record(old, folder, config={"seed": 1}, storage=asked.storage)
    fresh = asked_for(tmp_path, "database", fresh=True)
    replaces = starting_over.set_aside(fresh, folder)
    storage.open_study(fresh, folder, {"seed": 1})
    starting_over.bring_back(fresh, folder, replaces)
    assert names(asked) == ["study"] and storage.load_study(folder.path, asked.storage).get_trials() == []


def test_names_in_one_database_are_not_removed_from_another(tmp_path):
    asked = asked_for(tmp_path, "database", fresh=True)
    folder = begin(asked_for(tmp_path, "database"))
    start_over(asked, folder)  # and interrupted before its first report
    other = dataclasses.replace(asked, storage=f"sqlite:///{tmp_path}/other.db")
    optuna.create_study(storage=other.storage, study_name="study").ask()
    start_over(other, folder).ask()
    starting_over.remove_old(other, folder)
    assert names(other) == ["study", "study-2"]


def test_a_study_does_not_remove_itself(tmp_path):
    asked = asked_for(tmp_path, "database")
    folder = begin(asked)
    folder.write(replaces=["study"])
    starting_over.remove_old(asked, folder)
    assert names(asked) == ["study"]
