"""What a study found, at the top of its report: the best hyperparameters against the base, scores, and files."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from study.display import pages
from study.display.pages import Cell
from study.scoring.leaderboard import BRIEF, TITLES, Row, between, cell, entry_name
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


def best_section(
    name: str, record: Mapping[str, Any], best: Mapping[str, Any], trials: Sequence[Mapping[str, Any]]
) -> list[str]:
    """The best hyperparameters against the base's, and where the weights are: fragments, none without a trial.

    ``trials`` are rows of trials.parquet, ``best`` is best.json; without it the best complete trial is shown. ``name``
    is the study's.
    """
    base = dict(record.get("base") or {})
    searched = dict.fromkeys([*(record.get("ranges") or {}), *_params(trials[0])]) if trials else {}
    if best.get("hyperparameters"):
        chosen, who = best["hyperparameters"], entry_name(best.get("entry", BASE))
    elif trials and trials[0]["state"] == "COMPLETE":
        chosen, who = {**base, **_params(trials[0])}, f"trial {trials[0]['number']}"
    else:
        return []
    base = base or next((_params(trial) for trial in trials if trial["number"] == 0), {})
    keys = [key for key in chosen if key in searched]
    others = [key for key in chosen if key not in searched]
    changed = [key for key in others if key in base and base[key] != chosen[key]]
    main = [_hyperparameter(key, chosen, base, record.get("ranges") or {}) for key in [*keys, *changed]]
    heads = ["hyperparameter", who, "base", "searched"]
    marks = ["changed" if row[1].bold else "" for row in main]
    fragments = [
        pages.table(heads, main, name="best_hyperparameters", title=f"Hyperparameters of {who}", classes=marks)
    ]
    rest = {key: chosen[key] for key in others if key not in changed}
    if rest:
        fragments.append(pages.folded(f"{len(rest)} more, as in the base", pages.key_values(rest)))
    if not best.get("hyperparameters"):
        return fragments
    model, size = best["model"], best["image_size"]
    files = {
        "weights": f"best/{model}.safetensors",
        "configuration": f"best/{model}.json",
        "model card": "best/README.md",
        "seed": str(best.get("seed", "")),
        "training step": str(best.get("step", "")),
    }
    load = LOAD.format(folder=f"results/{name}/best", step=best.get("step"), size=size)
    return [
        pages.cards(
            f"<div>{''.join(fragments)}</div>", f"<div>{pages.key_values(files, 'Files')}{pages.code(load)}</div>"
        ),
    ]


def scores_table(rows: Sequence[Row], finalists: Sequence[Finalist], best: Mapping[str, Any]) -> str:
    """What the winner scored on each final split beside the base; nothing before the final stage."""
    winner = entry_name(best.get("entry") or (finalists[0].entry if finalists else ""))
    lines = []
    for split in dict.fromkeys(row.split for row in rows):
        here = {row.entry: row for row in rows if row.split == split}
        if winner not in here:
            continue
        line: list[Cell | str] = [f"{TITLES.get(split, split)} ({here[winner].images:,} images)"]
        for metric in BRIEF:
            line.append(_score(metric, here[winner]))
            if winner != BASE and BASE in here:
                line.append(_score(metric, here[BASE]))
        lines.append(line)
    if not lines:
        return ""
    names = [winner, BASE] if len(lines[0]) > 1 + len(BRIEF) else [winner]
    heads = ["", *(f"{metric} {name}" for metric in BRIEF for name in names)]
    return pages.table(heads, lines, name="found", title=f"Scores of {winner}")


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
    return Cell(f"{value:.4g}" if number else pages.text(value), value if number else None, bold=bold)


def _range(found: Mapping[str, Any] | None) -> str:
    """A range of study.json as people read it."""
    if not found:
        return ""
    if "choices" in found:
        return ", ".join(map(pages.text, found["choices"]))
    words = f"{found['low']:.3g} to {found['high']:.3g}"
    return f"{words}, logarithmic" if found.get("log") else words
