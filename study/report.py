"""The report of a study, rebuilt from its results folder alone, at any time: tables, plots, pictures.

python study/report.py results/<study>
"""

import sys
from pathlib import Path

if __name__ == "__main__":  # the checkout in place of study/, whose modules must not hide others
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import json
import math
import os
import shlex
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import optuna
import pyarrow as pa
import pyarrow.parquet as pq
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from study.display import pages
from study.results_folder import StudyFolder
from study.scoring.leaderboard import (
    FRACTIONS,
    Row,
    entry_name,
    footnotes,
    leaderboard,
    markdown,
    print_table,
    sections,
)
from study.search import storage

TRIAL_SCHEMA = pa.schema(
    [
        ("number", pa.int64()),
        ("state", pa.string()),
        ("value", pa.float64()),
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
"""Columns of trials.parquet before the hyperparameters; ``seconds`` are those of training and validation,
``hosts`` those that the trial ran on, one after the other, ``gpu_gib`` the most GPU memory that tensors took."""

STATE_ORDER = [
    TrialState.COMPLETE,
    TrialState.PRUNED,
    TrialState.RUNNING,
    TrialState.WAITING,
    TrialState.FAIL,
]
PLOT_CONFIG = {"displayModeBar": False, "responsive": True}
MANY = 6
"""Hyperparameters that a plot with one axis for each still shows legibly."""


def load_study(folder: Path) -> optuna.Study:
    """The Optuna study of a results folder: from the storage that study.json names, else from its journal.

    Raises ValueError if there is none, or if the storage cannot be opened.
    """
    url = read_record(folder).get("storage")
    journal = folder / "optuna.journal"
    if url is None and not journal.exists():
        raise ValueError(f"{journal} is missing; run the study first, or restore the file")
    opened = storage.open_storage(StudyFolder(folder), url)
    try:
        return optuna.load_study(study_name=folder.name, storage=opened)
    except KeyError as error:
        raise ValueError(f"{url or journal} holds no study {folder.name!r}; was the folder renamed?") from error


def trial_table(study: optuna.Study) -> pa.Table:
    """One row per trial, best first within complete, pruned, running, waiting and failed.

    Columns as in :data:`TRIAL_SCHEMA`, then the searched hyperparameters as ``params_<name>``; a column of
    mixed types is JSON text.
    """
    trials = sorted(study.get_trials(deepcopy=False), key=lambda trial: _rank(trial, study.direction))
    rows = [
        {
            "number": trial.number,
            "state": trial.state.name,
            "value": trial.value,
            "step": trial.user_attrs.get("progress", {}).get("step"),
            "seconds": trial.user_attrs.get("progress", {}).get("seconds"),
            "hosts": trial.user_attrs.get("progress", {}).get("hosts"),
            "gpu_gib": trial.user_attrs.get("progress", {}).get("gpu_gib"),
            "start": trial.datetime_start,
            "complete": trial.datetime_complete,
            "reason": trial.user_attrs.get("reason"),
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
        except (pa.ArrowInvalid, pa.ArrowTypeError):  # which of them depends on the order of the types
            column = pa.array([json.dumps(t.params[name]) if name in t.params else None for t in trials])
        table = table.append_column(f"params_{name}", column)
    return table


def write_trials(study: optuna.Study, folder: Path) -> pa.Table:
    """Write :func:`trial_table` to ``folder``/trials.parquet, replacing it in one step, and return it."""
    table = trial_table(study)
    partial = folder / "trials.parquet.partial"
    pq.write_table(table, partial)
    os.replace(partial, folder / "trials.parquet")
    return table


def write(folder: Path, console: Console | None = None) -> Path:
    """Write trials.parquet and report.html of the study in ``folder`` and return the path of the latter.

    With ``console``, print the leaderboard there. What a study that was stopped early lacks (scores, pictures, even
    completed trials) is left out and named. Raises ValueError if ``folder`` holds no study.
    """
    record, study = read_record(folder), load_study(folder)
    config, data = record["config"], record.get("data") or {}
    trials = write_trials(study, folder).to_pylist()
    rows, failures, missing = read_leaderboard(folder), _failures(trials), _missing(folder, trials)
    fragments = [
        pages.headline(
            f"{config['model']} on {config['data']}",
            {
                "study": folder.name,
                "preset": config["preset"],
                "size": f"{config['size']}x{config['size']}",
                "steps": config["steps"],
                "seed": config["seed"],
                "date": max(
                    (f"{t['complete'] or t['start']:%Y-%m-%d %H:%M}" for t in trials if t["start"]), default=""
                ),
                "git": record.get("git"),
                **(record.get("versions") or {}),
            },
        ),
        pages.numbers(_numbers(study, trials, config["metric"], record.get("timing") or {})),
    ]
    if failures:
        fragments.append(pages.section("Failed trials", pages.failures(failures)))
    remarks = [*footnotes(rows, bool(data.get("incomplete"))), *data.get("notices", [])]
    tables = [pages.leaderboard(sections(rows, config["size"]))] if rows else []
    fragments.append(pages.section("Leaderboard", *tables, pages.notes([*missing, *remarks])))
    if pictures := read_pictures(folder, rows):
        fragments.append(pages.section("Pictures", pages.pictures(pictures)))
    fragments.append(pages.section("Trials", pages.trials(trials, config["metric"])))
    drawn, left_out, script = _plots(study, config["metric"])
    fragments.append(pages.section("Search", pages.plots(drawn), pages.notes(left_out)))
    fragments.append(pages.section("Configuration", pages.key_values(config)))
    fragments.append(pages.section("How to reproduce", pages.code(command(folder, record, len(trials)))))
    path = folder / "report.html"
    partial = folder / "report.html.partial"
    partial.write_text(pages.page(f"{folder.name} - clevrtune", fragments, script))
    os.replace(partial, path)
    if console is not None:
        print_table(console, rows, config["size"], bool(data.get("incomplete")))
        failed = [f"failed, {count} x: {reason}" for reason, count in failures.items()]
        for line in (*missing, *failed):
            console.print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)
    return path


def read_leaderboard(folder: Path) -> list[Row]:
    """The leaderboard of ``folder``/evaluation.parquet; empty before the final stage."""
    path = folder / "evaluation.parquet"
    return leaderboard(pq.read_table(path)) if path.exists() else []


def read_pictures(folder: Path, rows: Sequence[Row]) -> dict[str, list[tuple[str, bytes]]]:
    """PNG files of the final stage as split -> (entry, bytes), in the order of the leaderboard's ``rows``."""
    found: dict[str, list[tuple[str, bytes]]] = {}
    named = {path.stem: path for path in (folder / "pictures").glob("*.png")}
    entries = {entry_name(stem.rpartition("_")[0]): stem.rpartition("_")[0] for stem in sorted(named)}
    for row in rows:
        path = named.get(f"{entries.get(row.entry)}_{row.split}")
        if path is not None:
            found.setdefault(row.split, []).append((row.entry, path.read_bytes()))
    return found


def command(folder: Path, record: Mapping[str, Any], trials: int) -> str:
    """The lines that run the study again, with as many ``trials``, from a checkout."""
    lines = [f"git checkout {record['git'].rstrip('+')}"] if record.get("git") else []
    words = ["python", "study/run.py", "--name", folder.name, "--trials", str(trials)]
    for key, value in record["config"].items():
        if key == "set":
            for name, fixed in value.items():
                words += ["--set", f"{name}={'none' if fixed is None else fixed}"]
        elif key != "size" and value is not None:  # the data's name or the preset brings the size
            words += [f"--{key.replace('_', '-')}", str(value)]
    return "\n".join([*lines, shlex.join(words)])


def read_record(folder: Path) -> dict[str, Any]:
    """The contents of ``folder``/study.json. Raises ValueError if it is missing or damaged."""
    record = StudyFolder(folder).read() if folder.is_dir() else None
    if record is None:
        raise ValueError(f"{folder} holds no study.json; give the folder of a study below results/")
    return record


def main(arguments: Sequence[str] | None = None) -> int:
    """Rebuild the report and print the leaderboard; returns the exit status, 2 if there is no study."""
    parser = argparse.ArgumentParser(
        prog="python study/report.py", description="Rebuild the report of a study from its results folder."
    )
    parser.add_argument("folder", type=Path, help="folder of a study, e.g. results/space-synthetic-tiny")
    parser.add_argument("--markdown", action="store_true", help="print the leaderboard as Markdown")
    options = parser.parse_args(arguments)
    folder = options.folder.resolve()
    errors = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    try:
        path = write(folder, None if options.markdown else Console())
        if options.markdown:
            record = read_record(folder)
            incomplete = bool((record.get("data") or {}).get("incomplete"))
            print(markdown(read_leaderboard(folder), record["config"]["size"], incomplete), end="")
    except ValueError as error:
        errors.print(f"error: {error}")
        return 2
    errors.print(f"report: {path}")
    return 0


def _rank(trial: FrozenTrial, direction: optuna.study.StudyDirection) -> tuple:
    sign = -1 if direction == optuna.study.StudyDirection.MAXIMIZE else 1
    value = math.inf if trial.value is None else sign * trial.value
    return STATE_ORDER.index(trial.state), value, trial.number


def _failures(trials: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Reason -> number of trials that failed for it, the most frequent first."""
    reasons = Counter(trial["reason"] or "no reason recorded" for trial in trials if trial["state"] == "FAIL")
    return dict(reasons.most_common())


def _missing(folder: Path, trials: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line on the files that the final stage would have written and why they are not there, or none."""
    absent = [name for name in ("evaluation.parquet", "best.json") if not (folder / name).exists()]
    if not absent:
        return []
    if any(trial["state"] == "COMPLETE" for trial in trials):
        why = "the best trials are not all scored yet; run the study's command again"
    else:
        why = "no trial has completed yet; run the study's command again, with more --trials or --hours"
    return [f"no {' and no '.join(absent)}: {why}"]


def _numbers(
    study: optuna.Study, trials: Sequence[Mapping[str, Any]], metric: str, timing: Mapping[str, Any]
) -> dict[str, str]:
    """The large figures at the top of the page."""
    states = Counter(trial["state"] for trial in trials)
    figures = {"trials complete": str(states["COMPLETE"]), "pruned": str(states["PRUNED"])}
    figures["failed"] = str(states["FAIL"])
    if states["RUNNING"]:
        figures["running or interrupted"] = str(states["RUNNING"])
    if states["COMPLETE"]:
        best = study.best_trial
        shown = f"{best.value:.1%}" if metric in FRACTIONS else f"{best.value:.4g}"
        figures = {f"best {metric} on validation, trial {best.number}": shown} | figures
    if sessions := timing.get("sessions"):
        figures["wall time of tuning"] = pages.duration(sum(session["wall_s"] for session in sessions))
    if timing.get("busy_share") is not None:
        figures["of the time in training and validation"] = f"{timing['busy_share']:.0%}"
    return figures


def _plots(study: optuna.Study, metric: str) -> tuple[list[tuple[str, str, bool]], list[str], list[str]]:
    """Optuna's plots as (title, HTML, full width?), remarks on those left out, and the script they need."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        return [], ["The plots need a package: pip install 'clevrtune[report]'"], []
    draw = optuna.visualization
    important = _important(study)
    named, few = {"target_name": metric}, {"target_name": metric, "params": important}
    suffix = "" if important is None or len(important) < MANY else f", the {MANY} most important"
    wanted: list[tuple[str, Any, dict[str, Any], bool]] = [
        ("Optimisation history", draw.plot_optimization_history, named, False),
        ("Intermediate values", draw.plot_intermediate_values, {}, False),
        ("Hyperparameter importances", draw.plot_param_importances, named, False),
        ("Timeline", draw.plot_timeline, {}, False),
        (f"Parallel coordinates{suffix}", draw.plot_parallel_coordinate, few, True),
        (f"Slices{suffix}", draw.plot_slice, few, True),
    ]
    drawn, missing = [], []
    for title, plot, arguments, wide in wanted:
        with _quiet():
            try:
                figure = plot(study, **arguments)
            except (ValueError, RuntimeError, ZeroDivisionError):
                figure = None
        if figure is None or not figure.data:
            missing.append(f"{title}: too few trials yet")
            continue
        _style(figure)
        html = figure.to_html(full_html=False, include_plotlyjs=False, config=PLOT_CONFIG)
        drawn.append((title, html, wide))
    return drawn, missing, [get_plotlyjs()] if drawn else []


def _important(study: optuna.Study) -> list[str] | None:
    """The most important hyperparameters, at most :data:`MANY`; None while that cannot be said."""
    with _quiet():
        warnings.simplefilter("error", UserWarning)  # Optuna calls all equal where trials are too few
        try:
            return list(optuna.importance.get_param_importances(study))[:MANY]
        except (ValueError, RuntimeError, UserWarning):
            return None


def _style(figure: Any) -> None:
    """Fit ``figure`` into a card: dark on transparent, which the page's style inverts in dark mode."""
    grid = "rgba(128, 136, 150, 0.25)"
    figure.update_layout(
        title=None,
        width=None,  # that of the card
        height=380,
        margin={"l": 60, "r": 30, "t": 30, "b": 50},
        legend={"orientation": "h", "y": 1.12},
        paper_bgcolor="rgba(0, 0, 0, 0)",
        plot_bgcolor="rgba(0, 0, 0, 0)",
        font={"color": "#475467", "family": "system-ui, sans-serif"},
    )
    figure.update_xaxes(gridcolor=grid, zerolinecolor=grid)
    figure.update_yaxes(gridcolor=grid, zerolinecolor=grid)


@contextmanager
def _quiet() -> Iterator[None]:
    """Within this context Optuna does not talk about studies that are still small."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)


if __name__ == "__main__":
    sys.exit(main())
