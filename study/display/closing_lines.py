"""The last lines of a study: what was found beside the base, where it lies, and what to type next."""

import dataclasses
import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data import places, plugins
from study.config import StudyConfig
from study.display.findings import Findings
from study.display.values import brief
from study.results_folder import ROOT
from study.scoring.leaderboard import FRACTIONS, KMEANS, METRICS, TITLES, cell, entry_name
from study.scoring.ranking import BASE, Finalist

Line = tuple[str, bool]
"""Text, and whether it is bold."""

LONGER = 3
"""How many times as many steps the command that trains the winner again takes."""

NOT_AGAIN = (
    *("trials", "steps", "seeds", "finalists", "name", "from_", "preset", "sampler", "pruner", "patience"),
    *("concurrent", "hours", "fresh", "dry_run", "address", "profile"),
)
"""Fields of a study that mean nothing to a single trial, or that the command has its own flags for."""


LENGTH = re.compile(r"-\d+-steps$")
"""The end of the name of a study that such a command began."""


def found_lines(found: Findings) -> list[Line]:
    """The winner's scores with their deviations beside the base's, its hyperparameters, changed ones in bold, and
    where its weights are. Empty before the end of the final stage.
    """
    if not found.best.get("hyperparameters") or found.chosen is None:
        return []
    metric, winner = found.goals[0], found.winner or BASE
    lines: list[Line] = [(f"found:  {winner if winner != BASE else 'no trial that is better than the base'}", True)]
    names = dict.fromkeys((winner, BASE, KMEANS))
    runs = {entry_name(finalist.entry): finalist for finalist in found.finalists}
    means = {name: _mean(metric, runs[name]) for name in names if name in runs}
    seeds = max((len(finalist.complete) for finalist in runs.values()), default=0)
    fresh = f", mean of {seeds} fresh seeds" if seeds > 1 else ""
    titles = {row.split: TITLES.get(row.split, row.split) for row in found.rows}
    width = max(map(len, ["validation", *titles.values()])) + 2
    lines.append((f"        {'validation:':{width}}{_beside(metric, means)}{fresh}", False))
    judged = metric if metric in METRICS or (found.rows and metric in found.rows[0].means) else METRICS[0]
    for split, title in titles.items():
        here = {row.entry: row for row in found.rows if row.split == split}
        if winner not in here:  # a split that was added before it won
            continue
        scores = {
            name: cell(judged, here[name].means[judged], here[name].stds.get(judged)) for name in names if name in here
        }
        lines.append((f"        {title + ':':{width}}{_beside(judged, scores)}", False))
    chosen = found.chosen
    if winner != BASE:
        width = max(map(len, chosen.shown), default=0)
        for key in chosen.shown:
            value, before = chosen.hyperparameters[key], chosen.base.get(key)
            changed = key in chosen.base and value != before
            told = f"{brief(value)}  (base {brief(before)})" if changed else brief(value)
            lines.append((f"        {key:{width}}  {told}", changed))
    best = found.folder / "best"
    lines.append((f"files:  {best / found.best['model']}.safetensors, {found.folder / 'best.json'}", False))
    return lines


def longer(asked: StudyConfig, preset: str, steps: int, folder: Path, *, base: bool) -> str:
    """The command that trains the winner of the study in ``folder`` once with more steps, under another name.

    ``base``: the winner is the base, which needs no earlier study. ``preset`` and ``steps`` are the study's.
    """
    more = LONGER * steps
    words = [*_typed(), "--model", asked.model]
    for one in dataclasses.fields(StudyConfig):
        value = getattr(asked, one.name)
        if one.name == "plugins":
            value = value or os.environ.get(plugins.SENT_FROM)  # a job has its files without the flag
        elif one.name == "cache" and value:
            value = places.shown(value)
        default = one.default_factory() if one.default_factory is not dataclasses.MISSING else one.default
        if one.name not in (*NOT_AGAIN, "model") and value != default:
            words += _flag(one.name, value)
    words += ["--preset", preset, "--name", f"{LENGTH.sub('', folder.name)}-{more}-steps"]
    words += [] if base else ["--from", str(folder)]
    return shlex.join([*words, *f"--trials 1 --steps {more} --seeds 1 --pruner none".split()])


def _flag(name: str, value: Any) -> Sequence[str]:
    flag = f"--{name.replace('_', '-')}"
    if name == "curve":
        return [flag if value else "--no-curve"]
    if value is True:
        return [flag]
    if isinstance(value, Mapping):
        return [word for key, one in value.items() for word in (flag, f"{key}={'none' if one is None else one}")]
    if isinstance(value, list):
        return [word for one in value for word in (flag, str(one))]
    return [flag, str(value)]


def _typed() -> list[str]:
    """How this command is typed here."""
    script = (ROOT / "setup.cfg").is_file() and Path(sys.argv[0]).name != "clevrtune"
    return ["python", "study/run.py"] if script else ["clevrtune", "run"]


def _mean(metric: str, finalist: Finalist) -> str:
    values = [run.value for run in finalist.complete if run.value is not None]
    return cell(metric, finalist.mean, float(np.std(values)) if len(values) > 1 else None)


def _beside(metric: str, scores: Mapping[str, str]) -> str:
    """The first score, and the others in parentheses with their names."""
    (_, first), *others = scores.items()
    told = ", ".join(f"{'k-means' if name == KMEANS else name} {score}" for name, score in others)
    return f"{metric} {first}{' %' if metric in FRACTIONS else ''}{f' ({told})' if told else ''}"
