"""Which scores of an earlier run still hold. The scoring itself is in tests/study/test_study_on_ray.py."""

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from study import presets
from study.results_folder import StudyFolder
from study.scoring.evaluation import Entry, entries, export_best, known_rows, load_best, readable
from study.scoring.ranking import Finalist, Run
from trainables import checkpoint
from trainables.training import Task, Training


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
    with pytest.raises(ValueError, match=r"evaluation\.parquet is damaged; delete it"):
        known_rows(path, sources)


def test_rows_of_other_splits_stay_with_the_same_weights(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.parquet"
    names = ["entry", "seed", "split", "source"]
    found = [
        ("a", 1, "test", "w, t"),
        ("a", 1, "pbg", "w, p, 3 draws"),
        ("a", 1, "outd", "w, o"),
        ("b", 1, "pbg", "v, p"),
    ]
    pq.write_table(pa.table(dict(zip(names, map(list, zip(*found, strict=True)), strict=True))), path)
    sources = {("a", 1, "test"): "w, t", ("b", 1, "test"): "x, t"}
    kept = known_rows(path, sources, {("a", 1): "w", ("b", 1): "x"}, ["pbg"])
    assert kept is not None and kept["source"].to_pylist() == ["w, t", "w, p, 3 draws"]


def three(folder: StudyFolder) -> list[Finalist]:
    """Trials 3, 5 and the base (trial 0), each with a run that has checkpoints of the steps 20 and 40."""
    found = []
    for number in (3, 5, 0):
        for step in (20, 40):
            at = folder.trial(number) / f"checkpoint_{step:06d}"
            at.mkdir(parents=True)
            state = {"model": "space", "image_size": 32, "step": step, "hyperparameters": {}}
            checkpoint.save(at, {**state, "weights": {"a": torch.full((40, 50), float(number))}})
        run = Run(7, str(folder.trial(number).relative_to(folder.path)), number / 10)
        found.append(Finalist(f"trial_{number:04d}" if number else "base", number, (run,)))
    return found


def flip(folder: StudyFolder, number: int, *steps: int) -> None:
    for step in steps:
        (path,) = folder.trial(number).glob(f"*/step_{step:09d}.pt")
        content = bytearray(path.read_bytes())
        content[content.index(b"data/0") + 1000] ^= 1
        path.write_bytes(content)


def test_of_a_damaged_checkpoint_the_one_before_is_scored_and_it_is_said(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    finalists = three(folder)
    assert readable(folder, finalists) == (finalists, [])
    flip(folder, 3, 40)
    found, said = readable(folder, finalists)
    assert found == finalists
    assert said == ["trials/trial_0003: step_000000040.pt cannot be read: the one of step 20 is scored"]
    assert entries(folder, found, "grid_2x3")[0].fingerprint.startswith("step 20, ")


def test_a_trial_without_a_checkpoint_leaves_its_place_to_the_next_one(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    finalists = three(folder)
    assert [one.entry for one in readable(folder, finalists, 1)[0]] == ["trial_0003", "base"]
    flip(folder, 3, 20, 40)
    found, said = readable(folder, finalists, 1)
    assert [one.entry for one in found] == ["trial_0005", "base"]
    assert said == ["trials/trial_0003 has no checkpoint that can be read: it is not scored"]
    assert [entry.name for entry in entries(folder, found, "grid_2x3")[:2]] == ["trial_0005", "base"]


def test_of_several_runs_the_others_are_scored(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    first, second, base = three(folder)
    flip(folder, 3, 20, 40)
    two = Finalist("trial_0003", 3, (*first.runs, *second.runs))
    (found, _), said = readable(folder, [two, base])
    assert found.complete == list(second.runs) and found.runs[0].reason == "its checkpoint is lost" and len(said) == 1


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """``best/`` of a study."""
    folder = StudyFolder(tmp_path)
    task = Task(model="slot_attention", image_size=32, steps=6, reports=2, seed=3, metric="mIoU_fg")
    values = presets.preset_values("slot_attention", "tiny")
    training = Training(task, values, 0, [0] * 4, torch.device("cpu"))  # type: ignore[arg-type]  # no image is asked for
    folder.trial(7).mkdir(parents=True)
    checkpoint.save(folder.trial(7), training.state())
    winner = Finalist("trial_0007", 7, (Run(7, "trials/trial_0007", 0.5),))
    export_best(folder, task, winner, {"metric": "mIoU_fg"})
    return folder.path / "best"


def test_the_exported_model_is_loaded_and_one_of_other_bits_is_not(exported: Path) -> None:
    whole = {path: path.read_bytes() for path in exported.iterdir()}
    model = load_best(exported).state_dict()
    chance = random.Random(0)
    refused = 0
    for path, content in whole.items():
        for _ in range(60):
            flipped = bytearray(content)
            bit = chance.randrange(8 * len(flipped))
            flipped[bit // 8] ^= 1 << bit % 8
            path.write_bytes(flipped)
            try:
                assert all(torch.equal(value, model[key]) for key, value in load_best(exported).state_dict().items())
            except ValueError as error:
                assert "is damaged; delete them" in str(error)
                refused += 1
        path.write_bytes(content)
    assert refused > 80, "white space in the JSON is nothing"


def test_one_of_an_earlier_version_is_loaded(exported: Path) -> None:
    (path,) = exported.glob("*.safetensors")
    before = load_best(exported).state_dict()
    save_file(load_file(path), path, metadata={"format": "pt"})
    assert all(torch.equal(value, before[key]) for key, value in load_best(exported).state_dict().items())


def test_of_an_earlier_version_nothing_holds(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.parquet"
    pq.write_table(pa.table({"entry": ["baseline_a"], "split": ["test"], "source": ["2"]}), path)
    assert known_rows(path, {("baseline_a", None, "test"): "2"}) is None


def test_a_run_without_a_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="trial_0007 has no readable checkpoint"):
        of_trial_7(StudyFolder(tmp_path))
