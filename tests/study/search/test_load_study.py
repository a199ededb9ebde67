"""The Optuna study of a results folder, found again from the folder alone."""

import json
import shutil
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from study.search.storage import load_study


def in_a_database(folder: Path, name: str | None = None) -> str:
    """Move the study of ``folder`` from its journal to a database, which study.json then names; its URL."""
    url = f"sqlite:///{folder.parent / 'optuna.db'}"
    optuna.copy_study(
        from_study_name=folder.name,
        from_storage=JournalStorage(JournalFileBackend(str(folder / "optuna.journal"))),
        to_storage=url,
        to_study_name=name,
    )
    (folder / "optuna.journal").unlink()
    record = json.loads((folder / "study.json").read_text()) | {"storage": url}
    (folder / "study.json").write_text(json.dumps(record))
    return url


def test_a_database_is_opened_where_a_person_names_it_and_not_where_study_json_does(results_folder: Path) -> None:
    journal = (results_folder / "optuna.journal").read_bytes()
    url = in_a_database(results_folder)
    assert len(load_study(results_folder, url).trials) == 9
    trap = results_folder / "trap.db"
    record = json.loads((results_folder / "study.json").read_text()) | {"storage": f"sqlite:///{trap}"}
    (results_folder / "study.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=rf"in a database; say --storage sqlite:///{trap} to open it"):
        load_study(results_folder)
    assert not trap.exists(), "opened"
    (results_folder / "study.json").write_text(json.dumps(record | {"storage": None}))
    with pytest.raises(ValueError, match=r"optuna\.journal is missing"):
        load_study(results_folder)
    (results_folder / "optuna.journal").write_bytes(journal)
    assert len(load_study(results_folder).trials) == 9


def test_a_renamed_and_a_copied_folder_are_read(results_folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(results_folder, tmp_path / "copy"))
    assert len(load_study(copy).trials) == 9
    assert len(load_study(results_folder.rename(tmp_path / "renamed")).trials) == 9


def test_reading_changes_nothing_and_needs_no_permission_to_write(results_folder: Path) -> None:
    path = results_folder / "optuna.journal"
    path.write_bytes(path.read_bytes() + b'{"op_code": 4, "wor')
    before = {entry: entry.stat().st_mtime_ns for entry in results_folder.iterdir()}
    results_folder.chmod(0o500)
    try:
        assert len(load_study(results_folder).trials) == 9
    finally:
        results_folder.chmod(0o700)
    assert {entry: entry.stat().st_mtime_ns for entry in results_folder.iterdir()} == before


def test_a_renamed_folder_keeps_its_study(results_folder: Path, tmp_path: Path) -> None:
    name = results_folder.name
    assert load_study(results_folder.rename(tmp_path / "renamed")).study_name == name
