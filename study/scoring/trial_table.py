"""trials.parquet: what Optuna knows about the trials of a study, one row each."""

import json
import math
from pathlib import Path

import optuna
import pyarrow as pa
import pyarrow.parquet as pq
from optuna.trial import FrozenTrial, TrialState

from data import atomic
from study.search import goals
from study.search.rungs import pauses

TRIAL_SCHEMA = pa.schema(
    [
        ("number", pa.int64()),
        ("state", pa.string()),
        ("value", pa.float64()),
        ("second_value", pa.float64()),
        ("step", pa.int64()),
        ("seconds", pa.float64()),
        ("hosts", pa.list_(pa.string())),
        ("gpu_gib", pa.float64()),
        ("start", pa.timestamp("us")),
        ("complete", pa.timestamp("us")),
        ("reason", pa.string()),
        ("intermediate_steps", pa.list_(pa.int64())),
        ("intermediate_values", pa.list_(pa.float64())),
    ]
)
"""The columns before the hyperparameters. ``state`` is Optuna's name of it or PAUSED, ``second_value`` the value by the
second goal if there is one, ``seconds`` the time in training and validation, ``hosts`` the nodes that the trial ran
on, in their order, ``gpu_gib`` the peak of GPU memory in tensors."""

STATES = {
    "COMPLETE": "complete",
    "PRUNED": "pruned",
    "PAUSED": "paused",
    "RUNNING": "running",
    "WAITING": "waiting",
    "FAIL": "failed",
}
"""Optuna's states of a trial, and PAUSED, in our words, in the order of the table."""

ENDED = ("COMPLETE", "PRUNED", "FAIL")
"""States of a trial that has ended."""


def trial_table(study: optuna.Study) -> pa.Table:
    """One row per trial, by state as in :data:`STATES`, within each the best value first.

    Columns as in :data:`TRIAL_SCHEMA`, then the searched hyperparameters as ``params_<name>``; a column of
    mixed types is JSON text.
    """
    rungs = study.user_attrs.get("rungs", [])
    states = {trial.number: _state(trial, rungs) for trial in study.get_trials(deepcopy=False)}
    trials = sorted(
        study.get_trials(deepcopy=False), key=lambda trial: _rank(trial, states[trial.number], goals.maximizes(study))
    )
    rows = [
        {
            **trial.user_attrs.get("progress", {}),  # step, seconds, hosts and gpu_gib; the schema leaves out the rest
            "number": trial.number,
            "state": states[trial.number],
            "value": goals.first(trial),
            "second_value": goals.second(trial),
            "start": trial.datetime_start,
            "complete": trial.datetime_complete,
            "reason": trial.user_attrs.get("reason") or _waits(trial),
            "intermediate_steps": sorted(trial.intermediate_values),
            "intermediate_values": [value for _, value in sorted(trial.intermediate_values.items())],
        }
        for trial in trials
    ]
    table = pa.Table.from_pylist(rows, schema=TRIAL_SCHEMA)
    for name in sorted({name for trial in trials for name in trial.params}):
        values = [trial.params.get(name) for trial in trials]
        try:
            column = pa.array(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError):  # which of the two depends on the order of the types
            column = pa.array([json.dumps(t.params[name]) if name in t.params else None for t in trials])
        table = table.append_column(f"params_{name}", column)
    return table


def write_trials(study: optuna.Study, folder: Path) -> pa.Table:
    """Write :func:`trial_table` to ``folder``/trials.parquet, in one step, and return it."""
    table = trial_table(study)
    with atomic.replacing(folder / "trials.parquet") as partial:
        pq.write_table(table, partial)
    return table


def read_trials(folder: Path) -> list[tuple[int, str]]:
    """Number and state of the trials in ``folder``/trials.parquet, in its order; none if it is missing or damaged."""
    try:
        table = pq.read_table(folder / "trials.parquet", columns=["number", "state"])
    except (OSError, pa.ArrowInvalid):
        return []
    return list(zip(table["number"].to_pylist(), table["state"].to_pylist(), strict=True))


def _state(trial: FrozenTrial, rungs: list[int]) -> str:
    promoted = trial.user_attrs.get("promoted", 0)
    paused = trial.state == TrialState.RUNNING and pauses(trial.last_step, promoted, rungs)
    return "PAUSED" if paused else trial.state.name


def _waits(trial: FrozenTrial) -> str | None:
    """Why a trial that has not ended waits for the next session, if it does."""
    return trial.user_attrs.get("waits") if trial.state == TrialState.RUNNING else None


def _rank(trial: FrozenTrial, state: str, maximize: bool) -> tuple:
    value = goals.first(trial)
    loss = math.inf if value is None else -value if maximize else value
    return list(STATES).index(state), loss, trial.number
