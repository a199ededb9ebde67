"""The folder of a study: its identity (``study.json``), its lock, and where everything lies.

results/<study>/  study.json  optuna.journal  trials/trial_0007/{events.out.tfevents.*,checkpoint_*}
                  finalists/trials/trial_0002/{events.out.tfevents.*,checkpoint_*}  finalists.json
                  trials.parquet  evaluation.parquet  best.json  report.html  best/<model>.safetensors
"""

import fcntl
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from data import atomic

ROOT = Path(__file__).resolve().parents[1]
"""The checkout."""

PACKAGES = ("data", "search_spaces", "study", "trainables")
"""The folders of the checkout with our code: a job sends them, and they must be the same on all nodes."""

DISTRIBUTIONS = ("clevrtune", "ray", "torch", "numpy", "optuna", "pyarrow")
"""What results depend on: their versions are recorded."""


@dataclass(frozen=True)
class StudyFolder:
    """Paths below the folder of one study."""

    path: Path

    @property
    def name(self) -> str:
        """The study's name, which is also its name in the Optuna storage."""
        return self.path.name

    @property
    def trials(self) -> Path:
        """The folder of the trials' folders."""
        return self.path / "trials"

    def trial(self, number: int) -> Path:
        """The folder of the trial with Optuna's ``number``: event files and checkpoints."""
        return self.trials / f"trial_{number:04d}"

    @property
    def finalists(self) -> "StudyFolder":
        """The folder of the trials that train the finalists anew."""
        return StudyFolder(self.path / "finalists")

    def read(self) -> dict[str, Any] | None:
        """The contents of study.json, or None for a new study. Raises ValueError if it is damaged."""
        try:
            found = json.loads((self.path / "study.json").read_text())
        except FileNotFoundError:
            return None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise self._damaged(getattr(error, "msg", "no text")) from error
        if not isinstance(found, dict):
            raise self._damaged("no mapping")
        return found

    def _damaged(self, why: str) -> ValueError:
        return ValueError(f"{self.path / 'study.json'} is damaged ({why}); restore it, or start over with --fresh")

    def write(self, **entries: Any) -> None:
        """Add ``entries`` to study.json, replacing the file in one step."""
        write_json(self.path / "study.json", {**(self.read() or {}), **entries})

    def check_identity(self, identity: dict[str, Any]) -> None:
        """Raise ValueError if the folder holds a study of another identity."""
        stored = self.read()
        if stored is not None:
            if "ranges" not in stored and stored["config"].get("pruner") == "asha":
                stored["config"]["pruner"] = "halving"  # its name before trials could be promoted
            refuse_other_identity(self.name, stored["config"], identity)

    def check_data(self, fingerprint: str) -> None:
        """Raise ValueError if the study began with images of another ``fingerprint``."""
        stored = (self.read() or {}).get("data", {}).get("fingerprint", fingerprint)
        if stored != fingerprint:
            raise ValueError(
                f"study {self.name} began with other images (fingerprint {stored}, now {fingerprint}); "
                "restore them, choose another --name, or start over with --fresh"
            )

    def add_session(self, wall_seconds: float, busy_seconds: float, at_a_time: float) -> None:
        """Record a tuning session: its time, its trials' time in training and validation, and mean trials at a time."""
        session = {"wall_s": wall_seconds, "busy_s": busy_seconds, "at_a_time": at_a_time}
        sessions = [*(self.read() or {}).get("timing", {}).get("sessions", []), session]
        slots = sum(s["wall_s"] * s["at_a_time"] for s in sessions)
        self.write(timing={"sessions": sessions, "busy_share": sum(s["busy_s"] for s in sessions) / slots})

    def claim(self, identity: dict[str, Any], *, fresh: bool) -> None:
        """Lock this folder for a study of ``identity`` until the process ends.

        With ``fresh`` it may hold a study of another identity, which :meth:`clear` will remove. Raises ValueError,
        and changes nothing, if the folder cannot be written, holds another study, or is locked by another process.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise ValueError(
                f"results folder {self.path} cannot be written ({error.strerror}); choose another --results"
            ) from error
        try:
            # Held until the process ends; the kernel releases it even after kill -9.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock)
            raise ValueError(
                f"study {self.name} is being run by another process; wait for it or choose another --name"
            ) from error
        except OSError:
            pass  # a network file system without locks: go on without one
        if not fresh:
            self.check_identity(identity)
        self.trials.mkdir(exist_ok=True)

    def is_running(self) -> bool:
        """Whether another process runs a study in this folder; False on a file system without locks."""
        try:
            lock = os.open(self.path / ".lock", os.O_RDONLY)
        except OSError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        finally:
            os.close(lock)
        return False

    def clear(self) -> None:
        """Remove the study in this folder; call it when nothing can refuse the new study any more."""
        for entry in self.path.iterdir():
            if entry.name != ".lock":
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        self.trials.mkdir()


def read_record(folder: Path) -> dict[str, Any]:
    """The contents of ``folder``/study.json. Raises ValueError if it is missing or damaged."""
    record = StudyFolder(folder).read() if folder.is_dir() else None
    if record is None:
        raise ValueError(f"{folder} holds no study.json; give the folder of a study below results/")
    return record


def refuse_other_identity(name: str, stored: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raise ValueError naming the keys in which ``wanted`` differs from the ``stored`` identity."""
    changed = [
        f"{key} is {stored.get(key)!r} there and {value!r} here"
        for key, value in wanted.items()
        if json.loads(json.dumps(value)) != stored.get(key)
    ]
    if changed:
        raise ValueError(
            f"study {name} exists with another configuration: {'; '.join(changed)}. "
            "Use the same values, another --name, or --fresh to start over"
        )


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` to ``path`` as JSON, in one step."""
    with atomic.replacing(path) as partial:
        partial.write_text(json.dumps(value, indent=2) + "\n")


def versions() -> dict[str, str]:
    """Versions of :data:`DISTRIBUTIONS`; 'not installed' where a Ray job runs from a checkout."""
    found = {}
    for name in DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def git_revision() -> str | None:
    """The checkout's commit, with ``+`` if there are uncommitted changes, or None outside git.

    A Ray job runs from a copy without ``.git``; study/submit.py passes the commit on.
    """
    if revision := os.environ.get("CLEVRTUNE_GIT_REVISION"):
        return revision
    try:
        run = subprocess.run(
            ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return run.stdout.strip() or None
