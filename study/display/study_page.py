"""The report of a study: report.html, made anew from the results folder alone, at any time."""

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from study.display import pages, tables
from study.display.curve_plot import curve_section
from study.display.durations import duration
from study.display.front_table import front_notes, front_table
from study.display.plain_lines import say
from study.display.plots import FRONT, search_plots
from study.results_folder import read_record, sessions
from study.scoring import curve, importance, ranking, verdict
from study.scoring.baselines import grid_note
from study.scoring.leaderboard import FRACTIONS, TITLES, Row, entry_name, footnotes, read_leaderboard, sections
from study.scoring.ranking import Finalist
from study.scoring.trial_table import write_trials
from study.search import goals as study_goals
from study.search import storage
from trainables.objectives import goals

NEEDED = ("model", "data", "size", "preset", "steps", "seed", "metric")
"""Keys of a study's config that its report shows."""

DIAGNOSED = {
    "seg_largest": "share of the largest segment",
    "seg_segments": "segments",
    "seg_kmeans": "ARI with k-means",
    "seg_previous": "ARI with the previous image's",
    "seg_found": "objects found",
    "seg_merged": "merged",
    "seg_split": "split",
}
"""The figures of a diagnosis and their headings; study/scoring/diagnosis.py defines them."""


def write(folder: Path, console: Console | None = None, url: str | None = None) -> Path:
    """Write trials.parquet and report.html of the study in ``folder`` and return the path of the latter.

    Its trials are in its journal, or in the Optuna storage at ``url``. With ``console``, print the leaderboard there.
    What an unfinished study lacks (scores, pictures, even complete trials) is left out and named. Raises ValueError if
    ``folder`` holds no study, or if the storage cannot be opened.
    """
    record, study = read_record(folder, *NEEDED), storage.load_study(folder, url)
    config, data, latest = record["config"], record.get("data") or {}, [{}, *sessions(record)][-1]
    trials = write_trials(study, folder).to_pylist()
    named = goals(config["metric"])
    rows, failures, missing = read_leaderboard(folder), _failures(trials), _missing(folder, trials)
    finalists = ranking.read(folder)
    remarks = _remarks(folder, record, rows)
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
                "git": latest.get("git"),
                **(latest.get("versions") or {}),
            },
        ),
        pages.numbers(_numbers(trials, finalists, named[0], record.get("timing") or {})),
    ]
    if failures:
        fragments.append(pages.section("Failed trials", pages.failures(failures)))
    board = [pages.leaderboard(sections(rows, config["size"]))] if rows else []
    fragments.append(pages.section("Leaderboard", *board, pages.notes([*missing, *remarks, *data.get("notices", [])])))
    if diagnoses := _diagnoses(rows):
        fragments.append(pages.section("Diagnosis", pages.grid(["", *DIAGNOSED.values(), "diagnosis"], diagnoses)))
    if finalists:
        fragments.append(pages.section("Finalists on validation", pages.finalists(finalists, named[0])))
    scripts: list[str] = []
    found = curve.read(folder, record)
    if found:
        section, scripts = curve_section({found.winner: found})
        fragments.append(section)
    learnt = importance.levels(study, config.get("reports"))
    drawn, left_out, more = search_plots(study, named, importance.most_important(learnt))
    front = study_goals.front(study)
    if front:
        shown, said = pages.plots([plot for plot in drawn if plot[0] == FRONT]), pages.notes(front_notes(trials, named))
        fragments.append(pages.section("Pareto front", front_table(trials, front, named), shown, said))
    if pictures := _pictures(folder, rows):
        fragments.append(pages.section("Pictures", pages.pictures(pictures)))
    fragments.append(pages.section("Trials", pages.trials(trials, named)))
    if learnt:
        about = [f"importance for {named[0]} alone, the first goal"] if len(named) > 1 else []
        said = pages.notes([*importance.carried(learnt), *about])
        fragments.append(pages.section("Importance", *_importances(learnt), said))
    search = [plot for plot in drawn if plot[0] != FRONT]
    fragments.append(pages.section("Search", pages.plots(search), pages.notes(left_out)))
    fragments.append(pages.section("Configuration", pages.key_values(config)))
    fragments.append(pages.section("How to reproduce", pages.code(_command(folder, record, len(trials)))))
    path = folder / "report.html"
    pages.write(path, f"{folder.name} - clevrtune", fragments, scripts or more)
    if console is not None:
        tables.print_leaderboard(console, rows, config["size"], remarks)
        if found:
            say(console, found.line)
        failed = [f"failed, {count} x: {reason}" for reason, count in failures.items()]
        tables.print_notes(console, [*missing, *failed])
        if front:
            say(console, f"Pareto front, the best {named[0]} first: trials {', '.join(map(str, front))}")
        for line in importance.carried(learnt):
            say(console, line)
    return path


def leaderboard_markdown(folder: Path) -> str:
    """The leaderboard of the study in ``folder`` in Markdown. Raises ValueError if there is no study."""
    record, rows = read_record(folder, *NEEDED), read_leaderboard(folder)
    return tables.leaderboard_markdown(rows, record["config"]["size"], _remarks(folder, record, rows))


def _remarks(folder: Path, record: Mapping[str, Any], rows: Sequence[Row]) -> list[str]:
    """What the leaderboard of the study in ``folder`` says, and what a reader must know of its ``rows``."""
    incomplete = bool((record.get("data") or {}).get("incomplete"))
    several = len({row.entry for row in rows if row.kind in ("trial", "base")}) > 1
    return [
        *verdict.read_verdict(folder, record["config"]["metric"]),
        *(["trials are in the order of their validation scores, which chose them"] if several else []),
        *grid_note(record),
        *footnotes(rows, incomplete),
        *(record.get("damage") or []),
        *_changes_between(sessions(record)),
    ]


