"""Trials of a study for the terminal: a line for each, or one with its hyperparameters and its curve."""

from collections import Counter
from typing import Any

import pyarrow as pa
from rich.console import Console
from rich.table import Table

from study.display.durations import duration
from study.scoring.trial_table import STATES

PARAMS = "params_"


def list_trials(console: Console, name: str, trials: pa.Table, top: int | None = None) -> None:
    """Print a line per trial of the study ``name``, or for its ``top`` best complete ones.

    Hyperparameters are left out where the console is too narrow for them.
    """
    metric = trials.schema.metadata[b"metric"].decode()
    rows = trials.to_pylist()
    keys = [column for column in trials.column_names if column.startswith(PARAMS)]
    if console.width < 60 + 10 * len(keys):
        keys = []  # truncated figures say nothing; `show` has one trial's hyperparameters
    if top is not None:
        rows = [row for row in rows if row["state"] == "COMPLETE"][:top]
    states = Counter(row["state"] for row in rows)
    counts = ", ".join(f"{states[state]} {word}" for state, word in STATES.items() if states[state])
    table = Table(title=f"{name}: {counts or 'no trials'}", title_justify="left", title_style="bold", highlight=False)
    for heading in ("trial", "state", *metric.split(","), "step", "time"):
        table.add_column(heading, justify="left" if heading == "state" else "right", no_wrap=True)
    for key in keys:
        table.add_column(key.removeprefix(PARAMS), justify="right")
    for row in rows:
        values = [row["value"], row["second_value"]][: len(metric.split(","))]
        table.add_row(
            str(row["number"]),
            STATES[row["state"]],
            *map(figure, values),
            figure(row["step"]),
            duration(row["seconds"]),
            *(figure(row[key]) for key in keys),
        )
    console.print(table)


def show(console: Console, name: str, trials: pa.Table, number: int | None) -> None:
    """Print trial ``number`` of the study ``name``, or its best: hyperparameters beside the base's, and its curve.

    Raises ValueError if there is no such trial.
    """
    metric = trials.schema.metadata[b"metric"].decode().split(",")[0]
    rows = {row["number"]: row for row in trials.to_pylist()}
    if not rows or (number is not None and number not in rows):
        have = f"it has {min(rows)} to {max(rows)}" if rows else "it has none yet"
        raise ValueError(f"study {name} has no trial {number or 0}; {have}")
    row = rows[next(iter(rows)) if number is None else number]  # the table begins with the best
    base = rows.get(0, row)
    reached = "" if row["step"] is None else f" at step {row['step']}"
    console.print(
        f"{name}, trial {row['number']}: {STATES[row['state']]}, {metric} {figure(row['value'])}{reached}, "
        f"{duration(row['seconds'])} on {', '.join(row['hosts'] or ['no node'])}",
        highlight=False,
        soft_wrap=True,
    )
    if row["reason"]:
        console.print(f"reason: {row['reason']}", highlight=False, markup=False, soft_wrap=True)
    table = Table("hyperparameter", "value", "base (trial 0)", highlight=False)
    for key in (column for column in trials.column_names if column.startswith(PARAMS)):
        changed = row[key] != base[key]
        table.add_row(
            key.removeprefix(PARAMS), f"[bold]{figure(row[key])}[/]" if changed else figure(row[key]), figure(base[key])
        )
    console.print(table)
    if row["intermediate_steps"]:
        curve = zip(row["intermediate_steps"], row["intermediate_values"], strict=True)
        text = "  ".join(f"{step}: {figure(value)}" for step, value in curve)
        console.print(f"{metric} by report: {text}", highlight=False, soft_wrap=True)


def figure(value: Any) -> str:
    """``value`` with four significant digits; a dash for None."""
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
