"""A study that goes from fault to fault: after each the same command ends it, and everything is compared."""

import json
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import pyarrow.parquet as pq
from optuna.storages import JournalStorage
from optuna.trial import FrozenTrial
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from study.results_folder import ROOT, StudyFolder
from study.search import journal, storage
from tests.faults.session import Session

STEPS = [2, 4, 6, 8]
"""The steps at which a trial reports."""

SMALL = ["--model", "slot_attention", "--data", "synthetic:plain-(32,32)", "--steps", "8", "--reports", "4"]
SMALL += ["--validation-images", "20", "--pruner", "none", "--seeds", "1", "--finalists", "1", "--no-curve"]

CURVE = "val/mIoU_fg"


@dataclass(frozen=True)
class Snapshot:
    """What must not change."""

    trials: Mapping[int, FrozenTrial]
    scores: Mapping[tuple[str, str], Any]
    """entry and split -> scores of all its images"""


@dataclass
class Chain:
    """A study in ``place``, of ``wanted`` trials by now."""

    place: Path
    cache: Path
    name: str = "small"
    storage: str | None = None
    environment: dict[str, str] = field(default_factory=lambda: {"OMP_NUM_THREADS": "1"})
    wanted: int = 1
    outputs: Path | None = None
    """where the output of each session is collected; None for ``place``"""
    problems: list[str] = field(default_factory=list)
    """what went wrong at the fault at hand"""
    complete: bool = False
    """whether the last session has ended the study"""
    said: list[str] = field(default_factory=list)
    """all that was printed"""

    @property
    def folder(self) -> Path:
        """The study's folder."""
        return self.place / "results" / self.name

    def words(self, *more: str) -> list[str]:
        """The command."""
        where = ["--results", str(self.place / "results"), "--cache", str(self.cache), "--name", self.name]
        where += ["--storage", self.storage] if self.storage else []
        return [sys.executable, str(ROOT / "study" / "run.py"), *SMALL, *where, "--trials", str(self.wanted), *more]

    def output(self) -> Path:
        """A new file for the output of a session."""
        return (self.outputs or self.place) / f"output-{time.monotonic_ns()}.txt"

    def start(self, *more: str, before: tuple[str, ...] = (), **environment: str) -> Session:
        """Start the command, with ``before`` in front of it."""
        return Session([*before, *self.words(*more)], self.output(), cwd=self.place, **self.environment | environment)

    def met(self, session: Session, *statuses: int, says: str = "") -> None:
        """Wait for the end of a ``session``, which must have one of the ``statuses`` and say ``says``."""
        status, output = session.end(), session.output
        self.said.append(output)
        self.complete = status == 0 and "\nmore:   " in output
        if status not in statuses:
            self.problems.append(f"status {status} in place of {' or '.join(map(str, statuses))}")
        if says not in output:
            self.problems.append(f"{says!r} was not said")
        for riddle in ("Traceback (most recent call last)", "Fatal Python error", "*** SIG"):
            if riddle in output:
                self.problems.append(f"{riddle!r} was printed")
        if left := session.left():
            self.problems.append(f"processes are left: {left}")

    def refused(self, says: str, *more: str, **environment: str) -> None:
        """Run the command, which must end with status 2 and one line that says ``says``."""
        session = self.start(*more, **environment)
        self.met(session, 2, says=says)
        lines = [line for line in session.output.splitlines() if line.startswith("error: ")]
        if len(lines) != 1:
            self.problems.append(f"{len(lines)} lines of error in place of one")

    def trials(self) -> list[FrozenTrial]:
        """The trials as they are in the storage; none if there is no study."""
        if self.storage:
            return storage.load_study(self.folder, self.storage).get_trials()
        path = self.folder / journal.FILE
        if not path.exists():
            return []
        opened = JournalStorage(journal.ReadOnly(path))
        names = [study.study_name for study in opened.get_all_studies() if not study.study_name.endswith("-finalists")]
        return optuna.load_study(study_name=names[0], storage=opened).get_trials() if names else []

    def checkpoints(self, first: int) -> list[Path]:
        """The checkpoints of the trials from the number ``first`` on."""
        found = self.folder.glob("trials/*/checkpoint_*/step_*.pt")
        return [path for path in found if int(path.parts[-3].rpartition("_")[2]) >= first]

    def snapshot(self) -> Snapshot:
        """The trials, and the scores of the final stage."""
        path, scores = self.folder / "evaluation.parquet", {}
        if path.exists():
            table = pq.read_table(path).select(["entry", "split", "image", "mIoU_fg"]).to_pylist()
            for row in table:
                scores.setdefault((row["entry"], row["split"]), {})[row["image"]] = row["mIoU_fg"]
        return Snapshot({trial.number: trial for trial in self.trials()}, scores)

    def compare(self, before: Snapshot, stored: Mapping[int, FrozenTrial]) -> tuple[int, int]:
        """Compare the study, which has ended, with what it was ``before`` the fault, and right after it (``stored``).

        Returns how many reports were lost, and how many were trained twice.
        """
        now, lost, repeated = self.snapshot(), 0, 0
        if list(now.trials) != list(range(self.wanted)):
            self.problems.append(f"trials {list(now.trials)} in place of {self.wanted}")
        for number, trial in now.trials.items():
            ended = before.trials.get(number)
            if ended is not None and ended.state.is_finished() and ended != trial:
                self.problems.append(f"trial {number} had ended and is another now")
            if trial.state.name != "COMPLETE" or list(trial.intermediate_values) != [1, 2, 3, 4]:
                self.problems.append(f"trial {number} is {trial.state.name} with {list(trial.intermediate_values)}")
            values = stored[number].intermediate_values if number in stored else {}
            lost += sum(trial.intermediate_values.get(report) != value for report, value in values.items())
            if number not in before.trials or not before.trials[number].state.is_finished():
                repeated += self._curve(number, trial)
        for key, images in before.scores.items():
            if key in now.scores and now.scores[key] != images:
                self.problems.append(f"the scores of {' on '.join(key)} are others now")
        best = json.loads((self.folder / "best.json").read_text())
        if now.trials[best["trial"]].value != best["value"] or (best["entry"], "test") not in now.scores:
            self.problems.append(f"best.json says {best['value']} of trial {best['trial']}")
        return lost, repeated

    def _curve(self, number: int, trial: FrozenTrial) -> int:
        """Look at the curve that TensorBoard shows; returns how many of its points were written twice."""
        folder = StudyFolder(self.folder).trial(number)
        shown = EventAccumulator(str(folder), size_guidance={"scalars": 0})
        shown.Reload()
        points = [(event.step, round(event.value, 5)) for event in shown.Scalars(CURVE)]
        wanted = list(zip(STEPS, (round(v, 5) for v in trial.intermediate_values.values()), strict=False))
        if [step for step, _ in points] != STEPS:
            self.problems.append(f"the curve of trial {number} has steps {[step for step, _ in points]}")
        elif any(abs(a - b) > 1e-4 for (_, a), (_, b) in zip(points, wanted, strict=True)):
            self.problems.append(f"the curve of trial {number} shows {points}, the storage {wanted}")
        written: Counter[int] = Counter()
        for path in folder.glob("events.out.*"):
            alone = EventAccumulator(str(path), size_guidance={"scalars": 0})
            alone.Reload()
            if CURVE in alone.Tags()["scalars"]:
                written.update(event.step for event in alone.Scalars(CURVE))
        return sum(count - 1 for count in written.values())
