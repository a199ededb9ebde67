"""The final stage: the best trials and three untrained baselines, scored image by image on test, OOD and CAMO.

Each (entry, split) pair is one Ray task over shards that no trial ever saw. The scores go to ``evaluation.parquet``
as soon as a task is done, one row per entry x split x image; pairs that are there already are not computed again.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from safetensors.torch import load_file, save_file

from data import store
from data.loader import sequential
from data.shards import ShardIndex
from study.presets import Resolved
from study.results_folder import StudyFolder, write_json
from study.scoring.baselines import BASELINES
from trainables import checkpoint, metrics, pictures
from trainables.model import SegmentationModel
from trainables.scoring import PANEL_IMAGES, evaluate, images_per_pass, panel, restore_model
from trainables.training import Task

Refs = list[ray.ObjectRef]


@dataclass(frozen=True)
class Entry:
    """One row group of the final table: a trial, or a baseline that needs no training."""

    name: str
    """trial_0007 or baseline_grid_4x4"""
    trial: int | None
    """Optuna's trial number; None for baselines"""
    fingerprint: str
    """what the scores depend on besides the images: checkpoint step and size, or the baseline's name"""


def entries(folder: StudyFolder, numbers: list[int]) -> list[Entry]:
    """The trials ``numbers``, best first, and the baselines. Raises ValueError for a trial without a checkpoint."""
    found = []
    for number in numbers:
        state = checkpoint.newest(folder.trial(number))
        if state is None:
            raise ValueError(
                f"trial {number} has no readable checkpoint in {folder.trial(number)}; "
                "restore it, or lower --top, or start over with --fresh"
            )
        found.append(Entry(folder.trial(number).name, number, f"step {state['step']}"))
    return found + [Entry(f"baseline_{name}", None, name) for name in BASELINES]


