"""Two goals by the real command: the driver is killed, the same command goes on, and the report has the front."""

import json
import os
import signal
import subprocess
import sys
import time

import pyarrow.parquet as pq
import pytest

from study.results_folder import ROOT
from study.scoring import ranking
from tests import few_images
from tests.study.display.page_reader import Page
from tests.study.test_run import SMALL, events, stored

pytestmark = pytest.mark.ray

TRIALS = 5


def command(place, *more):
    asked = {
        "--model": "slot_attention",
        "--metric": "mIoU_fg,seconds",
        "--trials": TRIALS,
        "--steps": 10,
        "--finalists": 1,
        "--seeds": 2,
        "--sampler": "nsga2",
        "--results": place / "results",
        "--cache": place / "cache",
        "--name": "small",
    }
    flags = [str(word) for pair in asked.items() for word in pair]
    return [sys.executable, str(ROOT / "study" / "run.py"), *SMALL, *few_images.flags(place / "mine"), *flags, *more]


def test_a_study_with_two_goals_is_killed_continued_and_reported_with_its_front(tmp_path):
    folder = tmp_path / "results" / "small"
    journal = folder / "optuna.journal"
    with (tmp_path / "printed.txt").open("w") as printed:
        driver = subprocess.Popen(command(tmp_path), start_new_session=True, stdout=printed, stderr=printed)
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and driver.poll() is None:
        if journal.exists() and journal.stat().st_size:
            states = {(trial.state.name, trial.last_step is not None) for trial in stored(folder)}
            if states >= {("COMPLETE", True), ("RUNNING", True)}:
                break
        time.sleep(0.05)
    assert driver.poll() is None, (tmp_path / "printed.txt").read_text()
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    before = stored(folder)
    begun = [t for t in before if t.state.name == "RUNNING" and t.last_step is not None]

    again = subprocess.run(command(tmp_path), capture_output=True, text=True, timeout=600)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "two goals, mIoU_fg and seconds: all trials run to the end (--pruner none)" in again.stdout
    assert "on the Pareto front" in again.stdout and "Pareto front, the best mIoU_fg first: trials " in again.stdout
    trials = stored(folder)
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * TRIALS, "none was stopped early"
    for trial in trials:
        path = folder / "trials" / f"trial_{trial.number:04d}"
        assert list(trial.intermediate_values) == [1, 2, 3, 4, 5]
        assert trial.values[0] == trial.intermediate_values[5]
        spent = sum(event.value for event in events(path).Scalars("time/train_s"))
        if trial.number not in {one.number for one in before if one.state.name == "RUNNING"}:
            assert trial.values[1] == pytest.approx(spent, rel=1e-4), "TensorBoard shows the same seconds"
    for then, now in zip(before, trials, strict=False):
        # a kill may meet a trial between two of its parameters
        assert now.params.items() >= then.params.items()
        assert now.intermediate_values.items() >= then.intermediate_values.items()
        if then.state.name == "COMPLETE":
            assert now.values == then.values
    for then in begun:
        seconds, before_kill = trials[then.number].values[1], then.user_attrs["progress"]["second_goal"]
        # a kill may meet a trial between its last report and its end
        assert seconds == before_kill if then.user_attrs["progress"]["judged"] == 5 else seconds > before_kill

    table = pq.read_table(folder / "trials.parquet").to_pylist()
    assert {row["number"]: [row["value"], row["second_value"]] for row in table} == {t.number: t.values for t in trials}
    beaten = [any(b.values[0] > a.values[0] and b.values[1] < a.values[1] for b in trials) for a in trials]
    front = sorted((t for t, worse in zip(trials, beaten, strict=True) if not worse), key=lambda t: -t.values[0])
    html = (folder / "report.html").read_text()
    page = Page(html)
    assert "Pareto front" in page.headings and "The front among all complete trials" in page.headings
    (shown,) = [cells for cells in page.tables if cells[:2] == ["mIoU_fg", "seconds"]]
    names = [cell for cell in shown if cell.startswith(("trial ", "base"))]
    assert names[: len(front)] == [f"trial {t.number}" if t.number else "base" for t in front]
    assert "--metric mIoU_fg,seconds" in html
    chosen = ranking.read(folder)
    assert {one.trial for one in chosen} == {0, next(t.number for t in front if t.number)} or front[0].number == 0
    assert json.loads((folder / "best.json").read_text())["metric"] == "mIoU_fg"
    assert all(trial.values is not None and len(trial.values) == 1 for trial in stored(folder, "-finalists"))

    other = subprocess.run(command(tmp_path, "--pruner", "asha"), capture_output=True, text=True, timeout=60)
    assert other.returncode == 2 and other.stderr.count("\n") == 1 and "leave --pruner out" in other.stderr
