"""Which scores of an earlier run still hold. The scoring itself is in tests/study/test_study_on_ray.py."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from study.results_folder import StudyFolder
from study.scoring.evaluation import Entry, entries, known_rows
from trainables import checkpoint


def save(folder: StudyFolder, *, step: int = 40, weight: float = 1.0, slots: int = 5) -> Path:
    """A checkpoint of trial 7 with the parts that scores depend on, and one that they do not."""
    at = folder.trial(7) / "checkpoint_000001"
    at.mkdir(parents=True, exist_ok=True)
    weights = {"a": torch.full((2, 3), weight), "b.step": torch.tensor(3), "c": torch.ones(2, dtype=torch.bfloat16)}
    state = {"model": "space", "image_size": 32, "step": step, "hyperparameters": {"num_slots": slots, "k": (3, 5)}}
    return checkpoint.save(at, {**state, "weights": weights, "noise": torch.rand(3)})


def of_trial_7(folder: StudyFolder) -> Entry:
    found = entries(folder, [7])
    assert [entry.name for entry in found[1:]] == ["baseline_background", "baseline_grid_4x4", "baseline_kmeans"]
    return found[0]


@pytest.mark.parametrize("change", [{"step": 41}, {"weight": 1.5}, {"slots": 6}])
def test_the_fingerprint_tells_checkpoints_apart(tmp_path: Path, change: dict) -> None:
    folder = StudyFolder(tmp_path)
    save(folder)
    first = of_trial_7(folder)
    assert first.fingerprint.startswith("step 40, weights ")
    save(folder)
    assert of_trial_7(folder) == first, "the same weights, saved again"
    save(folder, **change)
    assert of_trial_7(folder).fingerprint != first.fingerprint


def test_rows_that_name_the_step_alone_hold_if_they_are_newer_than_the_checkpoint(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    path = save(folder)
    assert of_trial_7(folder).earlier is None, "nothing was scored"
    (tmp_path / "evaluation.parquet").touch()
    os.utime(path, (1000, 1000))
    assert of_trial_7(folder).earlier == "step 40"
    os.utime(tmp_path / "evaluation.parquet", (999, 999))
    assert of_trial_7(folder).earlier is None


def test_stale_rows_are_dropped_and_others_kept(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.parquet"
    assert known_rows(path, {}) is None
    rows = {"entry": ["a", "a", "b", "c"], "split": ["test", "outd", "test", "test"], "source": ["1", "2", "3", "4"]}
    pq.write_table(pa.table(rows), path)
    valid = {("a", "test"): ["new", "1"], ("a", "outd"): ["1"], ("b", "test"): ["3"]}
    for _ in range(2):
        kept = known_rows(path, valid)
        assert kept is not None and kept["source"].to_pylist() == ["1", "3"]
        assert pq.read_table(path).equals(kept)
    assert known_rows(path, {("a", "test"): ["5"]}) is None
    path.write_bytes(b"damaged")
    assert known_rows(path, valid) is None


def test_a_trial_without_a_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="trial 7 has no readable checkpoint"):
        entries(StudyFolder(tmp_path), [7])
