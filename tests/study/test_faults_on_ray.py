"""One study by the real command, and what happens to its files between two runs of it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage

from study.results_folder import ROOT, StudyFolder
from study.search import journal

pytestmark = pytest.mark.ray

SMALL = ["--data", "synthetic:plain-(32,32)", "--steps", "8", "--reports", "4", "--validation-images", "20"]
SMALL += ["--pruner", "none", "--seeds", "1", "--finalists", "1", "--no-curve"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where this module's studies and shards go."""
    return tmp_path_factory.mktemp("faults")


def run(place: Path, *more: str) -> subprocess.CompletedProcess[str]:
    where = ["--results", str(place / "results"), "--cache", str(place / "cache"), "--name", "small"]
    line = [sys.executable, str(ROOT / "study" / "run.py"), "--model", "slot_attention", *SMALL, *where, *more]
    return subprocess.run(line, capture_output=True, text=True, cwd=place, timeout=600)


def trials(folder: Path) -> list[optuna.trial.FrozenTrial]:
    reading = JournalStorage(journal.ReadOnly(folder / journal.FILE))
    return optuna.load_study(study_name="small", storage=reading).get_trials()


@pytest.fixture(scope="module")
def finished(place):
    """A study of two trials, not to be changed."""
    done = run(place, "--trials", "2", "--keep-checkpoints", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    return (place / "results" / "small").rename(place / "finished")


@pytest.fixture
def folder(place, finished):
    """A copy of it, where the command looks for it."""
    copy = place / "results" / "small"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(finished, copy)
    return copy


def flip(path: Path) -> None:
    """Flip a bit of the weights in the checkpoint ``path``."""
    flipped = bytearray(path.read_bytes())
    flipped[flipped.index(b"data/0") + 400] ^= 8
    path.write_bytes(flipped)


def test_a_study_survives_what_happens_to_its_files(place, folder):
    """A torn record, flipped bits, a lost study.json and a new name between two runs."""
    before = {trial.number: (trial.params, trial.value) for trial in trials(folder)}
    best = max(before, key=lambda number: before[number][1])
    other = 1 - best
    for damaged in (f"trial_{best:04d}/*/step_*.pt", f"trial_{other:04d}/*/step_000000008.pt"):
        for kept in (folder / "trials").glob(damaged):
            flip(kept)
    path = folder / journal.FILE
    path.write_bytes(path.read_bytes() + b'{"op_code":4,"worker_id":"' + b"\0" * 512)
    (folder / "study.json").unlink()
    renamed = folder.rename(place / "results" / "renamed")
    refused = run(place, "--name", "renamed", "--trials", "3", "--steps", "4")
    assert refused.returncode == 2 and "steps is 8 there and 4 here" in refused.stderr, refused.stderr
    done = run(place, "--name", "renamed", "--trials", "3", "--finalists", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the last 538 bytes are no whole record" in done.stdout and "kept in optuna.journal.cut-1" in done.stdout
    assert "study.json was missing; it is written anew" in done.stdout
    lost = f"trials/trial_{best:04d} has no checkpoint that can be read: it is not scored"
    assert f"note: {lost}" in done.stdout and lost in (renamed / "report.html").read_text(encoding="utf-8")
    older = f"trials/trial_{other:04d}: step_000000008.pt cannot be read: the one of step 6 is scored"
    assert f"note: {older}" in done.stdout
    assert sorted(json.loads((renamed / "study.json").read_text())["damage"]) == sorted([lost, older])
    assert f"trial_{best:04d}" not in (renamed / "finalists.json").read_text(encoding="utf-8")
    ended = trials(renamed)
    assert [trial.state.name for trial in ended] == ["COMPLETE"] * 3 and {t.last_step for t in ended} == {4}
    assert {number: (ended[number].params, ended[number].value) for number in before} == before
    assert json.loads((renamed / "study.json").read_text())["sessions"][-1]["command"].endswith("--finalists 3")

    copy = shutil.copytree(renamed, place / "copy")
    report = subprocess.run([sys.executable, str(ROOT / "study" / "report.py"), copy], capture_output=True, text=True)
    assert report.returncode == 0, report.stderr


def test_starting_over_keeps_the_old_study_until_the_new_one_has_a_trial(place, folder):
    folder = StudyFolder(folder)
    diverges = ["--set", "lr=1e18", "--set", "grad_clip=none"]
    stopped = run(place, "--fresh", "--trials", "9", *diverges)
    assert stopped.returncode == 1 and "failed before their first report" in stopped.stderr, stopped.stderr
    assert f"the study before --fresh is kept in {folder.aside}" in stopped.stdout
    assert [trial.state.name for trial in trials(folder.aside)] == ["COMPLETE"] * 2
    refused = run(place, "--fresh", "--trials", "1", "--storage", "nosuch://x")
    assert refused.returncode == 2 and "nosuch://x cannot be opened" in refused.stderr
    assert folder.aside.exists()
    done = run(place, "--fresh", "--trials", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not folder.aside.exists() and len(trials(folder.path)) == 1
