"""The final stage: the finalists and the untrained baselines, scored image by image on test, OOD and CAMO.

Each (entry, seed, split) is one Ray task over shards that no trial has seen. When a task ends, its scores go to
``evaluation.parquet``, one row per image, those of its objects to ``objects.parquet``. What the former has already is
not computed again.
"""

import contextlib
import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from safetensors import safe_open
from safetensors.torch import save_file

from data import atomic, store
from data.shards import ShardIndex
from study.display.plain_lines import begin, say
from study.presets import Resolved
from study.results_folder import StudyFolder, use_its_plugins, write_json
from study.scoring import image_scores, metric_files, objects, score_file
from study.scoring.attempts import Attempts
from study.scoring.baselines import BASELINES
from study.scoring.image_scores import Refs, Scored
from study.scoring.ranking import BASE, Finalist
from trainables import checkpoint
from trainables.model import SegmentationModel
from trainables.scoring import restore_model
from trainables.training import Task

COLUMNS = "columns 4"
"""Part of what scores depend on. Raise it with the columns of the files: then all rows are scored anew."""
CHECKSUM = "clevrtune sha256"
"""The entry of the metadata of ``best/<model>.safetensors`` with the checksum of weights and config."""
EVALUATION = "evaluation.parquet"
ADDED = "added"
"""The entry of study.json with the splits that ``study/score.py`` has scored: name -> what they are."""

Key = tuple[str, int | None, str]
"""Entry, seed and split."""


@dataclass(frozen=True)
class Entry:
    """What the final stage scores: one run of a finalist, or a baseline that needs no training."""

    name: str
    """trial_0007, base or baseline_grid_4x4"""
    trial: int | None
    """Optuna's trial number in the search; None for baselines, and for a base that the search did not train"""
    fingerprint: str
    """what the scores depend on besides the images and the study's identity: the checkpoint's step, hyperparameters
    and weights, or the baseline's name; of the best grid, that of the grid: grid_2x3"""
    seed: int | None = None
    """the seed of the run; None for baselines"""
    folder: Path | None = None
    """where the run's checkpoints are; None for baselines"""
    pictured: bool = True
    """whether its picture is kept; of a finalist's runs, that of the first one"""


def choose_grid(study: Resolved, validation: Refs) -> str:
    """The best of the fixed grids on the shards ``validation``, which study.json then names."""
    tasks = Attempts()
    tasks.start("grid", partial(image_scores.best_grid.options(num_cpus=study.config.cpus).remote, validation))
    ((_, name),) = tasks
    study.folder.write(best_grid=name.removeprefix("grid_"))
    return name


def readable(
    folder: StudyFolder, ordered: Iterable[Finalist], count: int | None = None
) -> tuple[list[Finalist], list[str]]:
    """The first ``count`` of ``ordered`` with runs whose checkpoints can be read, and the base; lines about the others.

    A run without one counts as failed. Where an older checkpoint can be read, it is scored, and a line says so.
    """
    found: list[Finalist] = []
    said: list[str] = []
    for finalist in ordered:
        if count is not None and finalist.entry != BASE and sum(one.entry != BASE for one in found) == count:
            continue
        runs = []
        for run in finalist.runs:
            if run.value is not None:
                state, damaged = checkpoint.newest_and_damaged(folder.path / run.folder)
                if state is None:
                    said.append(f"{run.folder} has no checkpoint that can be read: it is not scored")
                    run = replace(run, value=None, reason="its checkpoint is lost")
                elif damaged:
                    older = f"the one of step {state['step']} is scored"
                    said.append(f"{run.folder}: {damaged[0]} cannot be read: {older}")
            runs.append(run)
        kept = replace(finalist, runs=tuple(runs))
        found += [kept] if kept.complete else []
    return found, said


