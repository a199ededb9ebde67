"""The Pareto front of a study with two goals, as a table of the report."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from study.display import pages

PREFIX = "params_"
"""How the columns of hyperparameters begin in the table of trials."""


def front_table(trials: Sequence[Mapping[str, Any]], front: Sequence[int], goals: Sequence[str]) -> str:
    """A table of the trials ``front``, in this order, by both ``goals``, with the hyperparameters that set them apart.

    ``trials`` are rows of trials.parquet. The last row is the base, trial 0, if it is complete and not on the front;
    hyperparameters in which all rows agree are left out.
    """
    complete = {row["number"]: row for row in trials if row["state"] == "COMPLETE"}
    numbers = [*front, *([0] if 0 in complete and 0 not in front else [])]
    rows = [complete[number] for number in numbers]
    keys = [key for key in rows[0] if key.startswith(PREFIX)] if rows else []
    apart = [key for key in keys if len({json.dumps(row[key]) for row in rows}) > 1]
    body = []
    for row in rows:
        name = f"trial {row['number']}" if row["number"] else "base" if 0 in front else "base (beaten)"
        values = f"{row['value']:.4f}", amount(goals[1], row["second_value"])
        body.append([name, *values, *(_text(row[key]) for key in apart)])
    return pages.grid(["", *goals, *(key.removeprefix(PREFIX) for key in apart)], body, name="front")


def front_notes(trials: Sequence[Mapping[str, Any]], goals: Sequence[str]) -> list[str]:
    """What a reader must know of the front of both ``goals``; ``trials`` are rows of trials.parquet."""
    values = [row["second_value"] for row in trials if row["state"] == "COMPLETE"]
    same = [f"all trials have the same {goals[1]}: nothing that is searched changes it"]
    seconds = ["seconds are the wall time of training: they compare trials on the same machine and share of it only"]
    return [
        f"of these the final stage retrains those with the best {goals[0]}, and {goals[0]} alone chooses the winner",
        *(same if len(values) > 1 and len(set(values)) == 1 else []),
        *(seconds if goals[1] == "seconds" else []),
    ]


def amount(goal: str, value: float) -> str:
    """``value`` by a second ``goal`` as text."""
    return f"{value:,.0f}" if goal == "parameters" else f"{value:.1f}" if goal == "seconds" else f"{value:.4f}"


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)