def _changes_between(sessions: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line that names the versions and git revisions of a study that was run by several."""
    found: dict[str, dict[str, None]] = {}
    for session in sessions:
        for name, version in {"git": session.get("git"), **(session.get("versions") or {})}.items():
            found.setdefault(name, {})[str(version)] = None
    changed = [f"{name} {', then '.join(versions)}" for name, versions in found.items() if len(versions) > 1]
    return [f"the study was run by several versions: {'; '.join(changed)}"] if changed else []


def _diagnoses(rows: Sequence[Row]) -> list[list[str]]:
    """Each of ``rows`` that has a diagnosis, with its figures."""
    return [
        [
            f"{row.entry}, {TITLES.get(row.split, row.split)}",
            *(f"{row.figures[name]:.2f}" for name in DIAGNOSED),
            row.diagnosis.verdict,
        ]
        for row in rows
        if row.diagnosis
    ]


def _pictures(folder: Path, rows: Sequence[Row]) -> dict[str, list[tuple[str, bytes]]]:
    """PNG files of the final stage as split -> (entry, bytes), in the order of the leaderboard's ``rows``."""
    found: dict[str, list[tuple[str, bytes]]] = {}
    named = {path.stem: path for path in (folder / "pictures").glob("*.png")}
    endings = {f"_{row.split}" for row in rows}
    stems = {stem.removesuffix(end) for stem in named for end in endings if stem.endswith(end)}
    entries = {entry_name(stem): stem for stem in sorted(stems)}
    for row in rows:
        path = named.get(f"{entries.get(row.entry)}_{row.split}")
        if path is not None:
            found.setdefault(row.split, []).append((row.entry, path.read_bytes()))
    return found


def _command(folder: Path, record: Mapping[str, Any], trials: int) -> str:
    """The lines that run the study again, with as many ``trials``, from a checkout."""
    revision = [{}, *sessions(record)][-1].get("git")
    lines = [f"git checkout {revision.rstrip('+')}"] if revision else []
    words = ["python", "study/run.py", "--name", folder.name, "--trials", str(trials)]
    for key, value in record["config"].items():
        if key == "set":
            for name, fixed in value.items():
                words += ["--set", f"{name}={'none' if fixed is None else fixed}"]
        elif key == "space":
            words += [word for entry in value or [] for word in ("--space", entry)]
        elif key != "size" and value is not None:  # the data's name or the preset brings the size
            words += [f"--{key.replace('_', '-')}", str(value)]
    words += [word for source in record.get("from", []) for word in ("--from", source["study"])]
    for key, count in ranking.read_asked(folder).items():
        words += [f"--{key}", str(count)]
    return "\n".join([*lines, shlex.join(words)])


def _importances(learnt: Sequence[importance.Level]) -> list[str]:
    """A table of importances per report, and what it does not know."""
    known = [level for level in learnt if level.importances]
    keys = dict.fromkeys(key for level in reversed(known) for key in level.importances or {})
    heads = ["share of importance", *(f"report {level.report} of {level.reports}" for level in known)]
    rows = [["trials", *(str(level.trials) for level in known)]]
    rows += [[key, *(f"{(level.importances or {}).get(key, 0.0):.0%}" for level in known)] for key in keys]
    return [*([pages.grid(heads, rows)] if known else []), pages.notes(importance.unknown(learnt))]


def _failures(trials: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Reason -> number of trials that failed for it, the most frequent first."""
    reasons = Counter(trial["reason"] or "no reason recorded" for trial in trials if trial["state"] == "FAIL")
    return dict(reasons.most_common())


def _score(metric: str, value: float) -> str:
    return f"{value:.1%}" if metric in FRACTIONS else f"{value:.4g}"


def _missing(folder: Path, trials: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line that names the missing files of the final stage and says why; none if all are there."""
    absent = [name for name in ("evaluation.parquet", "best.json") if not (folder / name).exists()]
    if not absent:
        return []
    if any(trial["state"] == "COMPLETE" for trial in trials):
        why = "the best trials are not all scored yet; run the study's command again"
    else:
        why = "no trial is complete yet; run the study's command again, with more --trials or --hours"
    return [f"no {' and no '.join(absent)}: {why}"]


def _numbers(
    trials: Sequence[Mapping[str, Any]], finalists: Sequence[Finalist], metric: str, timing: Mapping[str, Any]
) -> dict[str, str]:
    """The large figures at the top of the page: first the winner of ``finalists``, or the best complete trial."""
    states = Counter(trial["state"] for trial in trials)
    figures = {"trials complete": str(states["COMPLETE"]), "pruned": str(states["PRUNED"])}
    figures["failed"] = str(states["FAIL"])
    if states["RUNNING"]:
        figures["running or interrupted"] = str(states["RUNNING"])
    if finalists:
        winner, seeds = finalists[0], len(finalists[0].complete)
        of = f", mean of {seeds} seeds" if seeds > 1 else ""
        figures = {f"{metric} on validation, {entry_name(winner.entry)}{of}": _score(metric, winner.mean)} | figures
    elif states["COMPLETE"]:
        best = trials[0]
        figures = {f"best {metric} on validation, trial {best['number']}": _score(metric, best["value"])} | figures
    if sessions := timing.get("sessions"):
        figures["wall time of tuning"] = duration(sum(session["wall_s"] for session in sessions))
    if timing.get("busy_share") is not None:
        figures["of the time in training and validation"] = f"{timing['busy_share']:.0%}"
    return figures
