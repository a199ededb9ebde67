"""How a study stops: by a signal, after its hours, or when the searcher stops it; and which files are deleted then."""

import math
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.stopper import Stopper

from data import stop_signals
from trainables import checkpoint

TUNE_FILES = ("tuner.pkl", "experiment_state-*", "search*state-*", ".validate_storage_marker")
"""What Tune leaves beside the trials for ``Tuner.restore``, which is not used here."""


class StudyStopped(Exception):
    """The study stopped before all its trials had run; the message is the reason."""


class StudyStopper(Stopper):
    """Stops the study on a signal, after ``hours``, or when ``given_up`` says so; running trials are continued later.

    ``clock`` counts seconds.
    """

    def __init__(self, given_up: Callable[[], bool], hours: float | None, clock: Callable[[], float] = time.monotonic):
        self.interrupted = False
        """Whether a signal has stopped the study."""
        self._given_up = given_up
        self._clock = clock
        self._deadline = clock() + 3600 * hours if hours is not None else math.inf

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """False: the scheduler stops single trials."""
        return False

    def stop_all(self) -> bool:
        """Whether to stop the study now."""
        return self.interrupted or self._given_up() or self._clock() > self._deadline

    def catching_signals(self) -> AbstractContextManager[None]:
        """Within this context the first Ctrl-C, SIGTERM or SIGHUP stops the study in good order, a second one at once.

        See :mod:`data.stop_signals`.
        """
        return stop_signals.calling(self._interrupt)

    def _interrupt(self) -> None:
        self.interrupted = True


class CheckpointSweeper(tune.Callback):
    """Deletes checkpoints that nobody will read: all of pruned and failed trials, else all but the newest ``keep``.

    Two checkpoints of each of thousands of trials would fill a disk in the middle of a study. It also deletes the
    folder of the driver's own files, which Tune makes for each trial. A paused trial comes back under its name, and
    where this folder exists, Tune would choose another name for the trial's folder.
    """

    def __init__(self, state_of: Callable[[int], str], keep: int = 1):
        self._state_of = state_of
        self._keep = keep

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """Sweep the trial's folder; by now Tune has saved its last checkpoint.

        One that has lost its worker waits for another, and its last checkpoint may be cut short.
        """
        state = self._state_of(trial.config["number"])
        cut_short = state == "PAUSED" and trial.status == trial.PENDING
        if state != "RUNNING" and not cut_short:
            sweep_checkpoints(Path(trial.config["folder"]), self._keep if state in ("COMPLETE", "PAUSED") else 0)
        shutil.rmtree(trial.local_path, ignore_errors=True)
        if trial.status != trial.PENDING:  # else it waits for another worker
            forget(trial)

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """Delete Tune's own folder of a trial that it gave up: the searcher hands it out again, under the same name."""
        shutil.rmtree(trial.local_path, ignore_errors=True)


def forget(trial: Any) -> None:
    """Drop the statistics that Tune keeps of all numbers of a trial that has ended, some 120 kB, which nobody reads."""
    trial.metric_analysis.clear()
    trial.metric_n_steps.clear()
    trial.run_metadata.invalidate_cache()


def sweep_checkpoints(folder: Path, keep: int) -> None:
    """Delete the checkpoints in a trial's ``folder`` but the ``keep`` ones with the highest steps."""
    paths = sorted(folder.glob(f"checkpoint_*/{checkpoint.PATTERN}"), key=lambda path: path.name)
    kept = paths[-keep:] if keep else []
    for found in folder.glob("checkpoint_*"):
        if all(found != path.parent for path in kept):
            shutil.rmtree(found, ignore_errors=True)
    for path in paths[: len(paths) - len(kept)]:
        path.unlink(missing_ok=True)  # Tune numbers folders from 0 again when a trial goes on


def sweep_tune_files(folder: Path) -> None:
    """Delete Tune's own bookkeeping beside the trials."""
    for pattern in TUNE_FILES:
        for path in folder.glob(pattern):
            path.unlink()
