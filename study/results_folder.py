"""The folder of a study: its identity (``study.json``), its lock, and where everything lies.

results/<study>/  study.json  optuna.journal  trials/trial_0007/{events.out.tfevents.*,checkpoint_*}
                  finalists/trials/trial_0002/{events.out.tfevents.*,checkpoint_*}  finalists.json
                  trials.parquet  evaluation.parquet  best.json  report.html  best/<model>.safetensors
                  optuna.journal.cut-1 (a torn end of the journal)  lost/ (trials whose records are lost)
results/.<study>.before-fresh/  the study that --fresh replaces, until the new one has its first report
"""

import contextlib
import fcntl
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from data import atomic, places, plugins
from study.search.storage_url import redacted

ROOT = Path(__file__).resolve().parents[1]
"""The checkout."""

PACKAGES = ("data", "search_spaces", "study", "trainables")
"""The folders of the checkout with our code: a job sends them, and they must be the same on all nodes."""

LOST = "lost"
"""The folder below a study's for folders of trials whose records are lost."""

SCHEMA = {
    **dict.fromkeys(("config", "study", "data", "base", "ranges", "timing", "curve", "added"), dict),
    **dict.fromkeys(("sessions", "from", "replaces", "damage"), list),
}
"""The kinds of the entries of study.json that the program looks into."""

DISTRIBUTIONS = ("clevrtune", "ray", "torch", "numpy", "optuna", "pyarrow")
"""What results depend on: their versions are recorded."""

_LOCKS: list[int] = []
"""Descriptors of the locks that this process holds."""


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

    @property
    def aside(self) -> Path:
        """Where the study before ``--fresh`` lies until the new one has its first trial."""
        real = self.path.resolve()
        return real.with_name(f".{real.name}.before-fresh")

    def read(self) -> dict[str, Any] | None:
        """The contents of study.json, or None for a new study. Raises ValueError if it is damaged."""
        found = self._load()
        if found is not None:
            wrong = [key for key, kind in SCHEMA.items() if not isinstance(found.get(key) or kind(), kind)]
            if wrong or not found.get("config"):
                raise self._damaged(f"{' and '.join(wrong)} cannot be read" if wrong else "it has no config")
        return found

    def _load(self) -> dict[str, Any] | None:
        try:
            found = json.loads((self.path / "study.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise self._damaged(getattr(error, "msg", "no text")) from error
        if not isinstance(found, dict):
            raise self._damaged("no mapping")
        return found

    def _damaged(self, why: str) -> ValueError:
        return ValueError(
            f"{self.path / 'study.json'} is damaged ({why}); restore it, or delete it: the study's command writes it "
            "anew from the Optuna storage; or start over with --fresh"
        )

    def write(self, **entries: Any) -> None:
        """Add ``entries`` to study.json, replacing the file in one step."""
        write_json(self.path / "study.json", {**(self._load() or {}), **entries})

    def check_identity(self, identity: dict[str, Any]) -> None:
        """Raise ValueError if the folder holds a study of another identity."""
        stored = self.read()
        if stored is not None:
            if "ranges" not in stored and stored["config"].get("pruner") == "asha":
                stored["config"]["pruner"] = "halving"  # its name before trials could be promoted
            if stored["config"].get("storage"):  # earlier versions recorded its password
                stored["config"]["storage"] = redacted(stored["config"]["storage"])
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
        sessions = [*(self._load() or {}).get("timing", {}).get("sessions", []), session]
        slots = sum(s["wall_s"] * s["at_a_time"] for s in sessions)
        self.write(timing={"sessions": sessions, "busy_share": sum(s["busy_s"] for s in sessions) / slots})

    def claim(self, identity: dict[str, Any], *, fresh: bool) -> list[Path]:
        """Lock this folder for a study of ``identity``, until :func:`release_locks`; returns the folders that it made.

        With ``fresh`` it may hold a study of another identity, for :meth:`set_aside`. A study that was set aside for
        one that never began comes back. Raises ValueError, and leaves everything as it was, if the folder cannot be
        written, holds another study, or is locked by another process.
        """
        made = [path for path in (*reversed(self.path.parents), self.path, self.trials) if not path.exists()]
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock()
            if self.aside.is_dir() and not (self.path / "study.json").exists() and not self._has_checkpoints():
                self.bring_back()
        except OSError as error:
            self.leave(made)
            raise ValueError(
                f"results folder {self.path} cannot be written ({error.strerror}); choose another --results"
            ) from error
        if not fresh:
            self.check_identity(identity)
        self.trials.mkdir(exist_ok=True)
        return made

    def leave(self, made: Sequence[Path]) -> None:
        """Remove the folders that :meth:`claim` has ``made``, if nothing was written to them."""
        if made and self.path in made and {entry.name for entry in _entries(self.path)} <= {".lock", self.trials.name}:
            with contextlib.suppress(OSError):
                self.trials.rmdir()
                (self.path / ".lock").unlink()
        for path in reversed(made):
            with contextlib.suppress(OSError):
                path.rmdir()

    def _has_checkpoints(self) -> bool:
        return any(self.trials.glob("*/*/step_*.pt"))

    def _lock(self) -> None:
        """Lock this folder. The kernel releases the lock when the process ends, even after kill -9."""
        path = self.path / ".lock"
        while True:
            lock = os.open(path, os.O_RDWR | os.O_CREAT)
            if any(os.path.samestat(os.fstat(lock), os.fstat(held)) for held in _LOCKS):
                os.close(lock)
                return
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                os.close(lock)
                raise ValueError(
                    f"study {self.name} is being run by another process; wait for it or choose another --name"
                ) from error
            except OSError:
                return  # a network file system without locks: go on without one
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(lock), os.stat(path)):
                    _LOCKS.append(lock)
                    return
            os.close(lock)  # another process has just left this folder, and removed the file

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

    def set_aside(self) -> None:
        """Move the study in this folder to :attr:`aside` and begin with an empty folder, which is locked.

        What is there already is kept instead of a study that never had a trial.
        """
        real = self.path.resolve()
        if self.aside.is_dir() and not self._has_checkpoints():
            shutil.rmtree(real)
        else:
            self.drop_aside()
            os.rename(real, self.aside)
        real.mkdir()
        self._lock()
        self.trials.mkdir()

    def bring_back(self) -> None:
        """Undo :meth:`set_aside`: what was written since is removed, study.json first."""
        real = self.path.resolve()
        (real / "study.json").unlink(missing_ok=True)
        shutil.rmtree(real)
        os.rename(self.aside, real)
        self._lock()

    def put_away(self, count: int) -> list[str]:
        """Move the folders of trials with numbers from ``count`` on to :data:`LOST`; returns their names."""
        moved = []
        for path in sorted(self.trials.glob("trial_*")):
            number = path.name.removeprefix("trial_")
            if number.isdecimal() and int(number) >= count:
                (self.path / LOST).mkdir(exist_ok=True)
                taken = len(list((self.path / LOST).glob(f"{path.name}*")))
                path.rename(self.path / LOST / (f"{path.name}-{taken + 1}" if taken else path.name))
                moved.append(path.name)
        return moved

    def drop_aside(self) -> None:
        """Remove what was set aside."""
        if self.aside.is_dir():
            shutil.rmtree(self.aside)


def release_locks() -> None:
    """Give back the locks of all folders that this process has claimed: another one may run these studies now."""
    while _LOCKS:
        lock = _LOCKS.pop()
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_UN)  # closing is not enough where a forked process has the descriptor, too
        os.close(lock)


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def read_record(folder: Path, *needed: str) -> dict[str, Any]:
    """The contents of ``folder``/study.json, whose config has ``needed``.

    Raises ValueError if it is missing or damaged.
    """
    record = StudyFolder(use_its_plugins(folder)).read() if folder.is_dir() else None
    if record is None:
        raise ValueError(f"{folder} holds no study.json; give the folder of a study below results/")
    missing = [key for key in needed if record["config"].get(key) is None]
    if missing:
        raise ValueError(
            f"{folder / 'study.json'} is damaged (its config has no {' and no '.join(missing)}); restore it"
        )
    return record


