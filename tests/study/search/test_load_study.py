"""The Optuna study of a results folder, found again from the folder alone."""

import json
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from study.search.storage import load_study


def test_storage_of_the_record_is_used(results_folder: Path) -> None:
    url = f"sqlite:///{results_folder / 'optuna.db'}"
    optuna.copy_study(
        from_study_name=results_folder.name,
        from_storage=JournalStorage(JournalFileBackend(str(results_folder / "optuna.journal"))),
        to_storage=url,
    )
    (results_folder / "optuna.journal").unlink()
    with pytest.raises(ValueError, match=r"optuna\.journal is missing"):
        load_study(results_folder)
    record = json.loads((results_folder / "study.json").read_text()) | {"storage": url}
    (results_folder / "study.json").write_text(json.dumps(record))
    assert len(load_study(results_folder).trials) == 9


def test_a_renamed_folder_keeps_its_study(results_folder: Path, tmp_path: Path) -> None:
    name = results_folder.name
    assert load_study(results_folder.rename(tmp_path / "renamed")).study_name == name
