"""``--fresh``: the old study is set aside, and is removed when the new one has the first report of a trial.

Its folder moves, and in a database the new study stands beside the old one, under another name. Until then an error
brings the old study back.
"""

import contextlib
from typing import Any

import optuna
from ray import tune

from study.config import StudyConfig
from study.results_folder import StudyFolder
from study.search import storage

REPLACES = "replaces"
"""The entry of study.json with the names in the database that go when the old study does."""


def set_aside(config: StudyConfig, folder: StudyFolder) -> list[str]:
    """Set the study in ``folder`` aside, if there is one; returns what ``replaces`` in the new study.json is to be."""
    said = _read(folder)
    names = list(said.get(REPLACES) or [])
    if config.storage is not None:
        opened = storage.open_storage(folder, config.storage)
        about = (said.get("study") or {}).get("id")
        for study in opened.get_all_studies():
            mark = study.user_attrs.get(storage.MARK, {})
            if mark.get("folder") == str(folder.path.resolve()) or (about is not None and mark.get("id") == about):
                names.append(study.study_name)
    if any(entry.name not in (".lock", folder.trials.name) for entry in folder.path.iterdir()) or _holds_trials(folder):
        folder.set_aside()
    return list(dict.fromkeys(names))


def bring_back(config: StudyConfig, folder: StudyFolder, replaces: list[str]) -> None:
    """Undo :func:`set_aside`, whatever has become of the new study so far."""
    if config.storage is not None:
        with contextlib.suppress(Exception):  # what went wrong before this is what a person has to know
            opened = storage.open_storage(folder, config.storage)
            for study in opened.get_all_studies():
                mark = study.user_attrs.get(storage.MARK, {})
                if mark.get("folder") == str(folder.path.resolve()) and study.study_name not in replaces:
                    optuna.delete_study(study_name=study.study_name, storage=opened)
    if folder.aside.is_dir():
        folder.bring_back()


def remove_old(config: StudyConfig, folder: StudyFolder) -> None:
    """Remove what was set aside, if anything was."""
    names = (folder.read() or {}).get(REPLACES) or []
    if config.storage is not None and names:
        opened = storage.open_storage(folder, config.storage)
        there = optuna.get_all_study_names(opened)
        for name in (found for one in names for found in (one, one + storage.FINALISTS) if found in there):
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


def _holds_trials(folder: StudyFolder) -> bool:
    return folder.trials.is_dir() and any(folder.trials.iterdir())


def _read(folder: StudyFolder) -> dict[str, Any]:
    """study.json; nothing if it is damaged, which may be why the study starts over."""
    try:
        return folder.read() or {}
    except ValueError:
        return {}
