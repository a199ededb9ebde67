"""Trials on a real Ray: a worker that is killed, trials that diverge, actors that are reused, repeatability."""

import json
import os
import signal

import numpy as np
import pytest
import torch
from optuna.trial import TrialState
from ray import tune
from rich.console import Console

from data import convert, spec, store
from data.loader import Split
from study import presets
from study.config import StudyConfig
from study.scoring import baselines, evaluation, leaderboard
from study.search import storage
from study.search.searcher import StudySearcher
from study.search.stopping import StudyStopped
from study.search.tune import tune_study
from trainables import metrics
from trainables.training import Task, Training

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return convert.prepare(spec.parse("synthetic:plain-(32,32)"), cache=str(tmp_path_factory.mktemp("cache")))


class Watch(tune.Callback):
    """Collects what the driver sees."""

    def __init__(self):
        self.results = []

    def __getstate__(self):
        return {}

    def on_trial_result(self, iteration, trials, trial, result, **info):
        self.results.append((trial.config["number"], dict(result)))


class KillOnce(Watch):
    """Kills the worker of trial 0 after its second report."""

    def on_trial_result(self, iteration, trials, trial, result, **info):
        super().on_trial_result(iteration, trials, trial, result, **info)
        if [number for number, _ in self.results].count(0) == 3 and not getattr(self, "killed", False):
            self.killed = True
            os.kill(result["pid"], signal.SIGKILL)


def study(tmp_path, index, watch, **config):
    """Run a small study in this process and return its Optuna study."""
    asked = StudyConfig(
        **{
            "model": "slot_attention",
            "data": "synthetic:plain-(32,32)",
            "trials": 2,
            "steps": 20,
            "reports": 5,
            "pruner": "none",
            "validation_images": 20,
            "results": str(tmp_path),
            "name": "study",
            **config,
        }
    )
    resolved = presets.resolve(asked, has_gpu=False)
    resolved.folder.claim(resolved.identity, fresh=False)
    optuna_study = storage.open_study(asked, resolved.folder, resolved.identity)
    searcher = StudySearcher(optuna_study, resolved.folder, asked.trials, resolved.proposal(index.max_objects))
    tune_study(resolved, searcher, store.load(index, ["train", "val"]), lambda: 2, [watch])
    return optuna_study


def test_a_killed_worker_goes_on_from_its_checkpoint_and_ends_as_if_nothing_had_happened(tmp_path, index, ray_cluster):
    watch = KillOnce()
    killed = study(tmp_path / "a", index, watch).get_trials()
    assert watch.killed
    steps = [result["step"] for number, result in watch.results if number == 0]
    assert steps[:3] == [4, 8, 12] and steps[-1] == 20
    assert 4 not in steps[3:], "trial 0 began again from the start"
    quiet = Watch()
    undisturbed = study(tmp_path / "b", index, quiet).get_trials()
    assert [t.state for t in killed] == [TrialState.COMPLETE] * 2
    # Same seed, same machine: the interrupted trial and the undisturbed one agree to the last bit.
    assert killed[0].params == undisturbed[0].params
    assert killed[0].intermediate_values == undisturbed[0].intermediate_values
    pids = {result["pid"] for _, result in quiet.results}
    assert len(pids) <= 2, "actors were not reused"


def test_diverging_trials_are_failures_with_a_reason_and_five_stop_the_study(tmp_path, index, ray_cluster):
    watch = Watch()
    with pytest.raises(StudyStopped, match=r"all \d+ trials that have ended failed .* training loss is"):
        study(tmp_path, index, watch, trials=30, set={"lr": 1e18, "grad_clip": None})
    asked = StudyConfig(model="slot_attention", name="study", results=str(tmp_path))
    trials = storage.open_study(asked, presets.resolve(asked, has_gpu=False).folder, {}).get_trials()
    failed = [trial for trial in trials if trial.state == TrialState.FAIL]
    assert 5 <= len(failed) < 30
    assert all("loss is" in trial.user_attrs["reason"] for trial in failed)


