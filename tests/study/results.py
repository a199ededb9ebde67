"""Results folders as a study leaves them, made in a second: a real Optuna study in a journal, scores, and pictures."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pyarrow as pa
import pyarrow.parquet as pq
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from study.scoring import ranking
from study.scoring.ranking import Finalist, Run
from trainables import pictures

CONFIG = {
    "model": "space",
    "data": "synthetic",
    "size": 32,
    "preset": "tiny",
    "steps": 400,
    "metric": "mIoU_fg",
    "seed": 3,
    "micro_batch": None,
    "set": {"optimizer": "adam", "grad_clip": None},
}
RECORD = {
    "config": CONFIG,
    "direction": "max",
    "storage": None,
    "versions": {"torch": "2.13.0", "optuna": "5.0.0"},
    "git": "0123456789ab+",
    "data": {"incomplete": True, "notices": ["clevrtex:camo is absent"], "counts": {"train": 4000}},
    "timing": {"sessions": [{"wall_s": 7000.0, "busy_s": 6000.0, "at_a_time": 1}], "busy_share": 0.857},
}
SEEDS = (11, 12)
SCORES = {
    "baseline_grid_4x4": (0.2,),
    "base": (0.35, 0.41),
    "trial_0002": (0.6, 0.64),
    "trial_0005": (0.4, 0.5),
    "baseline_background": (0.0,),
}
"""Entry -> mIoU_fg of the first image on test, with each of SEEDS."""
FINALISTS = [
    Finalist("trial_0005", 5, (Run(11, "finalists/trials/trial_0001", 0.7), Run(12, "...", 0.72))),
    Finalist("trial_0002", 2, (Run(11, "finalists/trials/trial_0000", 0.6), Run(12, "...", 0.65))),
    Finalist("base", 0, (Run(11, "finalists/trials/trial_0002", 0.61), Run(12, "...", 0.6))),
]
"""On validation images trial 5 is better than trial 2."""


def evaluation(entries: Mapping[str, Sequence[float]], images: int = 6) -> pa.Table:
    """Scores of ``entries`` on two splits; ``outd`` has one image without foreground."""
    rows = []
    for split, offset in (("outd", -0.1), ("test", 0.0)):  # not in the order of the tables
        for entry, levels in entries.items():
            baseline = entry.startswith("baseline_")
            trial = int(entry[6:]) if entry.startswith("trial") else None if baseline else 0
            for seed, level in zip((None,) if baseline else SEEDS, levels, strict=False):
                for image in range(images):
                    empty = split == "outd" and image == 2
                    score = math.nan if empty else level + offset + 0.01 * image
                    rows.append({"entry": entry, "trial": trial, "seed": seed, "split": split, "image": image})
                    rows[-1] |= {"mIoU_fg": score, "ARI_FG": score, "mIoU": 0.9, "MSE": 200 * (1 - level)}
    return pa.Table.from_pylist(rows)


FIGURES = {"seg_largest": 0.1, "seg_segments": 9.0, "seg_kmeans": 0.2, "seg_previous": 0.83, "seg_found": 0.12}
FIGURES |= {"seg_merged": 0.05, "seg_split": 0.15}
"""Means of an entry that tiles the images."""


def with_figures(table: pa.Table, **finds: float) -> pa.Table:
    """``table`` with the columns that scores of an earlier version lack. Its entries tile the images, but those in
    ``finds``, which find that share of the objects."""
    entries = table["entry"].to_pylist()
    for name, value in ({"mBO_fg": 0.3, "mBO": 0.4, "ARI": 0.5} | FIGURES).items():
        values = [finds.get(entry, value) if name == "seg_found" else value for entry in entries]
        table = table.append_column(name, pa.array(values, pa.float64()))
    return table


def objective(trial: optuna.Trial) -> float:
    """A curve of four reports; trials 3 and 6 are pruned, trial 4 fails."""
    lr = trial.suggest_float("lr", 1e-5, 1e-2, log=True)
    slots = trial.suggest_int("num_slots", 4, 12)
    trial.suggest_categorical("kernel", [3, "<b>wide</b>", None])
    value = 0.0
    for step in range(1, 5):
        value = 0.2 * step - abs(math.log10(lr) + 3.4) / 10 + slots / 200
        trial.report(value, step)
        if trial.number > 2 and step == 2 and trial.number % 3 == 0:
            raise optuna.TrialPruned
    if trial.number == 4:
        trial.set_user_attr("reason", "loss is nan at step 120 </script>")
        raise FloatingPointError
    trial.set_user_attr("progress", {"seconds": 75.0, "step": 400, "validation": {"mIoU_fg": value}})
    return value


def open_study(folder: Path, directions: Sequence[str] = ("maximize",)) -> optuna.Study:
    """A new Optuna study in the journal of ``folder``."""
    return optuna.create_study(
        study_name=folder.name,
        storage=JournalStorage(JournalFileBackend(str(folder / "optuna.journal"))),
        directions=directions,
        sampler=optuna.samplers.RandomSampler(seed=0),
    )


def reopened(folder: Path) -> optuna.Study:
    """The same study, as another process opens it to go on."""
    storage = JournalStorage(JournalFileBackend(str(folder / "optuna.journal")))
    return optuna.load_study(study_name=folder.name, storage=storage)


def write_finished(folder: Path) -> None:
    """A study of nine trials (complete, pruned, failed, and one left running) with all of its files but the report."""
    (folder / "pictures").mkdir(parents=True)
    (folder / "study.json").write_text(json.dumps(RECORD))
    study = open_study(folder)
    study.optimize(objective, n_trials=8, catch=FloatingPointError)
    study.ask()
    pq.write_table(evaluation(SCORES), folder / "evaluation.parquet")
    for entry in ("trial_0002", "trial_0005", "baseline_grid_4x4"):
        png = pictures.encode_png(np.full((4, 6, 3), len(entry), np.uint8))
        (folder / "pictures" / f"{entry}_test.png").write_bytes(png)
    ranking.write(folder, FINALISTS, asked={"finalists": 3, "seeds": 2})
    (folder / "best.json").write_text("{}")


COMPARED_SPLITS = ("test", "outd", "camo")


def write_scored(
    results: Path,
    model: str,
    levels: dict[str, float] | None = None,
    best: int | str | None = None,
    data: str = "synthetic:plain",
    fingerprint: str = "abc",
    name: str | None = None,
) -> Path:
    """What a comparison reads of a study: ``levels`` is entry -> mIoU_fg on test, 0.1 less on each further split.

    The number ``best`` instead of an entry makes files as earlier versions wrote them. Of an entry there are two seeds.
    """
    folder = results / (name or f"{model}-plain")
    folder.mkdir()
    record = {"config": {"model": model, "data": data, "size": 32}, "data": {"fingerprint": fingerprint}}
    (folder / "study.json").write_text(json.dumps(record))
    states = ["COMPLETE", "COMPLETE", "PRUNED", "FAIL"]
    pq.write_table(pa.table({"number": [3, 1, 0, 2], "state": states}), folder / "trials.parquet")
    if levels is None:
        return folder
    rows = []
    for entry, level in levels.items():
        trial = int(entry[6:]) if entry.startswith("trial") else None
        for i, split in enumerate(COMPARED_SPLITS):
            for image in range(2):
                value = level - 0.1 * i + (0.02 if image else -0.02)
                rows.append({"entry": entry, "trial": trial, "split": split, "image": image})
                rows[-1] |= {"mIoU_fg": value, "ARI_FG": 1 - value, "MSE": 10 * value}
                if isinstance(best, str) and not entry.startswith("baseline_"):
                    rows[-1]["seed"] = SEEDS[0]
                    rows.append(rows[-1] | {"seed": SEEDS[1], "mIoU_fg": value + 0.02})
    pq.write_table(pa.Table.from_pylist(rows), folder / "evaluation.parquet")
    (folder / "best.json").write_text(json.dumps({"entry" if isinstance(best, str) else "trial": best}))
    (folder / "pictures").mkdir()
    winner = best if isinstance(best, str) else f"trial_{best:04d}"
    for split in COMPARED_SPLITS:
        png = pictures.encode_png(np.full((4, 4, 3), len(model), np.uint8))
        (folder / "pictures" / f"{winner}_{split}.png").write_bytes(png)
    return folder


def write_three(results: Path) -> list[Path]:
    """Studies of three models, of which the last has no scores yet."""
    baseline = {"baseline_grid_4x4": 0.3}
    return [
        write_scored(results, "space", {"trial_0001": 0.4, "trial_0003": 0.9, **baseline}, best=1),
        write_scored(results, "gnm", {"trial_0000": 0.5, **baseline}, best=0),
        write_scored(results, "iodine"),
    ]


LEVELS = (0.61, 0.49, 0.15)
"""mIoU_fg on three places of a curve."""


def write_curve(folder: Path, winner: str, labels: Sequence[str] = ("0", "0.2", "1")) -> dict[str, Any]:
    """``curve.parquet`` of a study in ``folder``, and what its study.json says of it, which is also returned.

    The second place is that of training; each has an image without foreground.
    """
    rows = []
    for entry, share in ((winner, 1.0), ("baseline_kmeans", 1 / 3), ("baseline_grid_4x4", 0.5)):
        seed = None if entry.startswith("baseline_") else SEEDS[0]
        for label, level in zip(labels, LEVELS, strict=True):
            for value in (level - 0.1, math.nan, level + 0.1):
                rows.append({"entry": entry, "seed": seed, "split": label, "mIoU_fg": share * value})
    pq.write_table(pa.Table.from_pylist(rows), folder / "curve.parquet")
    path = folder / "study.json"
    record = json.loads(path.read_text()) if path.exists() else {}
    record["curve"] = {"axis": "strength of texture", "labels": list(labels), "own": labels[1]}
    path.write_text(json.dumps(record))
    return record
