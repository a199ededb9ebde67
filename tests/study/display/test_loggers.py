"""``--log``: real runs of Weights & Biases (offline) and MLflow (SQLite), read back; skipped without the packages."""

import importlib.util
import json
import struct
from pathlib import Path
from typing import Any

import pytest

from study.config import StudyConfig
from study.display import loggers
from study.results_folder import StudyFolder

HYPERPARAMETERS = {"lr": 4e-4, "num_slots": 11, "optimizer": "adam", "grad_clip": None}


class Trial:
    """What the callbacks use of a Tune trial."""

    def __init__(self, number: int, folder: Path):
        self.config = {"hyperparameters": HYPERPARAMETERS, "number": number, "folder": str(folder)}
        self.trial_id = f"tune{id(self)}"
        self.local_path = str(folder)
        self.experiment_dir_name = "trials"

    def __str__(self) -> str:
        return f"trial_{self.config['number']:04d}"


@pytest.fixture
def study(tmp_path: Path) -> StudyFolder:
    folder = StudyFolder(tmp_path / "results" / "small")
    folder.trials.mkdir(parents=True)
    folder.write(study={"name": "small", "id": "abc123"}, config={"model": "space"})
    return folder


def report(callback: Any, trial: Trial, step: int, value: float) -> None:
    result = {"step": step, "report": step // 4, "objective": value, "train/loss": 10.0 - step, "lr": 1e-3}
    result |= {"training_iteration": 1, "pid": 7, "done": False, "passed_over": [], "val/mIoU_fg": value}
    callback.on_trial_result(0, [], trial, result)


def session(name: str, study: StudyFolder, trial: Trial, steps: list[int], ends: str | None) -> None:
    """A process that trains ``trial`` for ``steps``; it then has the state ``ends``, or the study is interrupted."""
    (callback,) = loggers.callbacks([name], study, study, lambda number: ends or "RUNNING")
    callback.setup()
    callback.on_trial_start(0, [], trial)
    for step in steps:
        report(callback, trial, step, step / 100)
    if ends is not None:
        callback.on_trial_complete(0, [], trial)
    callback.on_experiment_end([trial])


def test_mlflow_has_a_run_per_trial_with_the_numbers_of_each_report_once(study, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    session("mlflow", study, Trial(7, study.trials), [4, 8], "PAUSED")
    session("mlflow", study, Trial(7, study.trials), [12], None)
    session("mlflow", study, Trial(7, study.trials), [12, 16], "COMPLETE")
    session("mlflow", study, Trial(8, study.trials), [], "FAIL")

    client = mlflow.MlflowClient(f"sqlite:///{study.path.parent / 'mlflow.db'}")
    (experiment,) = [one for one in client.search_experiments() if one.name == "small"]
    runs = {run.data.tags["trial_name"]: run for run in client.search_runs([experiment.experiment_id])}
    assert {name: run.info.status for name, run in runs.items()} == {"trial_0007": "FINISHED", "trial_0008": "FAILED"}
    run = runs["trial_0007"]
    assert run.info.run_name == "small trial_0007" and run.data.tags["state"] == "complete"
    assert run.data.params == {key: str(value) for key, value in HYPERPARAMETERS.items()}
    for tag, value in (("objective", 0.16), ("val/mIoU_fg", 0.16), ("train/loss", -6.0), ("step", 16.0)):
        history = client.get_metric_history(run.info.run_id, tag)
        assert sorted(point.step for point in history) == [4, 8, 12, 16], tag
        assert max(history, key=lambda point: point.step).value == pytest.approx(value)
    assert "pid" not in run.data.metrics


@pytest.mark.ray
def test_wandb_has_a_run_per_trial_with_the_numbers_of_each_report(study, monkeypatch, ray_cluster):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    loggers.check(["wandb"])
    session("wandb", study, Trial(7, study.trials), [4, 8], "PAUSED")
    session("wandb", study, Trial(7, study.trials), [12], None)
    files = sorted((study.path / "wandb").glob("offline-run-*/run-*.wandb"))
    assert [path.stem for path in files] == ["run-abc123-trial-0007"] * 2, "one run, in two sessions"
    first, second = map(records, files)
    assert [row["_step"] for row in first["history"]] == [4, 8] and [row["_step"] for row in second["history"]] == [12]
    assert first["history"][1]["objective"] == 0.08 and first["history"][1]["train/loss"] == 2.0
    assert first["config"] == HYPERPARAMETERS | {"number": 7, "trial_log_path": str(study.trials)}
    assert first["name"] == "small trial_0007" and first["group"] == "small"


def records(path: Path) -> dict[str, Any]:
    """What the file of an offline run holds: records in the format of LevelDB's log."""
    from wandb.proto import wandb_internal_pb2

    data, position, parts = path.read_bytes(), 7, b""  # after the header
    found: dict[str, Any] = {"history": [], "config": {}}
    while position + 7 <= len(data):
        left = 2**15 - position % 2**15  # of the block
        _, length, kind = struct.unpack("<IHB", data[position : position + 7])
        if left < 7 or kind == 0:
            position += left
            continue
        parts += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind not in (1, 4):  # whole, or the last part
            continue
        record, parts = wandb_internal_pb2.Record.FromString(parts), b""
        if record.HasField("history"):
            items = record.history.item
            found["history"].append({one.key or one.nested_key[0]: json.loads(one.value_json) for one in items})
        if record.HasField("run"):
            found |= {"name": record.run.display_name, "group": record.run.run_group}
        for one in [*record.run.config.update, *record.config.update]:
            if one.key not in ("_wandb", ""):
                found["config"][one.key] = json.loads(one.value_json)
    return found


def test_what_is_missing_is_one_line_with_the_remedy(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"--log mlflow needs .*: pip install 'clevrtune\[mlflow\]'"):
        loggers.check(["mlflow"])
    loggers.check([])


def test_names_may_stand_in_one_flag_or_in_several():
    assert StudyConfig(model="space", log=["wandb, mlflow"]).log == ["wandb", "mlflow"]
    assert StudyConfig(model="space", log=["wandb", "mlflow"]).log == ["wandb", "mlflow"]
    assert StudyConfig(model="space").log == []
    assert "log" not in StudyConfig(model="space").identity("tiny", 10, 32)
