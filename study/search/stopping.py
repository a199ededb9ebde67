"""How trials and studies end: by signal, by time, by giving up; and what is swept away then."""

import math
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.stopper import Stopper

from trainables import checkpoint

TUNE_FILES = ("tuner.pkl", "experiment_state-*", "search*state-*", ".validate_storage_marker")
"""What Tune leaves beside the trials for ``Tuner.restore``, which is not used here."""


class StudyStopped(Exception):
    """The study ended before its time; the message says why."""


class StudyStopper(Stopper):
    """Stops everything on Ctrl-C, when the hours are up, or when the searcher gives up; what runs goes on next time."""

    def __init__(self, given_up: Callable[[], bool], hours: float | None):
        self.interrupted = False
        """Whether a signal asked for the end."""
        self._given_up = given_up
        self._deadline = time.monotonic() + 3600 * hours if hours is not None else math.inf

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Stop no single trial."""
        return False

    def stop_all(self) -> bool:
        """Whether the study shall end now."""
        return self.interrupted or self._given_up() or time.monotonic() > self._deadline

    @contextmanager
    def catching_signals(self) -> Iterator[None]:
        """Within this context the first SIGINT or SIGTERM ends the study in good order, a second one at once."""

        def interrupt(number: int, frame: Any) -> None:
            self.interrupted = True
            signal.signal(number, signal.default_int_handler)

        before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class CheckpointSweeper(tune.Callback):
    """Deletes checkpoints that nobody will read: all of a stopped or failed trial, all but the newest of the others.

    Two checkpoints of each of thousands of trials would fill a disk in the middle of a study.
    """

    def __init__(self, state_of: Callable[[int], str]):
        self._state_of = state_of

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """Sweep the trial's folder; Tune has saved its last checkpoint by now."""
        state = self._state_of(trial.config["number"])
        if state != "RUNNING":
            sweep_checkpoints(Path(trial.config["folder"]), keep_newest=state == "COMPLETE")

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """Sweep the folder of a trial that errs for good."""
        self.on_trial_complete(iteration, trials, trial)


def sweep_checkpoints(folder: Path, *, keep_newest: bool) -> None:
    """Delete the checkpoint folders of a trial, all or all but the one with the highest step."""
    paths = sorted(folder.glob(f"checkpoint_*/{checkpoint.PATTERN}"), key=lambda path: path.name)
    kept = paths[-1].parent if keep_newest and paths else None
    for found in folder.glob("checkpoint_*"):
        if found != kept:
            shutil.rmtree(found, ignore_errors=True)


def sweep_tune_files(folder: Path) -> None:
    """Delete Tune's own bookkeeping beside the trials."""
    for pattern in TUNE_FILES:
        for path in folder.glob(pattern):
            path.unlink()
