"""What a study is stands in study.json and in the storage: neither lets another study in when the other is gone."""

import json
import re
import shutil
import sys
from pathlib import Path

import optuna
import pytest
from rich.console import Console

from study import presets, stages
from study.config import StudyConfig
from study.results_folder import StudyFolder
from study.search import finalists, journal, storage
from study.search.proposal import Proposal
from study.search.searcher import StudySearcher
from study.stages import preparing
from tests.study.results import write_finished
from tests.study.search.made_up import result

STORAGES = ["journal", "database"]


def asked_for(tmp_path: Path, where: str = "journal", **config) -> StudyConfig:
    """A study whose data is not there: what is refused before it is read is refused by name."""
    url = f"sqlite:///{tmp_path / 'studies.db'}" if where == "database" else None
    config = {"model": "slot_attention", "preset": "tiny", "data": "clevrtex", "name": "study", "steps": 60} | config
    places = {"results": str(tmp_path / "results"), "cache": str(tmp_path / "cache"), "data_root": str(tmp_path)}
    return StudyConfig(**{"storage": url, **places, **config})


def begin(asked: StudyConfig) -> StudyFolder:
    """The study after two trials and a third that was killed."""
    study = presets.resolve(asked, has_gpu=False)
    proposal = study.expected_proposal()
    study.folder.claim(study.identity, fresh=False)
    begun = storage.open_study(asked, study.folder, study.identity, proposal.base)
    data = {"fingerprint": "abc", "counts": {"train": 9}}
    written = {"config": study.identity, "storage": asked.storage, "data": data, **proposal.question()}
    storage.record(begun, study.folder, **written)
    searcher = StudySearcher(begun, study.folder, 9, proposal, *asked.goals[1:])
    for name in "abc":
        searcher.suggest(name)
        (study.folder.trial(searcher.live[name].number) / "checkpoint_000000").mkdir(parents=True)
    for name in "ab":
        searcher.on_trial_complete(name, result(10, 0.5, done=True))
    return study.folder


def refusal(asked: StudyConfig) -> str:
    """What the command says before it reads data; nothing changes by it."""
    folder = presets.resolve(asked, has_gpu=False).folder.path
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(ValueError) as caught:
        stages.run(asked, Console(quiet=True))
    assert not Path(asked.cache or "").exists(), "before data is read"
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def goes_on(asked: StudyConfig) -> str:
    """What the command says until it misses its data; that the study itself was let in."""
    console = Console(record=True, quiet=False, file=open("/dev/null", "w"), width=200)
    with pytest.raises(ValueError, match="clevrtex"):
        stages.run(asked, console)
    study = presets.resolve(asked, has_gpu=False)
    begun = storage.open_study(asked, study.folder, study.identity)
    assert [trial.state.name for trial in begun.get_trials()] == ["COMPLETE", "COMPLETE", "RUNNING"]
    return console.export_text()


@pytest.mark.parametrize("where", STORAGES)
def test_without_study_json_the_same_command_goes_on_and_writes_it_anew(tmp_path, where):
    asked = asked_for(tmp_path, where)
    folder = begin(asked)
    before = folder.read()
    (folder.path / "study.json").unlink()
    assert "study.json was missing; it is written anew from" in goes_on(asked)
    assert folder.read() == before
    assert "written anew" not in goes_on(asked)


@pytest.mark.parametrize("where", STORAGES)
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"steps": 30}, "steps is 60 there and 30 here"),
        ({"metric": "MSE"}, "metric is 'mIoU_fg' there and 'MSE' here"),
        ({"seed": 3}, "seed is 0 there and 3 here"),
        ({"set": {"lr": "0.1"}}, "set is {} there"),
    ],
)
def test_without_study_json_no_other_configuration_is_let_in(tmp_path, where, change, says):
    folder = begin(asked_for(tmp_path, where))
    (folder.path / "study.json").unlink()
    assert says in refusal(asked_for(tmp_path, where, **change))


def test_without_study_json_no_other_images_and_no_other_ranges_are_let_in(tmp_path, monkeypatch):
    import search_spaces.slot_attention as edited

    asked = asked_for(tmp_path)
    folder = begin(asked)
    (folder.path / "study.json").unlink()
    goes_on(asked)
    with pytest.raises(ValueError, match="began with other images"):
        folder.check_data("xyz")
    (folder.path / "study.json").unlink()
    monkeypatch.setitem(edited.TINY, "lr", 3e-3)
    with pytest.raises(ValueError, match=r"lr was 0\.002 and is 0\.003"):
        stages.run(asked, Console(quiet=True))


