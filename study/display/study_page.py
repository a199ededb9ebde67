"""The report of a study: report.html, made anew from the results folder alone, at any time."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from study.display import budget_section, figures, pages, tables
from study.display.curve_plot import curve_section
from study.display.durations import duration
from study.display.found_section import best_section, read_best, scores_table
from study.display.front_table import front_notes, front_table
from study.display.picture_section import pictures, read_pictures
from study.display.plain_lines import say
from study.display.plots import Search, front_plot, search_plots
from study.display.score_section import OVER_IMAGES, board, diagnosis_section, gaps_table, protocol
from study.display.trials_section import importance_section, trials_table
from study.results_folder import read_record
from study.scoring import curve, importance, ranking, verdict
from study.scoring.baselines import grid_note
from study.scoring.gaps import gaps
from study.scoring.leaderboard import FRACTIONS, Row, entry_name, footnotes, read_leaderboard, read_scores
from study.scoring.ranking import Finalist
from study.scoring.trial_table import write_trials
from study.search import goals as study_goals
from study.search import storage
from trainables.objectives import goals


def write(folder: Path, console: Console | None = None) -> Path:
    """Write trials.parquet and report.html of the study in ``folder`` and return the path of the latter.

    With ``console``, print the leaderboard there. What an unfinished study lacks (scores, pictures, even complete
    trials) is left out and named. Raises ValueError if ``folder`` holds no study.
    """
    record, study = read_record(folder), storage.load_study(folder)
    config, data = record["config"], record.get("data") or {}
    name = study.study_name  # the folder may have another name by now
    trials = write_trials(study, folder).to_pylist()
    named = goals(config["metric"])
    rows, drawn = read_scores(folder)
    failures, missing = _failures(trials), _missing(folder, trials)
    finalists, best = ranking.read(folder), read_best(folder)
    verdicts = verdict.read_verdict(folder, config["metric"])
    remarks = _remarks(record, rows)
    learnt = importance.levels(study, config.get("reports"))
    asked = (trial.distributions.items() for trial in study.get_trials(deepcopy=False))
    search = Search(
        trials=trials,
        goals=named,
        maximize=study_goals.maximizes(study),
        steps_per_report=_steps_per_report(config, trials),
        rungs=study.user_attrs.get("rungs", ()),
        logarithmic=frozenset(key for items in asked for key, one in items if getattr(one, "log", False)),
        important=importance.most_important(learnt) or (),
        winner=best.get("trial"),
    )
    front = study_goals.front(study)

    fragments = [
        pages.headline(
            f"{config['model']} on {config['data']}",
            {
                "study": name,
                "preset": config["preset"],
                "size": f"{config['size']}x{config['size']}",
                "steps": config["steps"],
                "seed": config["seed"],
                "date": max(
                    (f"{t['complete'] or t['start']:%Y-%m-%d %H:%M}" for t in trials if t["start"]), default=""
                ),
            },
        ),
        pages.found(verdicts),
        pages.numbers(_numbers(trials, finalists, named[0], record.get("timing") or {})),
    ]
    if found := [scores_table(rows, finalists, best), *best_section(name, record, best, trials)]:
        fragments.append(pages.section("What was found", *found) if any(found) else "")
    if failures:
        lines = [[reason, pages.figure(count)] for reason, count in failures.items()]
        fragments.append(pages.section("Failed trials", pages.table(["reason", "trials"], lines, name="failures")))
    over_images = [OVER_IMAGES] if drawn else []
    said = pages.notes([*missing, *remarks, *over_images, *data.get("notices", [])])
    fragments.append(pages.section("Leaderboard", board(rows, config["size"]), said))
    if lost := gaps_table(gaps([row for row in rows if row.kind != "baseline"], drawn)):
        fragments.append(pages.section("Generalisation", lost))
    if touched := protocol(record, rows):
        fragments.append(pages.section("Protocol", touched))
    fragments.append(diagnosis_section(rows))
    if finalists:
        fragments.append(pages.section("Finalists on validation", pages.finalists(finalists, named[0])))
    curved = curve.read(folder, record)
    if curved:
        fragments.append(curve_section({curved.winner: curved}))
    if front:
        plot = front_plot(search, front)
        shown = pages.plots([("The front among all complete trials", plot, True)]) if plot and figures.script() else ""
        fragments.append(
            pages.section(
                "Pareto front", front_table(trials, front, named), shown, pages.notes(front_notes(trials, named))
            )
        )
    if files := read_pictures(folder, rows):
        fragments.append(pages.section("Pictures", pictures(files)))
    fragments += _search_sections(search)
    fragments.append(importance_section(learnt, named))
    fragments.append(pages.section("Trials", trials_table(trials, named)))
    fragments.append(budget_section.budget_section(record, trials, search.rungs))
    again = budget_section.command(name, folder, record, len(trials))
    fragments.append(pages.section("How to reproduce", pages.code(again)))
    fragments.append(pages.section("Configuration", pages.key_values(config)))
    path = folder / "report.html"
    pages.write(path, f"{name} - clevrtune", fragments, figures.script() or "")
    if console is not None:
        tables.print_leaderboard(console, rows, config["size"], [*verdicts, *remarks])
        if curved:
            say(console, curved.line)
        failed = [f"failed, {count} x: {reason}" for reason, count in failures.items()]
        tables.print_notes(console, [*missing, *failed])
        if front:
            say(console, f"Pareto front, the best {named[0]} first: trials {', '.join(map(str, front))}")
        for line in importance.carried(learnt):
            say(console, line)
    return path


def leaderboard_markdown(folder: Path) -> str:
    """The leaderboard of the study in ``folder`` in Markdown. Raises ValueError if there is no study."""
    record, rows = read_record(folder), read_leaderboard(folder)
    verdicts = verdict.read_verdict(folder, record["config"]["metric"])
    return tables.leaderboard_markdown(rows, record["config"]["size"], [*verdicts, *_remarks(record, rows)])


def _remarks(record: Mapping[str, Any], rows: Sequence[Row]) -> list[str]:
    """What a reader must know of the leaderboard's ``rows``."""
    incomplete = bool((record.get("data") or {}).get("incomplete"))
    several = len({row.entry for row in rows if row.kind in ("trial", "base")}) > 1
    return [
        *(["trials are in the order of their validation scores, which chose them"] if several else []),
        *grid_note(record),
        *footnotes(rows, incomplete),
    ]


def _steps_per_report(config: Mapping[str, Any], trials: Sequence[Mapping[str, Any]]) -> float:
    most = max((trial["intermediate_steps"][-1] for trial in trials if trial["intermediate_steps"]), default=1)
    return config["steps"] / (config.get("reports") or most)


def _search_sections(search: Search) -> list[str]:
    """The plots of the search as sections; without plotly a remark."""
    if figures.script() is None:
        return [pages.section("Search", pages.notes([figures.MISSING]))]
    drawn, small, remarks = search_plots(search)
    slices = pages.section("Slices", pages.plots(small, "small")) if small else ""
    return [pages.section("Search", pages.plots(drawn), pages.notes(remarks)), slices]


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
