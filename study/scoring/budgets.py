"""What studies cost that are compared: unequal budgets make unequal scores, so a comparison says them."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import trainables
from study.results_folder import read_record
from study.scoring import ranking


@dataclass(frozen=True)
class Budget:
    """What one study was given, and what it used."""

    preset: str
    trials: int
    """trials that have ended"""
    steps: int
    """training steps of a full trial"""
    trained: int
    """training steps of all trials of the search together"""
    finalists: int
    seeds: int
    """how often each finalist was trained anew; 1: the search's own training counts"""
    wall: float | None
    """seconds of tuning and retraining"""
    seconds: float | None
    """training and validation of the winner's trial in the search"""
    parameters: int | None
    """trainable parameters of the winner"""


ASKED = {
    "preset": "preset",
    "trials": "trials",
    "steps": "training steps of a full trial",
    "finalists": "finalists",
    "seeds": "seeds",
}
"""What of a budget a person chooses, and how people read it."""


def read(folder: Path) -> Budget:
    """The budget of the study in ``folder``. Raises ValueError if it holds none."""
    record = read_record(folder)
    config, best = record["config"], _best(folder)
    try:
        table = pq.read_table(folder / "trials.parquet")
    except (OSError, pa.ArrowInvalid):
        table = pa.table({"number": pa.array([], pa.int64()), "state": pa.array([], pa.string())})
    rows = table.select([n for n in ("number", "state", "step", "seconds") if n in table.column_names]).to_pylist()
    states = Counter(row["state"] for row in rows)
    asked = ranking.read_asked(folder)
    sessions = (record.get("timing") or {}).get("sessions") or []
    return Budget(
        preset=config.get("preset", ""),
        trials=states["COMPLETE"] + states["PRUNED"] + states["FAIL"],
        steps=config.get("steps") or 0,
        trained=sum(row.get("step") or 0 for row in rows),
        finalists=asked.get("finalists", 1),
        seeds=asked.get("seeds", 1),
        wall=sum(session["wall_s"] for session in sessions) or None,
        seconds=next((row.get("seconds") for row in rows if row["number"] == best.get("trial")), None),
        parameters=_parameters(best),
    )


def unequal(budgets: Mapping[str, Budget]) -> list[str]:
    """A line for each choice in which ``budgets``, entry -> budget, differ: what each study was given."""
    lines = []
    for key, words in ASKED.items():
        given = {entry: getattr(budget, key) for entry, budget in budgets.items()}
        if len(set(given.values())) > 1:
            by_value: dict[Any, list[str]] = {}
            for entry, value in given.items():
                by_value.setdefault(value, []).append(entry)
            said = "; ".join(f"{_said(value)} for {', '.join(entries)}" for value, entries in by_value.items())
            lines.append(f"budgets are unequal, {words}: {said}")
    return lines


def _said(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _best(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "best.json").read_text())
    except (OSError, ValueError):
        return {}


def _parameters(best: Mapping[str, Any]) -> int | None:
    """Trainable parameters of the model of best.json; None where it cannot be built, as of an earlier version."""
    try:
        model = trainables.build(best["model"], best["hyperparameters"], best["image_size"])
    except (KeyError, ValueError, TypeError):
        return None
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
