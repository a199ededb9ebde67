"""A storage that fails while a study runs: a database held by another program, a disk that is full."""

import sqlite3
import subprocess
import sys
import threading
import traceback
from pathlib import Path

import optuna
import pytest
from ray.tune import TuneError

from study.config import StudyConfig
from study.results_folder import ROOT, StudyFolder
from study.search import journal, storage


def begun(tmp_path: Path) -> tuple[optuna.Study, Path]:
    """A study in SQLite, and its file."""
    file = tmp_path / "studies.db"
    asked = StudyConfig(model="slot_attention", storage=f"sqlite:///{file}")
    return storage.open_study(asked, StudyFolder(tmp_path / "study"), {"seed": 0}), file


def test_sqlite_that_another_program_holds_for_longer_than_its_own_patience_is_waited_for(tmp_path: Path) -> None:
    study, file = begun(tmp_path)
    holder = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    release = threading.Timer(7, lambda: holder.execute("COMMIT"))
    release.start()
    study.set_user_attr("a", 1)
    release.join()
    assert study.user_attrs["a"] == 1


def test_sqlite_that_stays_locked_ends_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "LOCKED_SECONDS", 0.1)
    study, file = begun(tmp_path)
    holder = sqlite3.connect(file, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(optuna.exceptions.StorageInternalError) as caught:
        study.set_user_attr("a", 1)
    line = (
        "the database of --storage cannot be written: database is locked; what it holds is kept, and the same command"
    )
    assert (storage.failure(caught.value) or "").startswith(line)
    as_tune_says_it = TuneError("".join(traceback.format_exception(caught.value)))
    assert storage.failure(as_tune_says_it) == storage.failure(caught.value)
    holder.execute("COMMIT")
    study.set_user_attr("a", 1)


FULL = """
import resource, sys
from pathlib import Path
from study.search import storage
from tests.study.search.test_journal import opened
path = Path(sys.argv[1])
study = opened(path)
size = path.stat().st_size + 50
resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
try:
    study.ask()
except OSError as error:
    print(storage.failure(error))
"""


def test_a_record_that_does_not_fit_on_the_disk_is_said_and_mended(tmp_path: Path) -> None:
    path = tmp_path / journal.FILE
    done = subprocess.run([sys.executable, "-c", FULL, path], cwd=ROOT, capture_output=True, text=True)
    said = "the journal cannot be written: File too large; what it holds is kept, and the same command goes on\n"
    assert done.stdout == said, done.stderr
    assert not path.read_bytes().endswith(b"\n"), "torn"
    assert journal.mend(path) is not None and journal.mend(path) is None


def test_other_errors_are_not_the_storages() -> None:
    assert storage.failure(RuntimeError("no")) is None and storage.failure(OSError(28, "No space left")) is None