def evaluate_study(
    study: Resolved,
    chosen: list[Entry],
    splits: Mapping[str, tuple[ShardIndex, str]],
    max_objects: int,
    console: Console,
) -> pa.Table:
    """Score ``chosen`` on ``splits`` (name -> index and its split) and return the rows of ``evaluation.parquet``."""
    folder, task, cpus, gpus = study.folder, study.task, study.config.cpus, study.gpus
    path = folder.path / "evaluation.parquet"
    wanted = {
        (entry.name, name): f"{entry.fingerprint}, {index.fingerprint}/{split}"
        for entry in chosen
        for name, (index, split) in splits.items()
    }
    table = _known_rows(path, wanted)
    done = set(zip(*(table[key].to_pylist() for key in ("entry", "split")), strict=True)) if table else set()
    todo = [(entry, name) for name in splits for entry in chosen if (entry.name, name) not in done]
    if not todo:
        assert table is not None
        return table
    refs = {name: store.load(index, [split])[split] for name, (index, split) in splits.items()}
    pictures_folder = folder.path / "pictures"
    pictures_folder.mkdir(exist_ok=True)
    tasks = {}
    for entry, name in todo:
        if entry.trial is None:
            ref = _score_baseline.options(num_cpus=cpus).remote(entry.fingerprint, refs[name], max_objects, task.seed)
        else:
            ref = _score_trial.options(num_cpus=cpus, num_gpus=gpus).remote(
                task, str(folder.trial(entry.trial).resolve()), refs[name], gpus > 0
            )
        tasks[ref] = (entry, name)
    columns = (TextColumn("scoring the best trials and the baselines"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("", total=len(tasks))
        while tasks:
            (ref,), _ = ray.wait(list(tasks))
            entry, name = tasks.pop(ref)
            scores, png = store.result_of(ref)
            (pictures_folder / f"{entry.name}_{name}.png").write_bytes(png)
            rows = _rows(entry, name, wanted[entry.name, name], scores)
            table = rows if table is None else pa.concat_tables([table, rows], promote_options="default")
            _write_parquet(table, path)
            progress.advance(bar)
    assert table is not None
    return table


@ray.remote(max_retries=3, scheduling_strategy="SPREAD")
def _score_trial(task: Task, folder: str, refs: Refs, use_gpu: bool) -> tuple[dict[str, np.ndarray], bytes]:
    """Per-image scores of a trial's newest checkpoint on a split, and a picture as PNG."""
    device = torch.device("cuda" if use_gpu and torch.cuda.is_available() else "cpu")
    split = store.open_split(refs)
    state = checkpoint.newest(folder, device)
    assert state is not None
    model = restore_model(state, device)
    scores = evaluate(model, split, np.arange(len(split)), step=state["step"], precision=task.precision)
    picture = panel(model, split, step=state["step"], precision=task.precision)
    return {"image": split.index, **scores}, pictures.encode_png(picture)


@ray.remote(max_retries=3, scheduling_strategy="SPREAD")
def _score_baseline(name: str, refs: Refs, max_objects: int, seed: int) -> tuple[dict[str, np.ndarray], bytes]:
    """Per-image scores of an untrained baseline on a split, and a picture as PNG."""
    split = store.open_split(refs)
    parts, picture = [], b""
    for rows in sequential(len(split), images_per_pass(split.size[0])):
        images, true_labels = split.gather(rows)  # (B, H, W, 3), (B, H, W)
        labels, num_slots, reconstruction = BASELINES[name](images, max_objects, seed)
        truth = images.transpose(0, 3, 1, 2).astype(np.float32) / 255  # (B, 3, H, W)
        parts.append(metrics.score_labels(labels, true_labels, num_slots, reconstruction, truth))
        if not picture:
            few = slice(0, PANEL_IMAGES)
            picture = pictures.encode_png(
                pictures.panel(truth[few], reconstruction[few], true_labels[few], labels[few])
            )
    scores = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    return {"image": split.index, **scores}, picture


def export_best(folder: StudyFolder, task: Task, trial: int, summary: dict[str, Any]) -> None:
    """Write ``best.json``, and the best trial's weights with their config to ``best/``.

    :func:`load_best` brings the model back.
    """
    state = checkpoint.newest(folder.trial(trial))
    assert state is not None
    best = folder.path / "best"
    best.mkdir(exist_ok=True)
    config = {key: state[key] for key in ("model", "image_size", "hyperparameters", "step")}
    partial = best / f"{task.model}.safetensors.partial"
    weights = {name: tensor.contiguous().clone() for name, tensor in state["weights"].items()}
    save_file(weights, partial, metadata={"format": "pt", "config": json.dumps(config)})
    os.replace(partial, best / f"{task.model}.safetensors")
    write_json(best / f"{task.model}.json", config)
    write_json(folder.path / "best.json", {"trial": trial, **config, **summary})


def load_best(folder: str | Path) -> SegmentationModel:
    """The model that ``export_best`` wrote to ``folder`` (``results/<study>/best``), in evaluation mode."""
    (path,) = Path(folder).glob("*.json")
    return restore_model({**json.loads(path.read_text()), "weights": load_file(path.with_suffix(".safetensors"))})


def _known_rows(path: Path, wanted: Mapping[tuple[str, str], str]) -> pa.Table | None:
    """The rows of an earlier run that still hold: same entry, split, checkpoint and data. None if there are none."""
    if not path.exists():
        return None
    try:
        table = pq.read_table(path)
    except pa.ArrowInvalid:
        return None  # unreadable: the scores can be computed again
    keep = [
        wanted.get((entry, split)) == source
        for entry, split, source in zip(*(table[key].to_pylist() for key in ("entry", "split", "source")), strict=True)
    ]
    kept = table.filter(pa.array(keep, pa.bool_()))
    if 0 < kept.num_rows < table.num_rows:
        _write_parquet(kept, path)  # a smaller --top, or checkpoints that went on
    return kept if kept.num_rows else None


def _rows(entry: Entry, split: str, source: str, scores: Mapping[str, np.ndarray]) -> pa.Table:
    count = len(scores["image"])
    return pa.table(
        {
            "entry": pa.array([entry.name] * count, pa.string()),
            "trial": pa.array([entry.trial] * count, pa.int64()),
            "split": pa.array([split] * count, pa.string()),
            "source": pa.array([source] * count, pa.string()),
            **{name: pa.array(values) for name, values in scores.items()},
        }
    )


def _write_parquet(table: pa.Table, path: Path) -> None:
    partial = path.with_name(path.name + ".partial")
    pq.write_table(table, partial)
    os.replace(partial, path)
