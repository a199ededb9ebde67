"""Which scores of an earlier run still hold. The scoring itself is in tests/study/test_study_on_ray.py."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from study.results_folder import StudyFolder
from study.scoring.evaluation import Entry, entries, known_rows
from study.scoring.ranking import Finalist, Run
from trainables import checkpoint


def save(folder: StudyFolder, *, step: int = 40, weight: float = 1.0, slots: int = 5) -> Path:
    """A checkpoint of trial 7 with the parts that scores depend on, and one that they do not."""
    at = folder.trial(7) / "checkpoint_000001"
    at.mkdir(parents=True, exist_ok=True)
    weights = {"a": torch.full((2, 3), weight), "b.step": torch.tensor(3), "c": torch.ones(2, dtype=torch.bfloat16)}
    state = {"model": "space", "image_size": 32, "step": step, "hyperparameters": {"num_slots": slots, "k": (3, 5)}}
    return checkpoint.save(at, {**state, "weights": weights, "noise": torch.rand(3)})


def of_trial_7(folder: StudyFolder) -> list[Entry]:
    where = str(folder.trial(7).relative_to(folder.path))
    runs = (Run(11, "nowhere", None, "diverged"), Run(12, where, 0.5), Run(13, where, 0.6))
    found = entries(folder, [Finalist("trial_0007", 7, runs)], "grid_2x3")
    names = [f"baseline_{name}" for name in ("background", "grid_4x4", "kmeans", "grid_best")]
    assert [entry.name for entry in found[-4:]] == names
    assert all(entry.seed is None and entry.folder is None for entry in found[-4:])
    assert found[-1].fingerprint == "grid_2x3", "another best grid is scored anew"
    return found[:-4]


def test_each_run_that_did_not_fail_is_an_entry_and_the_first_has_its_picture_kept(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    save(folder)
    found = of_trial_7(folder)
    assert [(entry.name, entry.trial, entry.seed, entry.pictured) for entry in found] == [
        ("trial_0007", 7, 12, True),
        ("trial_0007", 7, 13, False),
    ]
    assert all(entry.folder == folder.trial(7) for entry in found)


@pytest.mark.parametrize("change", [{"step": 41}, {"weight": 1.5}, {"slots": 6}])
def test_the_fingerprint_tells_checkpoints_apart(tmp_path: Path, change: dict) -> None:
    folder = StudyFolder(tmp_path)
    save(folder)
    first = of_trial_7(folder)
    assert first[0].fingerprint.startswith("step 40, weights ")
    save(folder)
    assert of_trial_7(folder) == first, "the same weights, saved again"
    save(folder, **change)
    assert of_trial_7(folder)[0].fingerprint != first[0].fingerprint


def test_stale_rows_are_dropped_and_others_kept(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.parquet"
    assert known_rows(path, {}) is None
    rows = {
        "entry": ["a", "a", "a", "b", "c"],
        "seed": [1, 2, 1, None, 1],
        "split": ["test", "test", "outd", "test", "test"],
        "source": ["1", "2", "3", "4", "5"],
    }
    pq.write_table(pa.table(rows), path)
    sources = {("a", 1, "test"): "1", ("a", 2, "test"): "1", ("b", None, "test"): "4", ("c", 2, "test"): "5"}
    for _ in range(2):
        kept = known_rows(path, sources)
        assert kept is not None and kept["source"].to_pylist() == ["1", "4"]
        assert pq.read_table(path).equals(kept)
    assert known_rows(path, {("a", 1, "test"): "5"}) is None
    path.write_bytes(b"damaged")
    assert known_rows(path, sources) is None


def test_of_an_earlier_version_nothing_holds(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.parquet"
    pq.write_table(pa.table({"entry": ["baseline_a"], "split": ["test"], "source": ["2"]}), path)
    assert known_rows(path, {("baseline_a", None, "test"): "2"}) is None


def test_a_run_without_a_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="trial_0007 has no readable checkpoint"):
        of_trial_7(StudyFolder(tmp_path))
