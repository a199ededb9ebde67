"""Memory that other programs take, and workers that hang, on a real Ray: what becomes of the trials."""

import io
import os
import re
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager

import pyarrow.parquet as pq
import pytest
import ray
from optuna.trial import TrialState
from rich.console import Console

from data import machine, ray_session, store
from study import presets
from study.cluster import ray_runtime
from study.config import StudyConfig
from study.results_folder import ROOT
from study.scoring import attempts, evaluation
from study.search import retries, storage
from study.search.searcher import StudySearcher
from study.search.tune import tune_study
from tests.study.test_study_on_ray import Watch, index

__all__ = ["index"]  # a fixture
pytestmark = pytest.mark.ray

EATER = """
import time
from data import machine, memory_monitor
taken = []
while True:
    while memory_monitor.room() > -300 * 2**20:
        taken.append(bytearray(b"x") * (64 * 2**20))
    print("full", flush=True)
    time.sleep(0.1)
"""
"""Another program, which takes what is left below the limit of Ray's memory monitor, and a little more."""


@pytest.fixture(scope="module")
def narrow(index):
    """A Ray of two CPUs whose memory monitor acts when a fifth more of the memory is in use than now."""
    ray.shutdown()
    limit = 1.2 - machine.free_memory() / machine.total_memory()
    if limit > 0.97:
        pytest.skip("this machine is short of memory")
    with pytest.MonkeyPatch.context() as patch:
        narrowed = {"RAY_memory_usage_threshold": f"{limit:.3f}", "RAY_memory_monitor_refresh_ms": "250"}
        for key, value in {**ray_runtime.QUIET, **narrowed, "RAY_AUTH_MODE": "disabled"}.items():
            patch.setenv(key, value)
        ray_session.connect(None, num_cpus=2, object_store_memory=2**28)
        yield store.load(index, ["train", "val"])
        ray.shutdown()


