"""What a study found, at the top of its report: the best hyperparameters against the base, scores, and files."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from study.display import pages
from study.display.page_table import Cell, Table, text
from study.scoring.leaderboard import BRIEF, TITLES, Row, between, cell, entry_name, unit
from study.scoring.ranking import BASE, Finalist

LOAD = """from study.scoring.evaluation import load_best

model = load_best("{folder}")  # in evaluation mode
output = model(images, step={step})  # images (B, 3, {size}, {size}) in [0, 1]
segments = output.masks.argmax(1)[:, 0]  # (B, {size}, {size})"""
"""How to use the weights, in five lines."""


def read_best(folder: Path) -> dict[str, Any]:
    """best.json of the study in ``folder``; empty before the end of its final stage."""
    try:
        found = json.loads((folder / "best.json").read_text())
    except (OSError, ValueError):
        return {}
    if "entry" not in found and "trial" in found:
        found["entry"] = f"trial_{found['trial']:04d}"  # earlier versions wrote the number alone
    return found


@dataclass(frozen=True)
class Chosen:
    """The hyperparameters that a study found, and who has them."""

    who: str
    """as people read it: trial 7"""
    hyperparameters: dict[str, Any]
    base: dict[str, Any]
    """the base's, as far as they are known"""
    searched: list[str]
    """those that the search could change"""
    ranges: dict[str, Any]
    """what study.json says of the ranges"""

    @property
    def shown(self) -> list[str]:
        """The searched ones, and others in which the base differs."""
        others = [key for key in self.hyperparameters if key not in self.searched]
        return [*self.searched, *(k for k in others if k in self.base and self.base[k] != self.hyperparameters[k])]

    def table(self) -> Table:
        """A table of :attr:`shown` beside the base's."""
        rows = [_hyperparameter(key, self.hyperparameters, self.base, self.ranges) for key in self.shown]
        marks = ["changed" if row[1].bold else "" for row in rows]
        title, heads = f"Hyperparameters of {self.who}", ["hyperparameter", self.who, "base", "searched"]
        if self.who == BASE:
            rows, heads = [[name, value, asked] for name, value, _, asked in rows], ["hyperparameter", BASE, "searched"]
        else:
            title += ", changed ones in bold"
        return Table(heads, rows, "hyperparameters", title, classes=marks)


def chosen(record: Mapping[str, Any], best: Mapping[str, Any], trials: Sequence[Mapping[str, Any]]) -> Chosen | None:
    """What a study found: by best.json, or before the end of the final stage its best complete trial.

    None without a complete trial. ``trials`` are rows of trials.parquet.
    """
    base, ranges = dict(record.get("base") or {}), dict(record.get("ranges") or {})
    if best.get("hyperparameters"):
        found, who = dict(best["hyperparameters"]), entry_name(best.get("entry", BASE))
    elif trials and trials[0]["state"] == "COMPLETE":
        found, who = {**base, **_params(trials[0])}, f"trial {trials[0]['number']}"
    else:
        return None
    base = base or next((_params(trial) for trial in trials if trial["number"] == 0), {})
    asked = dict.fromkeys([*ranges, *_params(trials[0])]) if trials else ranges
    return Chosen(who, found, base, [key for key in found if key in asked], ranges)


def best_section(name: str, found: Chosen | None, best: Mapping[str, Any], longer: str = "") -> list[str]:
    """The best hyperparameters against the base's, and where the weights are: fragments, none without a trial.

    ``best`` is best.json; ``name`` is the study's; ``longer`` is the command that trains the winner again.
    """
    if found is None:
        return []
    fragments = [found.table().html()]
    rest = {key: value for key, value in found.hyperparameters.items() if key not in found.shown}
    if rest:
        fragments.append(pages.folded(f"{len(rest)} more, as in the base", pages.key_values(rest)))
    if not best.get("hyperparameters"):
        return fragments
    model = best["model"]
    files = {
        "weights": f"best/{model}.safetensors",
        "scores": "best.json",
        "configuration": f"best/{model}.json",
        "model card": "best/README.md",
        "seed": text(best.get("seed")),
        "training step": text(best.get("step")),
    }
    again = pages.notes(["train it again with more steps:"]) + pages.code(longer) if longer else ""
    beside = f"<div>{pages.key_values(files, 'Files')}{pages.code(how_to_load(name, best))}{again}</div>"
    return [pages.cards(f"<div>{''.join(fragments)}</div>", beside)]


def how_to_load(name: str, best: Mapping[str, Any]) -> str:
    """Python lines that load and use the weights of the study ``name``."""
    return LOAD.format(folder=f"results/{name}/best", step=best.get("step"), size=best["image_size"])


def scores_table(
    rows: Sequence[Row], finalists: Sequence[Finalist], best: Mapping[str, Any], size: int
) -> Table | None:
    """What the winner scored on each final split beside the base; None before the final stage.

    ``size`` is the images' height and width in pixels.
    """
    winner = entry_name(best.get("entry") or (finalists[0].entry if finalists else ""))
    lines: list[list[object]] = []
    for split in dict.fromkeys(row.split for row in rows):
        here = {row.entry: row for row in rows if row.split == split}
        if winner not in here:
            continue
        line: list[object] = [f"{TITLES.get(split, split)} ({here[winner].images:,} images)"]
        for metric in BRIEF:
            line.append(_score(metric, here[winner]))
            if winner != BASE and BASE in here:
                line.append(_score(metric, here[BASE]))
        lines.append(line)
    if not lines:
        return None
    names = [winner, BASE] if len(lines[0]) > 1 + len(BRIEF) else [winner]
    heads = ["", *(f"{metric} {name} ({unit(metric, size)})" for metric in BRIEF for name in names)]
    return Table(heads, lines, "found", f"Scores of {winner}")


def _score(metric: str, row: Row) -> Cell:
    words = cell(metric, row.means[metric], row.stds.get(metric))
    around = row.intervals.get(metric)
    return Cell(words, row.means[metric], between(metric, around) if around else "")


def _params(trial: Mapping[str, Any]) -> dict[str, Any]:
    """The searched hyperparameters of a row of trials.parquet."""
    return {key.removeprefix("params_"): value for key, value in trial.items() if key.startswith("params_")}


def _hyperparameter(
    key: str, chosen: Mapping[str, Any], base: Mapping[str, Any], ranges: Mapping[str, Any]
) -> list[Cell]:
    """A row of the table: name, value, the base's value, the range; a value other than the base's is bold."""
    value, before = chosen[key], base.get(key)
    differs = key in base and value != before
    return [
        Cell(key),
        _value(value, bold=differs),
        _value(before) if key in base else Cell(""),
        Cell(_range(ranges.get(key))),
    ]


def _value(value: Any, *, bold: bool = False) -> Cell:
    number = isinstance(value, float)
    return Cell(f"{value:.4g}" if number else text(value), value if number else None, bold=bold)


def _range(found: Mapping[str, Any] | None) -> str:
    """A range of study.json as people read it."""
    if not found:
        return ""
    if "choices" in found:
        return ", ".join(map(text, found["choices"]))
    words = f"{found['low']:.3g} to {found['high']:.3g}"
    return f"{words}, logarithmic" if found.get("log") else words