def entries(folder: StudyFolder, finalists: Sequence[Finalist], grid: str) -> list[Entry]:
    """The complete runs of ``finalists``, and the baselines, of which ``grid`` is the best of the fixed grids.

    Raises ValueError for a run without a checkpoint.
    """
    found = []
    for finalist in finalists:
        for run in finalist.complete:
            where = folder.path / run.folder
            state = checkpoint.newest(where)
            if state is None:
                raise ValueError(
                    f"{finalist.entry} has no readable checkpoint in {where}; restore it, or start over with --fresh"
                )
            fingerprint = f"step {state['step']}, weights {_digest(state)}"
            first = run is finalist.complete[0]
            found.append(Entry(finalist.entry, finalist.trial, fingerprint, run.seed, where, first))
    untrained = {**{name: name for name in BASELINES}, "grid_best": grid}
    return found + [Entry(f"baseline_{name}", None, predictor) for name, predictor in untrained.items()]


def evaluate_study(
    study: Resolved,
    chosen: list[Entry],
    splits: Mapping[str, tuple[ShardIndex, str]],
    max_objects: int,
    console: Console,
    file: str = EVALUATION,
    beside: Collection[str] | None = None,
) -> pa.Table:
    """Score ``chosen`` on ``splits`` (name -> index and its split) and return the rows of ``file``.

    Objects are scored, and pictures kept, with those of :data:`EVALUATION` alone. Rows of the splits ``beside``, by
    default those of :data:`ADDED`, stay as far as their entries have the same weights.
    """
    folder, task, cpus, gpus = study.folder, study.task, study.config.cpus, study.gpus
    path, in_detail = folder.path / file, file == EVALUATION
    if beside is None:
        beside = (folder.read() or {}).get(ADDED, {}) if in_detail else ()
        folder.write(draws=study.config.draws)
    sources = sources_of(chosen, splits, study.config.draws)
    weights = {(entry.name, entry.seed): entry.fingerprint for entry in chosen}
    try:
        edited = metric_files.changed(sources_in(path)) if in_detail else []
        for name in edited:
            old = "; the search had the older one" if name in study.config.goals else ""
            say(console, f"note: the metric {name} is new or was edited: all images are scored again{old}")
        if edited and beside:
            say(console, f"note: {', '.join(beside)}: `clevrtune score` scores these images again")
        table = known_rows(path, sources, weights, beside)
    except ValueError:
        say(console, f"note: {path} is damaged; its scores are computed anew")
        table = None
    todo = missing(table, chosen, splits)
    if not todo:
        assert table is not None
        return table
    begin(console, f"scoring {len({entry for entry, _ in todo})} models and baselines on {len(splits)} splits")
    refs = {name: store.load(index, [split])[split] for name, (index, split) in splits.items()}
    pictures_folder = folder.path / "pictures"
    if in_detail:
        with contextlib.suppress(ValueError):  # what is damaged is written anew
            known_rows(folder.path / objects.FILE, sources, weights, beside)

    def start(entry: Entry, name: str, kmeans: ray.ObjectRef) -> ray.ObjectRef:
        if entry.folder is None:
            return image_scores.score_baseline.options(num_cpus=cpus).remote(
                entry.fingerprint, refs[name], kmeans, max_objects, task.seed
            )
        where, pictured, draws = str(entry.folder.resolve()), entry.pictured, study.config.draws
        return image_scores.score_trial.options(num_cpus=cpus, num_gpus=gpus).remote(
            task, where, refs[name], kmeans, gpus > 0, in_detail, pictured, draws
        )

    tasks = Attempts(console)
    for name in dict.fromkeys(name for _, name in todo):
        segment = image_scores.kmeans_labels.options(num_cpus=cpus).remote
        tasks.start(name, partial(segment, refs[name], max_objects, task.seed))
    columns = (TextColumn("scoring models and baselines"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=len(todo))
        for key, result in tasks:
            if isinstance(key, str):  # k-means' segments of a split, with which its entries are compared
                kmeans = ray.put(result)
                for pair in todo:
                    if pair[1] == key:
                        tasks.start(pair, partial(start, *pair, kmeans))
                continue
            (entry, name), scored = key, result
            assert isinstance(scored, Scored)
            source = sources[entry.name, entry.seed, name]
            if scored.not_finite:
                told = f"{entry.name}, seed {entry.seed}, on {name}: {scored.not_finite} images"
                say(console, f"note: {told} have masks with NaN, and count as one segment")
            for place, png in scored.pictures.items():
                (pictures_folder / place).mkdir(parents=True, exist_ok=True)
                (pictures_folder / place / f"{entry.name}_{name}.png").write_bytes(png)
            if scored.objects:  # before the rows by which this is known to be done
                whose = {"entry": entry.name, "trial": entry.trial, "seed": entry.seed, "split": name}
                objects.add(folder.path / objects.FILE, {**whose, "source": source}, scored.objects)
            rows = _rows(entry, name, source, scored.scores)
            table = rows if table is None else pa.concat_tables([table, rows], promote_options="default")
            score_file.write(table, path)
            progress.advance(bar)
    assert table is not None
    return table


def export_best(folder: StudyFolder, task: Task, winner: Finalist, summary: dict[str, Any]) -> None:
    """Write ``best.json``, and the weights of the ``winner`` with their config to ``best/``.

    They are those of its first run. Which seed is the first was settled before any was trained, so its scores are a
    fair sample of what the winner's hyperparameters bring; those of its best run are not. :func:`load_best` reads the
    model.
    """
    run = winner.complete[0]
    state = checkpoint.newest(folder.path / run.folder)
    assert state is not None
    best = folder.path / "best"
    best.mkdir(exist_ok=True)
    config = json.loads(json.dumps({key: state[key] for key in ("model", "image_size", "hyperparameters", "step")}))
    weights = {name: tensor.contiguous().clone() for name, tensor in state["weights"].items()}
    with atomic.replacing(best / f"{task.model}.safetensors") as partial:
        about = {
            "format": "pt",
            "config": json.dumps(config),
            CHECKSUM: _digest({**config, "weights": weights}, whole=True),
        }
        save_file(weights, partial, metadata=about)
    write_json(best / f"{task.model}.json", config)
    identity = {"entry": winner.entry, "trial": winner.trial, "seed": run.seed}
    scores = {"value": winner.mean, "values": {str(run.seed): run.value for run in winner.runs}}
    write_json(folder.path / "best.json", {**identity, **config, **summary, **scores})


def load_best(folder: str | Path) -> SegmentationModel:
    """The model that ``export_best`` wrote, in evaluation mode and without gradients.

    ``folder`` is a study's, or its ``best/``. Raises ValueError if no best model is there, or if one of its two files
    is damaged; those of an earlier version have no checksum.
    """
    folder = use_its_plugins(Path(folder))
    inside = folder / "best" if (folder / "best").is_dir() else folder
    paths = [path for path in inside.glob("*.json") if path.with_suffix(".safetensors").exists()]
    if len(paths) != 1:
        raise ValueError(f"{folder} holds no best model; give the folder of a study whose final stage has ended")
    model = restore_model(_exported(paths[0]))
    model.register_forward_pre_hook(_check_images)
    return model.requires_grad_(False)


def _exported(path: Path) -> dict[str, Any]:
    """The config in the JSON file ``path`` and the weights beside it. Raises ValueError if one of them is damaged."""
    damaged = f"{path} or the .safetensors beside it is damaged; delete them, and the study's command writes them anew"
    try:
        with safe_open(path.with_suffix(".safetensors"), "pt") as file:
            told = (file.metadata() or {}).get(CHECKSUM)
            weights = {name: file.get_tensor(name) for name in file.keys()}
        state = {**json.loads(path.read_text(encoding="utf-8")), "weights": weights}
        whole = told is None or told == _digest(state, whole=True)
    except Exception as error:  # what does not parse, or lacks a key
        raise ValueError(damaged) from error
    if not whole:
        raise ValueError(damaged)
    return state


def _check_images(model: Any, inputs: tuple[Any, ...]) -> None:
    """Raise ValueError unless the first of ``inputs`` is a batch of images as in training."""
    image, size = inputs[0] if inputs else None, model.image_size
    if not isinstance(image, torch.Tensor) or image.shape[1:] != (3, size, size) or not image.is_floating_point():
        got = f"{image.dtype} {tuple(image.shape)}" if isinstance(image, torch.Tensor) else type(image).__name__
        raise ValueError(f"this model sees float images (B, 3, {size}, {size}), not {got}")
    low, high = float(image.min()), float(image.max())
    if not (low >= -0.01 and high <= 1.01):
        raise ValueError(f"this model sees images in [0, 1], not [{low:g}, {high:g}]; divide 8-bit images by 255")


def sources_of(chosen: Iterable[Entry], splits: Mapping[str, tuple[ShardIndex, str]], draws: int) -> dict[Key, str]:
    """What the rows of each of ``chosen`` on each of ``splits`` depend on: their ``source``."""
    noise, own = {True: f", {draws} draws", False: ""}, metric_files.part()
    return {
        (entry.name, entry.seed, name): f"{entry.fingerprint}, {index.fingerprint}/{split}, {COLUMNS}"
        + noise[draws > 1 and entry.folder is not None]
        + own
        for name, (index, split) in splits.items()
        for entry in chosen
    }


def missing(table: pa.Table | None, chosen: Iterable[Entry], splits: Iterable[str]) -> list[tuple[Entry, str]]:
    """Each of ``chosen`` on each of ``splits`` of which ``table`` has no rows."""
    done = set(_keys(table)) if table is not None else set()
    chosen = list(chosen)
    return [(entry, name) for name in splits for entry in chosen if (entry.name, entry.seed, name) not in done]


def known_rows(
    path: Path,
    sources: Mapping[Key, str],
    weights: Mapping[tuple[str, int | None], str] | None = None,
    beside: Collection[str] = (),
) -> pa.Table | None:
    """The rows in ``path`` that still hold, or None if there are none; the file loses the others.

    ``sources`` is (entry, seed, split) -> the ``source`` that its rows must have. Of the splits ``beside`` it needs
    only begin with the fingerprint in ``weights``, (entry, seed) -> fingerprint. Raises ValueError if it is damaged.
    """
    if not path.exists():
        return None
    table = score_file.read(path)
    if "seed" not in table.column_names:
        return None  # of an earlier version
    known = weights or {}

    def holds(key: Key, source: str) -> bool:
        if key in sources or key[2] not in beside:
            return key in sources and metric_files.same(source, sources[key])
        return key[:2] in known and source.startswith(f"{known[key[:2]]}, ") and not metric_files.changed([source])

    found = zip(_keys(table), table["source"].to_pylist(), strict=True)
    keep = [holds(*row) for row in found]
    kept = table.filter(pa.array(keep, pa.bool_()))
    if 0 < kept.num_rows < table.num_rows:
        score_file.write(kept, path)  # other finalists or seeds, checkpoints, or images
    return kept if kept.num_rows else None


def sources_in(path: Path) -> list[str]:
    """The different ``source`` of the rows in ``path``. Raises ValueError if it is damaged."""
    table = score_file.read(path) if path.exists() else None
    return table["source"].unique().to_pylist() if table is not None and "source" in table.column_names else []


def _keys(table: pa.Table) -> Iterator[Key]:
    return zip(*(table[key].to_pylist() for key in ("entry", "seed", "split")), strict=True)


def _rows(entry: Entry, split: str, source: str, scores: Mapping[str, np.ndarray]) -> pa.Table:
    count = len(scores["image"])
    return pa.table(
        {
            "entry": pa.array([entry.name] * count, pa.string()),
            "trial": pa.array([entry.trial] * count, pa.int64()),
            "seed": pa.array([entry.seed] * count, pa.int64()),
            "split": pa.array([split] * count, pa.string()),
            "source": pa.array([source] * count, pa.string()),
            **{name: pa.array(values) for name, values in scores.items()},
        }
    )


def _digest(state: Mapping[str, Any], *, whole: bool = False) -> str:
    """SHA-256 over a checkpoint's model, image size, hyperparameters and weights; the first 16 digits of it.

    With ``whole`` all digits, and over its step and the weights' types, too.
    """
    keys = ["model", "image_size", "hyperparameters", *(["step"] if whole else [])]
    digest = hashlib.sha256(json.dumps([state[key] for key in keys], sort_keys=True).encode())
    for name, tensor in sorted(state["weights"].items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode() if whole else name.encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[: None if whole else 16]
