"""The trials of a study, one row each, and what was learnt about its hyperparameters, in its report."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from study.display import pages
from study.display.durations import duration
from study.display.page_table import Cell, Table, csv_text, figure
from study.scoring import importance
from study.scoring.leaderboard import FRACTIONS
from study.scoring.trial_table import STATES

MOST = 500
"""So many trials are shown, lest the page becomes too large to send around; its CSV has all."""

FAILED = 100
"""So many of the shown trials may be failed ones, which are the last of the table."""


def trials_table(rows: Sequence[Mapping[str, Any]], goals: Sequence[str]) -> str:
    """A table of trials that sorts by a click on a heading; ``goals`` names their values, one or two.

    Each row has the columns of trials.parquet: number, state, value, second_value, step, seconds, reason,
    intermediate_values and the searched hyperparameters as ``params_<name>``. Of more than :data:`MOST` the best are
    shown, and some that failed.
    """
    if len(rows) <= MOST:
        return _table(rows, goals).html()
    failed = [row for row in rows if row["state"] == "FAIL"][:FAILED]
    others = [row for row in rows if row["state"] != "FAIL"][: MOST - len(failed)]
    shown = replace(_table([*others, *failed], goals), saved=_csv(rows, goals))
    said = f"the best {len(others):,} of {len(rows):,} trials, and {len(failed):,} that failed; the CSV has all"
    return shown.html() + pages.notes([said])


def unit(goals: Sequence[str]) -> list[str]:
    """A line on values of trials, which are shown as they are stored."""
    fractions = [goal for goal in goals if goal in FRACTIONS]
    return [f"{' and '.join(fractions)} on validation images, from 0 to 1"] if fractions else []


def _csv(rows: Sequence[Mapping[str, Any]], goals: Sequence[str]) -> str:
    names = [key for key in rows[0] if key.startswith("params_")]
    second = ["second_value"] * (len(goals) - 1)
    heads = ["trial", "state", *goals, "step", "seconds", "reason", *(name.removeprefix("params_") for name in names)]
    columns = ["number", "state", "value", *second, "step", "seconds", "reason", *names]
    lines = [
        [_brief(STATES.get(row[key], row[key]) if key == "state" else row[key]) for key in columns] for row in rows
    ]
    return csv_text(heads, lines)


def _brief(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value


def _table(rows: Sequence[Mapping[str, Any]], goals: Sequence[str]) -> Table:
    names = [key for key in (rows[0] if rows else {}) if key.startswith("params_")]
    reasons = any(row["reason"] for row in rows)
    heads = ["trial", "state", *goals, "curve", "step", "time", *["reason"] * reasons]
    heads += [name.removeprefix("params_") for name in names]
    body = []
    for row in rows:
        state = STATES[row["state"]]
        body.append(
            [
                figure(row["number"]),
                Cell(state, markup=f'<span class="state {state}">{state}</span>'),
                figure(row["value"], "%.4f"),
                *(figure(row["second_value"], "%.6g") for _ in goals[1:]),
                Cell("", "", markup=_curve(row["intermediate_values"])),
                figure(row["step"]),
                Cell(duration(row["seconds"]), row["seconds"] or ""),
                *([Cell(row["reason"] or "", style="reason")] if reasons else []),
                *(figure(row[name], "%.3g") for name in names),
            ]
        )
    return Table(heads, body, "trials", scroll=True)


def importance_section(learnt: Sequence[importance.Level], goals: Sequence[str]) -> str:
    """A section with importances per report, and what is not known; nothing if nothing was learnt."""
    if not learnt:
        return ""
    known = [level for level in learnt if level.importances]
    keys = dict.fromkeys(key for level in reversed(known) for key in level.importances or {})
    heads = ["share of importance", *(f"report {level.report} of {level.reports}" for level in known)]
    rows = [["trials", *(str(level.trials) for level in known)]]
    rows += [[key, *(f"{(level.importances or {}).get(key, 0.0):.0%}" for level in known)] for key in keys]
    table = [pages.grid(heads, rows, name="importance")] if known else []
    about = [f"importance for {goals[0]} alone, the first goal"] if len(goals) > 1 else []
    said = pages.notes([*importance.unknown(learnt), *importance.carried(learnt), *about])
    return pages.section("Importance", *table, said)


def _curve(values: Sequence[float]) -> str:
    """The intermediate values of a trial as a small line, scaled to their own range."""
    finite = [value for value in values if value is not None and abs(value) < float("inf")]
    if len(finite) < 2:
        return ""
    low, span = min(finite), (max(finite) - min(finite)) or 1.0
    points = " ".join(
        f"{3 + 84 * i / (len(finite) - 1):.0f},{19 - 16 * (value - low) / span:.0f}" for i, value in enumerate(finite)
    )
    line = f'<polyline points="{points}" fill="none" stroke="currentColor" stroke-width="1.5"/>'
    return f'<svg class="curve" viewBox="0 0 90 22" aria-hidden="true">{line}</svg>'
