"""Optuna's view of a database for the one process that writes to a study: what it knows it does not read again."""

from typing import Any

from optuna.storages import RDBStorage
from optuna.storages._cached_storage import _CachedStorage


class OnlyWriter(_CachedStorage):
    """Reads a trial again only after it was written to through this object.

    Optuna itself reads every trial that has not ended again, each time that it is asked for trials, since others may
    have written to it. To Optuna paused trials have not ended, and of a thousand trials hundreds are paused. That a
    study has one writer is made sure of by the lock on its folder.
    """

    def __init__(self, backend: RDBStorage):
        super().__init__(backend)
        self._read: set[int] = set()
        """studies of which all trials were read"""
        self._written: set[int] = set()
        """trials that were written to since they were read"""

    def _read_trials_from_remote_storage(self, study_id: int) -> None:
        if study_id not in self._read:
            super()._read_trials_from_remote_storage(study_id)
            self._read.add(study_id)
            return
        with self._lock:
            of_study = [i for i in self._written if self._trial_id_to_study_id_and_number[i][0] == study_id]
            self._add_trials_to_cache(study_id, [self._backend.get_trial(trial_id) for trial_id in of_study])
            self._written -= set(of_study)

    def set_trial_param(self, trial_id: int, *what: Any, **named: Any) -> None:
        """As Optuna's."""
        super().set_trial_param(trial_id, *what, **named)
        self._written.add(trial_id)

    def set_trial_state_values(self, trial_id: int, *what: Any, **named: Any) -> bool:
        """As Optuna's."""
        self._written.add(trial_id)
        return super().set_trial_state_values(trial_id, *what, **named)

    def set_trial_intermediate_value(self, trial_id: int, *what: Any, **named: Any) -> None:
        """As Optuna's."""
        super().set_trial_intermediate_value(trial_id, *what, **named)
        self._written.add(trial_id)

    def set_trial_user_attr(self, trial_id: int, *what: Any, **named: Any) -> None:
        """As Optuna's."""
        super().set_trial_user_attr(trial_id, *what, **named)
        self._written.add(trial_id)

    def set_trial_system_attr(self, trial_id: int, *what: Any, **named: Any) -> None:
        """As Optuna's."""
        super().set_trial_system_attr(trial_id, *what, **named)
        self._written.add(trial_id)
