"""TensorBoard event files: one run per trial, in the trial's own folder, written as results reach the driver.

Tune's own logger prefixes every tag, writes into a session folder while a study runs, and takes pictures only
as metrics.
"""

import json
import numbers
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image
from ray import tune
from tensorboard.summary.writer import event_file_writer
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from trainables.pictures import PANEL_FILE

SCALARS = ("train/", "val/", "time/", "memory/", "lr/")
"""Prefixes of the results that are curves; ``lr`` is one too, everything else belongs to Tune."""

EVENTS = "events.out.tfevents."
"""How the names of event files begin; seconds since 1970 follow."""

OBJECTIVE = "Objective/"
"""Prefix of the objective's curve: TensorBoard sorts capitals first, so it is in the first group."""


class TensorBoardCallback(tune.Callback):
    """Curves, hyperparameters and pictures of every trial, flushed with each result.

    Reads flat results with ``step`` (training steps so far) and, if present, the checkpoint's ``panel.png``;
    ``trial.config`` holds ``hyperparameters``, the trial's table, and ``folder``, where its events go. ``metric``
    names the objective among the ``val/`` results; its last value appears in the HParams tab, beside the
    hyperparameters that are ``searched``.
    """

    def __init__(self, metric: str, searched: Sequence[str]):
        self.metric = metric
        self.searched = list(searched)
        self._writers: dict[str, SummaryWriter] = {}
        self._last: dict[str, tuple[int, float | None]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its callbacks; open files stay with this process."""
        return {**self.__dict__, "_writers": {}}

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """Write the table of hyperparameters, unless the folder has it from before an interruption."""
        self._close(trial)  # a retry after a lost worker: the next result opens a new file, which hides repeated steps
        if any(Path(trial.config["folder"]).glob(f"{EVENTS}*")):
            return
        writer = self._writer(trial, purge_step=0)
        writer.add_text("hyperparameters", _markdown(trial.config["hyperparameters"], self.searched), 0)
        writer.flush()

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:
        """Add one point to every curve."""
        step = result.get("step")
        if step is None:  # the trial ended before its first step
            return
        self._last[trial.trial_id] = step, result.get(f"val/{self.metric}")
        writer = self._writer(trial, purge_step=step)
        for tag, value in result.items():
            if (tag == "lr" or tag.startswith(SCALARS)) and isinstance(value, numbers.Real):
                writer.add_scalar(tag, float(value), step)
                if tag == f"val/{self.metric}":
                    writer.add_scalar(f"{OBJECTIVE}{self.metric}", float(value), step)
        writer.flush()

    def on_checkpoint(self, iteration: int, trials: list, trial: Any, checkpoint: Any, **info: Any) -> None:
        """Add the checkpoint's picture at the step of the trial's last result."""
        path = Path(checkpoint.path) / PANEL_FILE
        if trial.trial_id not in self._last or not path.exists():
            return
        picture = np.asarray(Image.open(path).convert("RGB"))  # (H, W, 3)
        step, _ = self._last[trial.trial_id]
        writer = self._writer(trial, purge_step=step + 1)
        writer.add_image("panel", picture, step, dataformats="HWC")
        writer.flush()

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """Write the row of the HParams tab and close the file."""
        self._finish(trial)

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """As on completion; the objective is that of the last result, if there was one."""
        self._finish(trial)

    def on_experiment_end(self, trials: list, **info: Any) -> None:
        """Close the files of the trials that still run when the study stops."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def _writer(self, trial: Any, purge_step: int) -> SummaryWriter:
        """The trial's open file; a new one makes TensorBoard forget earlier events from ``purge_step`` on.

        TensorBoard does not count the first session start in a folder as a restart, so every file has one.
        """
        if trial.trial_id not in self._writers:
            folder = Path(trial.config["folder"])
            with _named_later_than(_newest(folder)):
                self._writers[trial.trial_id] = SummaryWriter(str(folder), purge_step=purge_step)
        return self._writers[trial.trial_id]

    def _finish(self, trial: Any) -> None:
        if trial.trial_id not in self._last:  # it never reported
            self._close(trial)
            return
        step, objective = self._last[trial.trial_id]
        writer = self._writer(trial, purge_step=step + 1)
        metrics = {} if objective is None else {f"{OBJECTIVE}{self.metric}": float(objective)}
        # SummaryWriter.add_hparams would open a subfolder, which TensorBoard shows as a second run
        for summary in hparams(_plain(trial.config["hyperparameters"], self.searched), metrics):
            writer._get_file_writer().add_summary(summary, step)
        self._close(trial)

    def _close(self, trial: Any) -> None:
        if writer := self._writers.pop(trial.trial_id, None):
            writer.close()


def _newest(folder: Path) -> int:
    """The latest time in the names of the event files in ``folder``, in seconds since 1970; 0 without any."""
    times = [path.name.removeprefix(EVENTS).partition(".")[0] for path in folder.glob(f"{EVENTS}*")]
    return max((int(time) for time in times if time.isdecimal()), default=0)


@contextmanager
def _named_later_than(newest: int) -> Iterator[None]:
    """Within this context, names of new event files have a time after ``newest``, whatever the clock says.

    TensorBoard reads the files of a run in the order of their names. After a clock has gone back, or on a host whose
    clock is behind, a new file would come first; the old one would then hide its curves.
    """
    if time.time() >= newest + 1:
        yield
        return
    event_file_writer.time = SimpleNamespace(time=lambda: newest + 1)  # the constructor asks it for the name
    try:
        yield
    finally:
        event_file_writer.time = time


def _plain(hyperparameters: Mapping[str, Any], keys: Iterable[str]) -> dict[str, bool | int | float | str]:
    """Values of the types that the HParams tab knows; None becomes 'none', or its column would be missing."""
    there = {key: hyperparameters[key] for key in keys if key in hyperparameters}
    return {
        key: value if isinstance(value, bool | int | float | str) else "none" if value is None else json.dumps(value)
        for key, value in there.items()
    }


def _markdown(hyperparameters: Mapping[str, Any], searched: Sequence[str]) -> str:
    """A table of all, those that are searched first."""
    keys = dict.fromkeys([*searched, *hyperparameters])
    rows = [f"| {key} | {value} |" for key, value in _plain(hyperparameters, keys).items()]
    return "\n".join(["| hyperparameter | value |", "|---|---|", *rows])
