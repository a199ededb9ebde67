"""The report of a study: report.html, made anew from the results folder alone, at any time."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from study.display import budget_section, figures, pages, paper_files, tables
from study.display.curve_plot import curve_section
from study.display.data_link import data_link
from study.display.durations import duration
from study.display.failures_section import failures_section
from study.display.findings import Findings, gather
from study.display.found_section import best_section, scores_table
from study.display.front_table import front_notes, front_table
from study.display.page_table import Table, figure
from study.display.picture_section import pictures, read_pictures
from study.display.plain_lines import say
from study.display.plots import Search, front_plot, search_plots
from study.display.score_section import (
    DIRECTIONS,
    LOSSES,
    OVER_IMAGES,
    board,
    diagnosis_section,
    gaps_table,
    protocol,
    published_table,
)
from study.display.trials_section import importance_section, trials_table, unit
from study.scoring import curve, importance, published
from study.scoring.leaderboard import FRACTIONS, entry_name
from study.scoring.ranking import Finalist
from study.scoring.trial_table import write_trials
from study.search import goals as study_goals
from study.search import storage


def write(folder: Path, console: Console | None = None, url: str | None = None) -> Path:
    """Write trials.parquet and report.html of the study in ``folder`` and return the path of the latter.

    The files for papers, see :mod:`study.display.paper_files`, are written beside it. With ``console``, print the
    leaderboard there. The trials are in the folder's journal, or in the Optuna storage at ``url``. What an unfinished
    study lacks (scores, pictures, even complete trials) is left out and named. Raises ValueError if ``folder`` holds no
    study, or if the storage cannot be opened.
    """
    study = storage.load_study(folder, url)
    trials = write_trials(study, folder).to_pylist()
    found = gather(folder, study.study_name, trials)
    config = found.config
    learnt = importance.levels(study, config.get("reports"))
    asked = (trial.distributions.items() for trial in study.get_trials(deepcopy=False))
    search = Search(
        trials=trials,
        goals=found.goals,
        maximize=study_goals.maximizes(study),
        steps_per_report=_steps_per_report(config, trials),
        rungs=study.user_attrs.get("rungs", ()),
        logarithmic=frozenset(key for items in asked for key, one in items if getattr(one, "log", False)),
        important=importance.most_important(learnt) or (),
        winner=found.best.get("trial"),
    )
    front = study_goals.front(study)
    curved = curve.read(folder, found.record)
    again = budget_section.command(found.name, folder, found.record, len(trials))

    fragments = [*_top(found), *_scores(found)]
    if curved:
        fragments.append(curve_section({curved.winner: curved}))
    if front:
        plot = front_plot(search, front)
        shown = pages.plots([("The front among all complete trials", plot, True)]) if plot and figures.script() else ""
        said = pages.notes(front_notes(trials, found.goals))
        fragments.append(pages.section("Pareto front", front_table(trials, front, found.goals), shown, said))
    fragments.append(failures_section(folder, found.rows, found.best.get("entry")))
    fragments.append(data_link(folder, found.record))
    if files := read_pictures(folder, found.rows):
        fragments.append(pages.section("Pictures", pictures(files)))
    fragments += _search_sections(search)
    fragments.append(importance_section(learnt, found.goals))
    fragments.append(pages.section("Trials", trials_table(trials, found.goals), pages.notes(unit(found.goals))))
    fragments.append(budget_section.budget_section(found.record, trials, search.rungs))
    fragments.append(pages.section("How to reproduce", pages.code(again)))
    fragments.append(pages.section("Configuration", pages.key_values(config)))
    path = folder / "report.html"
    pages.write(path, f"{found.name} - clevrtune", fragments, figures.script() or "")
    paper_files.write(found)
    if console is not None:
        tables.print_leaderboard(console, found.rows, config["size"], [*found.verdicts, *found.remarks])
        if curved:
            say(console, curved.line)
        failed = [f"failed, {count} x: {reason}" for reason, count in found.failures.items()]
        tables.print_notes(console, [*found.missing, *failed])
        if front:
            say(console, f"Pareto front, the best {found.goals[0]} first: trials {', '.join(map(str, front))}")
        for line in importance.carried(learnt):
            say(console, line)
    return path


def leaderboard_markdown(folder: Path) -> str:
    """The leaderboard of the study in ``folder`` in Markdown. Raises ValueError if there is no study."""
    found = gather(folder, folder.name, [], images=False)
    return tables.leaderboard_markdown(found.rows, found.config["size"], [*found.verdicts, *found.remarks])


def _top(found: Findings) -> list[str]:
    """Title, verdicts, large figures, and what was found."""
    config, trials = found.config, found.trials
    times = [trial["complete"] or trial["start"] for trial in trials if trial["start"]]
    fragments = [
        pages.headline(
            found.title,
            {
                "study": found.name,
                "preset": config["preset"],
                "size": f"{config['size']}x{config['size']}",
                "steps": config["steps"],
                "seed": config["seed"],
                "date": f"{max(times):%Y-%m-%d %H:%M}" if times else "",
            },
        ),
        pages.found(found.verdicts),
        pages.numbers(_numbers(trials, found.finalists, found.goals[0], found.record.get("timing") or {})),
    ]
    scores = scores_table(found.rows, found.finalists, found.best, config["size"])
    best = best_section(found.name, found.chosen, found.best, found.record.get("longer", ""))
    if scores or best:
        fragments.append(pages.section("What was found", scores.html() if scores else "", *best))
    if found.failures:
        lines = [[reason, figure(count)] for reason, count in found.failures.items()]
        fragments.append(pages.section("Failed trials", Table(["reason", "trials"], lines, "failures").html()))
    return fragments


def _scores(found: Findings) -> list[str]:
    """Sections from the leaderboard to the finalists."""
    notices = (found.record.get("data") or {}).get("notices", [])
    why = [found.why_not] if found.why_not else []
    said = [
        *([DIRECTIONS] if found.rows else []),
        *found.missing,
        *found.remarks,
        *([OVER_IMAGES] if found.drawn else []),
        *why,
        *notices,
    ]
    boards = pages.cards(*(one.html() for one in board(found.rows, found.config["size"])), layout="full-width")
    fragments = [pages.section("Leaderboard", boards, pages.notes(said))]
    beside = published_table(found.published, found.winner or "ours")
    if beside is not None:
        about = pages.notes([f"published numbers: {published.source()}"])
        fragments.append(pages.section("Published numbers", beside.html(), about))
    for title, table, more in (
        ("Generalisation", gaps_table(found.gaps), [LOSSES]),
        ("Protocol", protocol(found.record, found.rows), []),
    ):
        if table is not None:
            fragments.append(pages.section(title, table.html(), pages.notes(more)))
    fragments.append(diagnosis_section(found.rows))
    if found.finalists:
        ranked = pages.finalists(found.finalists, found.goals[0])
        fragments.append(pages.section("Finalists on validation", ranked, pages.notes(unit(found.goals))))
    return fragments


def _search_sections(search: Search) -> list[str]:
    """The plots of the search as sections; without plotly a remark."""
    if figures.script() is None:
        return [pages.section("Search", pages.notes([figures.MISSING]))]
    drawn, small, remarks = search_plots(search)
    slices = pages.section("Slices", pages.plots(small, "small")) if small else ""
    return [pages.section("Search", pages.plots(drawn), pages.notes(remarks)), slices]


def _steps_per_report(config: Mapping[str, Any], trials: Sequence[Mapping[str, Any]]) -> float:
    most = max((trial["intermediate_steps"][-1] for trial in trials if trial["intermediate_steps"]), default=1)
    return config["steps"] / (config.get("reports") or most)


def _score(metric: str, value: float) -> str:
    return f"{value:.1%}" if metric in FRACTIONS else f"{value:.4g}"


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
        figures["of the time that trials had was training and validation"] = f"{timing['busy_share']:.0%}"
    return figures