def test_a_study_of_another_direction_is_never_continued(tmp_path):
    """An earlier version's journal says nothing but the direction; with study.json lost, the least was the best."""
    asked = asked_for(tmp_path)
    folder = begin(asked)
    (folder.path / journal.FILE).unlink()
    made = optuna.create_study(study_name="study", storage=storage.open_storage(folder, None), direction="minimize")
    made.tell(made.ask(), 0.5)
    record = folder.read() or {}
    del record["study"]
    (folder.path / "study.json").write_text(json.dumps(record))
    assert "goes in another direction" in refusal(asked)


def test_a_study_of_an_earlier_version_goes_on_while_its_study_json_is_there(results_folder):
    config = json.loads((results_folder / "study.json").read_text())["config"]
    folder, asked = StudyFolder(results_folder), StudyConfig(model="space")
    assert storage.open_study(asked, folder, config).user_attrs[storage.MARK]["record"]["config"] == config
    assert len(storage.open_study(asked, folder, config).get_trials()) == 9
    with pytest.raises(ValueError, match="seed is 3 there"):
        storage.open_study(asked, folder, config | {"seed": 5})


def test_a_study_of_an_earlier_version_without_study_json_is_refused(tmp_path):
    write_finished(tmp_path / "study")
    (tmp_path / "study" / "study.json").unlink()
    with pytest.raises(ValueError, match=r"study\.json is missing, and .*optuna\.journal, which an earlier version"):
        storage.open_study(StudyConfig(model="space"), StudyFolder(tmp_path / "study"), {"seed": 3})


def test_a_database_of_an_earlier_version_goes_on(tmp_path):
    asked = asked_for(tmp_path, "database")
    folder = begin(asked)
    record = folder.read() or {}
    del record["study"]
    (folder.path / "study.json").write_text(json.dumps(record))
    study = optuna.load_study(study_name="study", storage=storage.open_storage(folder, asked.storage))
    legacy = {"identity": record["config"], "folder": str(folder.path.resolve())}
    study.set_user_attr(storage.MARK, legacy)
    goes_on(asked)
    study.set_user_attr(storage.MARK, {**legacy, "folder": "/elsewhere"})
    assert "has a study study already, of /elsewhere" in refusal(asked)


def lost(folder: StudyFolder, fault: str) -> None:
    path = folder.path / journal.FILE
    if fault == "lost":
        path.unlink()
    elif fault == "empty":
        path.write_bytes(b"")
    elif fault == "cut within the first record":
        path.write_bytes(path.read_bytes()[:50])
    elif fault == "of another study":
        path.unlink()
        other = optuna.create_study(study_name="study", storage=storage.open_storage(folder, None))
        other.add_trial(optuna.trial.create_trial(value=0.5))


@pytest.mark.parametrize("record", ["with study.json", "without study.json"])
@pytest.mark.parametrize("fault", ["lost", "empty", "cut within the first record", "of another study"])
def test_a_journal_that_does_not_hold_the_study_is_not_taken_for_a_new_one(tmp_path, fault, record):
    asked = asked_for(tmp_path)
    folder = begin(asked)
    lost(folder, fault)
    if record == "without study.json":
        (folder.path / "study.json").unlink()
    said = refusal(asked)
    assert str(folder.path) in said and "--fresh" in said
    if fault != "of another study":
        assert "which has begun (3 folders of trials); restore it from a copy" in said


def test_an_exchanged_journal_is_noticed(tmp_path):
    folder, other = (begin(asked_for(tmp_path / name)) for name in ("a", "b"))
    shutil.copy(other.path / journal.FILE, folder.path / journal.FILE)
    assert "does not hold the study of" in refusal(asked_for(tmp_path / "a"))
    with pytest.raises(ValueError, match="does not hold the study of"):
        storage.load_study(folder.path)


def test_a_beheaded_journal_is_named(tmp_path):
    folder = begin(asked_for(tmp_path))
    path = folder.path / journal.FILE
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[2:]))
    assert "line 1: its beginning" in refusal(asked_for(tmp_path))


def test_a_torn_journal_is_mended_before_optuna_opens_it(tmp_path):
    asked = asked_for(tmp_path)
    folder = begin(asked)
    with open(folder.path / journal.FILE, "ab") as file:
        file.write(b'{"op_code": 4, "worker')
    assert "the last 22 bytes are no whole record" in goes_on(asked)
    assert (folder.path / "optuna.journal.cut-1").exists()


