"""``--fresh``: the old study is set aside, and is removed when the new one has the first report of a trial.

Its folder moves, and in a database the new study stands beside the old one, under another name. Until then an error
brings the old study back.
"""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from ray import tune

from study.config import StudyConfig
from study.results_folder import StudyFolder
from study.search import storage
from study.search.storage_url import redacted

REPLACES = "replaces"
"""The entry of study.json with the names in the database that go when the old study does."""


def set_aside(config: StudyConfig, folder: StudyFolder) -> list[str]:
    """Set the study in ``folder`` aside, if there is one; returns what ``replaces`` in the new study.json is to be."""
    said = _read(folder)
    about = (said.get("study") or {}).get("id")
    same = redacted(said.get("storage") or "") == redacted(config.storage or "")
    names = list(said.get(REPLACES) or []) if same else []  # they are names in one database
    holds = any(entry.name not in (".lock", folder.trials.name) for entry in folder.path.iterdir())
    holds = holds or _holds_trials(folder)
    if config.storage is not None:
        for study in storage.open_storage(folder, config.storage).get_all_studies():
            mark = study.user_attrs.get(storage.MARK, {})
            if about is not None and mark.get("id") == about:
                if _lives_elsewhere(mark, folder):
                    names = []  # this folder is a copy of another one, whose studies these are
                    break
                names.append(study.study_name)
            elif about is None and holds and mark.get("folder") == str(folder.path.resolve()):
                names.append(study.study_name)
    if holds:
        folder.set_aside()
    return list(dict.fromkeys(names))


def bring_back(config: StudyConfig, folder: StudyFolder, replaces: list[str]) -> None:
    """Undo :func:`set_aside`, whatever has become of the new study so far."""
    if config.storage is not None:
        with contextlib.suppress(Exception):  # what went wrong before this is what a person has to know
            opened = storage.open_storage(folder, config.storage)
            about = (_read(folder).get("study") or {}).get("id")
            for study in opened.get_all_studies():
                mark = study.user_attrs.get(storage.MARK, {})
                if mark.get("folder") != str(folder.path.resolve()) or study.study_name in replaces:
                    continue
                # A folder that was renamed may have left its name to this one: its study has trials.
                if mark.get("id") == about or not opened.get_n_trials(study._study_id):
                    optuna.delete_study(study_name=study.study_name, storage=opened)
    if folder.aside.is_dir():
        folder.bring_back()


def remove_old(config: StudyConfig, folder: StudyFolder) -> None:
    """Remove what was set aside, if anything was."""
    names = (folder.read() or {}).get(REPLACES) or []
    if config.storage is not None and names:
        opened = storage.open_storage(folder, config.storage)
        there = optuna.get_all_study_names(opened)
        old = set(names) - {storage.name_of(folder)}
        for name in (found for one in old for found in (one, one + storage.FINALISTS) if found in there):
            optuna.delete_study(study_name=name, storage=opened)
    folder.drop_aside()
    if names:
        folder.write(**{REPLACES: []})


class RemoveOld(tune.Callback):
    """Removes what was set aside at the first report of a trial."""

    def __init__(self, config: StudyConfig, folder: StudyFolder):
        self._config = config
        self._folder = folder
        self._done = False

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:
        """The searcher has recorded the report."""
        if not self._done and "objective" in result:
            self._done = True
            remove_old(self._config, self._folder)


def _lives_elsewhere(mark: Mapping[str, Any], folder: StudyFolder) -> bool:
    """Whether the study with ``mark`` is that of another folder, of which ``folder`` is a copy."""
    there = StudyFolder(Path(mark["folder"]))
    return there.path != folder.path.resolve() and (_read(there).get("study") or {}).get("id") == mark["id"]


def _holds_trials(folder: StudyFolder) -> bool:
    return folder.trials.is_dir() and any(folder.trials.iterdir())


def _read(folder: StudyFolder) -> dict[str, Any]:
    """study.json; nothing if it is damaged, which may be why the study starts over."""
    try:
        return folder.read() or {}
    except ValueError:
        return {}