def test_two_trials_with_the_same_seed_agree(index):
    tables = [index.read(shard) for shard in index.shards("val")]
    task = Task(model="slot_attention", image_size=32, steps=6, reports=2, seed=3, metric="mIoU_fg")
    hyperparameters = presets.preset_values("slot_attention", "tiny") | {"steps": 6}

    def weights(number):
        split = Split(tables)
        training = Training(task, hyperparameters, number, split, torch.device("cpu"))
        training.report(split)
        return np.concatenate([p.detach().numpy().ravel() for p in training.model.parameters()])

    assert np.array_equal(weights(1), weights(1))
    assert not np.array_equal(weights(1), weights(2))


def test_the_final_stage_computes_nothing_twice_and_everything_that_changed(tmp_path, index, ray_cluster):
    asked = StudyConfig(model="slot_attention", data=index.spec, name="study", results=str(tmp_path), seed=3)
    resolved = presets.resolve(asked, has_gpu=False)
    resolved.folder.path.mkdir()
    resolved.folder.write(config=resolved.identity)
    few = [
        evaluation.Entry("baseline_background", None, "background"),
        evaluation.Entry("baseline_grid_4x4", None, "grid_4x4"),
    ]

    def score(entries, split):
        splits = {"test": (index, split)}
        return evaluation.evaluate_study(resolved, entries, splits, 5, Console(quiet=True))

    written = resolved.folder.path / "evaluation.parquet"
    assert score(few[:1], "test").num_rows == 400
    first = written.stat().st_mtime_ns
    assert score(few[:1], "test").num_rows == 400
    assert written.stat().st_mtime_ns == first
    both = score(few, "test")
    assert set(both["entry"].to_pylist()) == {"baseline_background", "baseline_grid_4x4"} and both.num_rows == 800
    other = score(few, "outd")  # other images under the same name: the old scores are worth nothing
    assert other.num_rows == 800 and set(other["source"].to_pylist()).isdisjoint(both["source"].to_pylist())


def test_the_final_stage_diagnoses_what_it_scores(tmp_path, index, ray_cluster):
    asked = StudyConfig(model="slot_attention", data=index.spec, name="study", results=str(tmp_path), seed=3)
    resolved = presets.resolve(asked, has_gpu=False)
    resolved.folder.path.mkdir()
    resolved.folder.write(config=resolved.identity)
    grid = evaluation.choose_grid(resolved, store.load(index, ["val"])["val"])
    written = json.loads((resolved.folder.path / "study.json").read_text())
    assert written["best_grid"] == grid.removeprefix("grid_")
    images, labels = Split([index.read(shard) for shard in index.shards("val")]).gather(np.arange(400))
    scores = {name: mIoU_fg(predict(images, 5, 0), labels) for name, predict in baselines.GRIDS.items()}
    assert grid == max(scores, key=lambda name: scores[name])

    untrained = evaluation.entries(resolved.folder, [], grid)
    table = evaluation.evaluate_study(resolved, untrained, {"test": (index, "val")}, 5, Console(quiet=True))
    rows = {row.entry: row for row in leaderboard.leaderboard(table, [])}
    verdicts = {name: row.diagnosis.verdict for name, row in rows.items() if row.diagnosis}
    tiles = dict.fromkeys(("grid 4x4", "grid best"), "tiles the image")
    assert verdicts == tiles | {"background": "one slot takes all", "kmeans": "groups colours"}
    assert rows["grid best"].means["mIoU_fg"] == pytest.approx(scores[grid])
    assert rows["kmeans"].figures["seg_kmeans"] == 1
    expected = mIoU_fg(baselines.kmeans(images, 5, 3), labels)
    assert rows["kmeans"].means["mIoU_fg"] == pytest.approx(expected)
    for metric in leaderboard.METRICS:
        assert np.isfinite(table[metric]).all(), metric


def mIoU_fg(prediction, labels):
    predicted, num_slots, _ = prediction
    return metrics.score_labels(predicted, labels, num_slots)["mIoU_fg"].mean()