@pytest.mark.parametrize("where", STORAGES)
def test_a_renamed_folder_goes_on_and_its_finalists_too(tmp_path, where):
    asked = asked_for(tmp_path, where)
    folder = begin(asked)
    finalists.open_reruns(asked, folder, optuna.study.StudyDirection.MAXIMIZE).enqueue_trial({})
    folder.path.rename(folder.path.with_name("renamed"))
    renamed = asked_for(tmp_path, where, name="renamed")
    goes_on(renamed)
    again = StudyFolder(folder.path.with_name("renamed"))
    assert len(storage.load_study(again.path, asked.storage).get_trials()) == 3
    assert len(finalists.open_reruns(renamed, again, optuna.study.StudyDirection.MAXIMIZE).get_trials()) == 1
    goes_on(renamed)


def test_a_copied_folder_is_a_study_of_its_own_unless_both_share_a_database(tmp_path):
    folder = begin(asked_for(tmp_path))
    shutil.copytree(folder.path, folder.path.with_name("copy"))
    goes_on(asked_for(tmp_path, name="copy"))
    goes_on(asked_for(tmp_path))
    shared = begin(asked_for(tmp_path, "database", name="shared"))
    shutil.copytree(shared.path, shared.path.with_name("twin"))
    said = refusal(asked_for(tmp_path, "database", name="twin"))
    assert f"twin is a copy of {shared.path}, and both have one study in" in said
    assert len(storage.load_study(shared.path.with_name("twin"), f"sqlite:///{tmp_path / 'studies.db'}").trials) == 3


def test_a_storage_that_cannot_be_opened_is_said_before_data_and_leaves_no_folder(tmp_path):
    asked = asked_for(tmp_path, storage="nosuch://database")
    for how in ({}, {"fresh": True}):
        with pytest.raises(ValueError, match="nosuch://database cannot be opened"):
            stages.run(asked_for(tmp_path, storage="nosuch://database", **how), Console(quiet=True))
        assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="nosuch://database cannot be opened"):
        stages.run_all([asked, asked], Console(quiet=True))


def test_a_new_study_of_missing_data_leaves_no_folder(tmp_path):
    with pytest.raises(ValueError, match="clevrtex"):
        stages.run(asked_for(tmp_path), Console(quiet=True))
    assert [path for path in tmp_path.rglob("*") if "results" in str(path)] == []


def test_a_missing_driver_is_named(tmp_path, monkeypatch):
    packages = {"psycopg": r"'psycopg\[binary\]'", "psycopg2": "psycopg2-binary", "pg8000": "pg8000"}
    for driver, package in packages.items():
        monkeypatch.setitem(sys.modules, driver, None)
        url = f"postgresql+{driver}://anna@db/studies"
        with pytest.raises(ValueError, match=rf"{re.escape(url)} cannot be opened: pip install {package}$"):
            storage.open_storage(StudyFolder(tmp_path), url.replace("@", ":hush@"))


def test_a_trial_without_a_record_loses_its_folder_to_the_one_that_gets_its_number(tmp_path):
    folder = begin(asked_for(tmp_path))
    path = folder.path / journal.FILE
    lines = path.read_bytes().splitlines(keepends=True)
    created = [i for i, line in enumerate(lines) if json.loads(line)["op_code"] == 4]
    path.write_bytes(b"".join(lines[: created[2]]))
    begun = storage.open_study(asked_for(tmp_path), folder, folder.read()["config"])
    assert preparing.lost_trials(folder, begun) == [
        f"note: trial_0002: no trial of the storage, moved to {folder.path / 'lost'}"
    ]
    proposal = Proposal(lambda trial, base: {}, {"lr": 0.1}, {}, ("lr",))
    searcher = StudySearcher(begun, folder, 9, proposal)
    assert [searcher.suggest(name)["number"] for name in "abc"] == [0, 1, 2]
    assert not folder.trial(2).exists()


def test_an_empty_study_of_somebody_in_another_direction_is_left_alone(tmp_path):
    """As ``optuna create-study`` makes one: it minimises, and its name may be ours."""
    asked = asked_for(tmp_path, "database")
    optuna.create_study(storage=asked.storage, study_name="study")
    study = presets.resolve(asked, has_gpu=False)
    made = storage.open_study(asked, study.folder, study.identity)
    assert made.study_name == "study-2" and made.direction == optuna.study.StudyDirection.MAXIMIZE


def test_the_old_name_of_a_folder_that_was_renamed_does_not_take_its_study(tmp_path):
    asked = asked_for(tmp_path, "database")
    folder = begin(asked)
    trial = storage.load_study(folder.path, asked.storage).get_trials()[-1]
    storage.open_storage(folder, asked.storage).set_trial_intermediate_value(trial._trial_id, 1, 0.5)
    folder.path.rename(folder.path.with_name("archived"))
    assert "3 trials, and the folder has none of them; if it was renamed, give its new --name" in refusal(asked)