def use_its_plugins(folder: Path) -> Path:
    """``folder``, a study's or its ``best/``, after the models and metrics that it had by ``--plugins`` are found.

    What is gone by now is met, and named, only where it is needed. Raises ValueError for plugins within the results
    folder: it may come from elsewhere, and brings no code to run.
    """
    for path in (folder, folder.parent):
        if (path / "study.json").is_file():
            named = (StudyFolder(path)._load() or {}).get("plugins")
            travelled = named == os.environ.get(plugins.SENT_FROM)  # with this job, whose files are among ours
            if isinstance(named, str) and not travelled and Path(named).is_dir() and plugins.files(Path(named)):
                if Path(named).resolve().is_relative_to(path.resolve()):
                    raise ValueError(f"{path}: its plugins lie within it; copy them elsewhere, and name that folder")
                plugins.use(named)
            break
    return folder


def sessions(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """When a study whose study.json says ``record`` was run, by which command, versions and git revision."""
    first = {key: record[key] for key in ("command", "versions", "git") if key in record}  # of an earlier version
    return record.get("sessions") or ([first] if first else [])


def this_session() -> dict[str, Any]:
    """This process, as study.json has it."""
    program = Path(sys.argv[0]).name
    typed = {"clevrtune": ["clevrtune"], "run.py": ["python", "study/run.py"]}.get(program, ["python", program])
    in_notebook = program == "ipykernel_launcher.py"
    return {
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": "Study.run in a notebook"
        if in_notebook
        else places.shown(redacted(shlex.join([*typed, *sys.argv[1:]]))),
        "versions": versions(),
        "git": git_revision(),
    }


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
        partial.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


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