@contextmanager
def eater():
    process = subprocess.Popen([sys.executable, "-c", EATER], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def run(tmp_path, shards, watch, **asked):
    """Run a small study in this process; its trials, and the lines for people."""
    same = {"model": "slot_attention", "data": "synthetic:plain-(32,32)", "pruner": "none", "validation_images": 20}
    config = StudyConfig(**same, steps=20, reports=5, results=str(tmp_path), name="study", **asked)
    resolved = presets.resolve(config, has_gpu=False)
    resolved.folder.claim(resolved.identity, fresh=False)
    study = storage.open_study(config, resolved.folder, resolved.identity)
    searcher = StudySearcher(study, resolved.folder, config.trials, resolved.proposal(6))
    tune_study(resolved, searcher, shards, lambda: 2, [watch])
    return study.get_trials(), searcher.retries.take_notes()


class Squeeze(Watch):
    """Another program takes the memory at the second report, and gives it back after two kills."""

    def __init__(self, process_of):
        super().__init__()
        self.process_of, self.process, self.kills = process_of, None, 0

    def on_trial_result(self, iteration, trials, trial, result, **info):
        super().on_trial_result(iteration, trials, trial, result, **info)
        if len(self.results) == 2:
            self.process = self.process_of()
            self.process.stdout.readline()

    def on_trial_complete(self, iteration, trials, trial, **info):
        if trial.status == trial.PENDING:  # its worker is gone, and it rests
            self.kills += 1
            if self.kills == 2:
                self.process.kill()


def test_a_trial_outlives_a_time_without_memory(tmp_path, narrow, monkeypatch):
    monkeypatch.setattr(retries, "MEMORY_PAUSES", (1.0,) * 60)
    with ExitStack() as stack:
        watch = Squeeze(lambda: stack.enter_context(eater()))
        (trial,), notes = run(tmp_path, narrow, watch, trials=1)
    assert watch.kills >= 2 and len(notes) == watch.kills
    assert all("ran out of memory (" in note and note.endswith("; it goes on in 1 s") for note in notes), notes
    assert trial.state == TrialState.COMPLETE and "deaths" not in trial.user_attrs
    steps = [result["step"] for _, result in watch.results]
    assert steps[-1] == 20 and 4 not in steps[1:], "it began again from the start"


def test_data_are_not_loaded_for_ever_where_memory_is_short(narrow, index, monkeypatch):
    monkeypatch.setattr(store, "_SHORT", (0.5, 0.5))
    with eater() as process:
        assert process.stdout.readline() == "full\n"
        with pytest.raises(
            ValueError, match=r"the node .*memory.*; end other programs, and type the same command"
        ) as told:
            store.load(index, ["train", "val"])
    assert "\n" not in str(told.value)
    assert store.load(index, ["val"])["val"], "with the memory back it loads"


def test_scoring_is_not_tried_for_ever_where_memory_is_short(tmp_path, narrow, index, monkeypatch):
    monkeypatch.setattr(attempts, "PAUSES", (0.1, 0.1))
    config = StudyConfig(model="slot_attention", data=index.spec, results=str(tmp_path), name="scored")
    resolved = presets.resolve(config, has_gpu=False)
    resolved.folder.claim(resolved.identity, fresh=False)
    resolved.folder.write(config=resolved.identity)
    grid = evaluation.Entry("baseline_grid_4x4", None, "grid_4x4")
    entries = [grid, evaluation.Entry("baseline_kmeans", None, "kmeans")]
    console = Console(record=True, file=io.StringIO(), width=200)
    path = resolved.folder.path / evaluation.EVALUATION

    def score(chosen):
        evaluation.evaluate_study(resolved, chosen, {"test": (index, "val")}, 5, console)
        return pq.read_table(path, columns=["entry", "image", "MSE"])

    before = score(entries[:1])
    load = store.load
    with ExitStack() as stack:

        def then_squeezed(*of, **options):
            loaded = load(*of, **options)
            stack.enter_context(eater()).stdout.readline()
            return loaded

        monkeypatch.setattr(store, "load", then_squeezed)
        with pytest.raises(
            ValueError, match=r"scoring failed 3 times: the node .* ran out of memory .*; what is"
        ) as told:
            score(entries)
    assert str(told.value).endswith("is kept: end other programs, and type the same command again")
    assert console.export_text().count("it begins again in 0.1 s") >= 2
    assert pq.read_table(path, columns=before.column_names).equals(before), "what was scored is kept"
    monkeypatch.setattr(store, "load", load)
    assert score(entries).num_rows == 2 * before.num_rows, "with the memory back it goes on"


class Freeze(Watch):
    """Stops the worker of trial 0 once, and that of trial 1 whenever it has reported."""

    def __init__(self):
        super().__init__()
        self.stopped = []

    def on_trial_save(self, iteration, trials, trial, **info):
        number, pid = trial.config["number"], trial.last_result["pid"]
        if number == 1 or not any(other == number for other, _ in self.stopped):
            self.stopped.append((number, pid))
            os.kill(pid, signal.SIGSTOP)


def test_a_trial_that_hangs_goes_on_once_with_a_new_worker(tmp_path, narrow):
    watch = Freeze()
    (once, always), notes = run(tmp_path, narrow, watch, trials=2, trial_timeout=0.2)
    # A worker that is stopped may have sent its next report already; on a busy machine one may die for another reason.
    assert len({pid for number, pid in watch.stopped if number == 1}) >= 2
    assert once.state == TrialState.COMPLETE and once.user_attrs["hangs"] == 1
    steps = [result["step"] for number, result in watch.results if number == 0]
    assert steps[-1] == 20 and steps.count(4) == 1, "it began again from the start"
    assert always.state == TrialState.FAIL
    silent = r"no report for 0\.\d minutes \(--trial-timeout\)"
    assert re.fullmatch(f"it hung 2 times: {silent}", always.user_attrs["reason"])
    # This Ray is narrow, and other programs may take the memory meanwhile.
    hung = sorted(note for note in notes if "ran out of memory" not in note)
    assert len(hung) == 2
    for number, note in enumerate(hung):
        assert re.fullmatch(f"{number}: {silent}; it goes on with a new worker", note)
