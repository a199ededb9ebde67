"""What the final stage keeps of a trained model besides its scores: its objects, and its extremes in pictures."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from rich.console import Console

import trainables
from data import convert, spec
from data.loader import Split
from study import presets
from study.config import StudyConfig
from study.results_folder import StudyFolder
from study.scoring import evaluation, extremes, objects, slots
from study.scoring.evaluation import Entry
from trainables import checkpoint, metrics
from trainables.scoring import evaluate, restore_model

pytestmark = pytest.mark.ray


def saved(folder: StudyFolder, weights_from: int) -> Entry:
    """An entry with a checkpoint of untrained weights."""
    hyperparameters = presets.preset_values("slot_attention", "tiny")
    torch.manual_seed(weights_from)
    model = trainables.build("slot_attention", hyperparameters, 32)
    state = {"model": "slot_attention", "image_size": 32, "step": 4, "hyperparameters": hyperparameters}
    at = folder.path / "trials" / f"trial_{weights_from:04d}"
    at.mkdir(parents=True, exist_ok=True)
    checkpoint.save(at, {**state, "weights": model.state_dict()})
    return Entry("trial_0007", 7, f"weights {weights_from}", 11, at)


def test_objects_and_extremes_are_kept_with_the_scores(tmp_path: Path, ray_cluster: None) -> None:
    index = convert.prepare(spec.parse("synthetic:plain-(32,32)"), cache=str(tmp_path / "cache"))
    asked = StudyConfig(model="slot_attention", data=index.spec, name="study", results=str(tmp_path), seed=3)
    resolved = presets.resolve(asked, has_gpu=False)
    resolved.folder.path.mkdir()
    resolved.folder.write(config=resolved.identity)
    entry = saved(resolved.folder, 1)

    def score(chosen: list[Entry], file: str = evaluation.EVALUATION) -> None:
        evaluation.evaluate_study(resolved, chosen, {"test": (index, "val")}, 5, Console(quiet=True), file)

    score([entry, Entry("baseline_background", None, "background")], "curve.parquet")
    assert not (resolved.folder.path / objects.FILE).exists(), "a curve has no details"
    score([entry, Entry("baseline_background", None, "background")])
    rows = pq.read_table(resolved.folder.path / objects.FILE).to_pylist()
    assert {(row["entry"], row["trial"], row["seed"], row["split"]) for row in rows} == {("trial_0007", 7, 11, "test")}

    split = Split([index.read(shard) for shard in index.shards("val")])
    assert entry.folder is not None
    state = checkpoint.newest(entry.folder)
    assert state is not None
    labels: list[np.ndarray] = []
    scores = evaluate(restore_model(state), split, np.arange(len(split)), step=4, keep=labels.append)
    _, true = split.gather(np.arange(len(split)))
    visible = [len(np.unique(here[here > 0])) for here in true]
    assert len(rows) == sum(visible)
    hard = np.concatenate(labels)[:, None] == np.arange(20)[None, :, None, None]
    direct = metrics.score_objects(hard[:9].astype(float), true[:9], [split.metadata(row) for row in range(9)])
    wanted = [row["iou"] for row in direct if row["object"]]
    assert [row["iou"] for row in rows[: len(wanted)]] == pytest.approx(wanted)

    shown = extremes.read((resolved.folder.path / "pictures/extremes/trial_0007_test.png").read_bytes())
    worst = [one for one, _ in shown if one.kind == "worst"]
    assert worst[0].score == pytest.approx(np.nanmin(scores["mIoU_fg"])) and len(shown) == 9 * extremes.EACH
    assert max(one.score for one, _ in shown if one.metric == "MSE") == pytest.approx(scores["MSE"].max())
    masks = slots.read((resolved.folder.path / "pictures/slots/trial_0007_test.png").read_bytes())
    assert masks is not None and len(masks.inputs) == 4 and sum(slot.share for slot in masks.slots) > 0.5
    table = pq.read_table(resolved.folder.path / evaluation.EVALUATION)
    objects_of = [row["true_objects"] for row in table.to_pylist() if row["entry"] == "trial_0007"]
    assert objects_of == visible and set(table["draws"].to_pylist()) == {1}
    assert not list((resolved.folder.path / "pictures/extremes").glob("baseline*"))

    score([saved(resolved.folder, 2)])  # other weights: the old objects are worth nothing
    again = pq.read_table(resolved.folder.path / objects.FILE)
    assert again.num_rows == len(rows) and "weights 1" not in "".join(set(again["source"].to_pylist()))
