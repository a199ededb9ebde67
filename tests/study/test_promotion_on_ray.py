"""Promotion by the real command: a driver is killed while trials pause at three rungs, and continued."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from study.results_folder import ROOT
from tests.study.test_run import events, stored
from trainables import checkpoint

pytestmark = pytest.mark.ray

TRIALS, REPORTS = 20, 27


def command(place):
    asked = {
        "--model": "slot_attention",
        "--data": "synthetic:plain-(32,32)",
        "--steps": REPORTS,
        "--reports": REPORTS,
        "--validation-images": 20,
        "--trials": TRIALS,
        "--finalists": 2,
        "--seeds": 1,
        "--sampler": "random",
        "--set": "num_slots=3",
        "--results": place / "results",
        "--cache": place / "cache",
        "--name": "small",
    }
    flags = [str(word) for pair in asked.items() for word in pair]
    return [sys.executable, str(ROOT / "study" / "run.py"), *flags]


def pausing(trials):
    """Number -> rung of the trials that pause."""
    running = [trial for trial in trials if trial.state.name == "RUNNING" and trial.last_step in (1, 3, 9)]
    return {t.number: t.last_step for t in running if t.user_attrs.get("promoted", 0) < t.last_step}


def test_a_driver_killed_while_trials_pause_at_three_rungs_is_continued_by_the_same_command(tmp_path):
    folder = tmp_path / "results" / "small"
    journal = folder / "optuna.journal"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    driver = subprocess.Popen(command(tmp_path), start_new_session=True, **quiet)
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and driver.poll() is None:
        if journal.exists() and journal.stat().st_size and set(pausing(stored(folder)).values()) == {1, 3, 9}:
            break
        time.sleep(0.2)
    assert driver.poll() is None, "the study ended before trials paused at three rungs"
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    before = stored(folder)
    paused = pausing(before)
    assert set(paused.values()) == {1, 3, 9}
    files = {trial.number: set((folder / "trials").glob(f"trial_{trial.number:04d}/events.out.*")) for trial in before}
    steps = {}
    for number, rung in paused.items():
        path = folder / "trials" / f"trial_{number:04d}"
        state = checkpoint.newest(path)
        if state is not None and state["step"] == rung:  # all but perhaps the last, which was being saved
            steps[number] = rung
    assert len(steps) >= len(paused) - 2
    settled = [n for n in steps if len(list((folder / "trials" / f"trial_{n:04d}").glob("*/step_*.pt"))) == 1]
    assert len(settled) >= len(paused) - 2, "a paused trial keeps one checkpoint"

    again = subprocess.run(command(tmp_path), capture_output=True, text=True, timeout=600)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "paused" in again.stdout
    trials = stored(folder)
    states = [trial.state.name for trial in trials]
    assert len(trials) == TRIALS and states.count("COMPLETE") >= 2 and set(states) == {"COMPLETE", "PRUNED"}
    assert {path.name for path in (folder / "trials").iterdir()} == {f"trial_{i:04d}" for i in range(TRIALS)}
    for then, now in zip(before, trials, strict=False):
        assert now.params.items() >= then.params.items()  # the kill may come between two of a new trial's parameters
        assert now.params == then.params or not then.intermediate_values
        curve = [now.intermediate_values[report] for report in then.intermediate_values]
        assert curve == list(then.intermediate_values.values())
    for trial in trials:
        path = folder / "trials" / f"trial_{trial.number:04d}"
        assert list(trial.intermediate_values) == list(range(1, trial.last_step + 1))
        assert len(list(path.glob("*/step_*.pt"))) == (trial.state.name == "COMPLETE")
        new = set(path.glob("events.out.*")) - files.get(trial.number, set())
        if trial.number in steps and new:
            first = min(e.step for file in new for e in events(file).Scalars("val/mIoU_fg"))
            assert first > steps[trial.number], f"trial {trial.number} began again before its checkpoint"
    assert any(trials[number].last_step > rung for number, rung in paused.items()), "no paused trial was promoted"
    assert json.loads((folder / "best.json").read_text())["trial"] in range(TRIALS)
