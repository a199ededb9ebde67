"""Leaderboard and comparison as tables for the terminal and in Markdown."""

from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from study.display.plain_lines import say
from study.scoring.comparison import Comparison
from study.scoring.leaderboard import BRIEF, TITLES, Row, Section, diagnoses, sections

WIDEST = 1000
"""Characters that hold all columns of a comparison."""


def print_leaderboard(console: Console, rows: Sequence[Row], size: int, notes: Sequence[str] = ()) -> None:
    """Print one table per split, the diagnoses of the first one, then ``notes``.

    The best of each column is bold, baselines stand below a rule.
    """
    for section in sections(rows, size, BRIEF, own=True):
        table = Table(title=section.title, title_justify="left", title_style="bold cyan")
        table.add_column("")
        for heading in section.headings:
            table.add_column(heading, justify="right")
        previous = section.rows[0][0]
        for row, cells, bold in section.rows:
            if row.kind == "baseline" != previous.kind:
                table.add_section()
            table.add_row(
                row.entry, *_marked(cells, bold, "[bold]", "[/bold]"), style="italic" if row.kind == "gain" else ""
            )
            previous = row
        console.print(table)
    for line in diagnoses(rows):
        say(console, line)
    print_notes(console, notes)


def leaderboard_markdown(rows: Sequence[Row], size: int, notes: Sequence[str] = ()) -> str:
    """The same tables in Markdown, for notes and issues."""
    lines = []
    for section in sections(rows, size, BRIEF, own=True):
        body = []
        for row, cells, bold in section.rows:
            entry = f"*{row.entry}*" if row.kind in ("gain", "baseline") else row.entry
            body.append([entry, *_marked(cells, bold, "**", "**")])
        lines += [f"**{section.title}**", "", *_markdown(["", *section.headings], body), ""]
    return "\n".join([*lines, *(f"- {note}" for note in (*diagnoses(rows), *notes))]).rstrip() + "\n"


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Print one table: a row per study, its base and baseline, columns per split; the best of each column is bold.

    A narrow terminal gets the two fractions alone, without deviations if need be, and the verdicts below the table; the
    page has the rest.
    """
    verdicts = _verdicts(comparison)
    choices = ((BRIEF, True, verdicts), (BRIEF[:2], True, verdicts), (BRIEF[:2], False, verdicts))
    for metrics, deviations, beside in (*choices, (BRIEF[:2], True, {}), (BRIEF[:2], False, {})):
        table = _comparison_table(comparison, metrics, deviations, beside)
        if console.measure(table, options=console.options.update(max_width=WIDEST)).maximum <= console.width:
            break
    console.print(table)
    if verdicts and not beside:
        say(console, f"on {TITLES['test']}: {', '.join(f'{entry} - {word}' for entry, word in verdicts.items())}")
    print_notes(console, comparison.notes)


def _comparison_table(
    comparison: Comparison, metrics: Sequence[str], deviations: bool, verdicts: Mapping[str, str]
) -> Table:
    tables = sections(comparison.rows, comparison.size, BRIEF)
    table = Table(title=f"winner of each study on {comparison.data}", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    if metrics == BRIEF:
        table.add_column("trials", justify="right", no_wrap=True)
        table.caption = comparison.caption
    for section in tables:
        for metric in metrics:
            table.add_column(f"{section.split}\n{metric}", justify="right", no_wrap=True)
    if verdicts:
        table.add_column("test\ndiagnosis", no_wrap=True)
    shown = [BRIEF.index(metric) + i * len(BRIEF) for i in range(len(tables)) for metric in metrics]
    lines = side_by_side(tables)
    above = [entry for entry, (row, _, _) in lines.items() if row.kind != "baseline"]
    for entry, (row, cells, bold) in lines.items():
        texts = cells if deviations else [cell.partition(" ±")[0] for cell in cells]
        marked = _marked(texts, bold, "[bold]", "[/bold]")
        trials = [comparison.trials.get(entry, "")] if metrics == BRIEF else []
        verdict = [verdicts.get(entry, "")] if verdicts else []
        style = "dim" if row.kind == "baseline" else None
        table.add_row(
            entry, *trials, *(marked[i] for i in shown), *verdict, style=style, end_section=entry == above[-1]
        )
    return table


def comparison_markdown(comparison: Comparison) -> str:
    """The same table in Markdown, for notes and papers."""
    tables, verdicts = sections(comparison.rows, comparison.size, BRIEF), _verdicts(comparison)
    heads = [f"{section.split} {metric}" for section in tables for metric in BRIEF]
    body = []
    for entry, (row, cells, bold) in side_by_side(tables).items():
        name = f"*{entry}*" if row.kind == "baseline" else entry
        verdict = [verdicts.get(entry, "")] if verdicts else []
        body.append([name, comparison.trials.get(entry, ""), *_marked(cells, bold, "**", "**"), *verdict])
    notes = [f"- {note}" for note in (comparison.caption, *comparison.notes)]
    heads += ["test diagnosis"] if verdicts else []
    return "\n".join([*_markdown(["", "trials", *heads], body), "", *notes]) + "\n"


def _verdicts(comparison: Comparison) -> dict[str, str]:
    """Entry -> what it does with the test images; nothing for studies of earlier versions."""
    return {row.entry: row.diagnosis.verdict for row in comparison.rows if row.split == "test" and row.diagnosis}


def print_notes(console: Console, notes: Sequence[str]) -> None:
    """Print each of ``notes`` as it is, on a line of its own."""
    for note in notes:
        say(console, note, style="yellow")


def side_by_side(tables: Sequence[Section]) -> dict[str, tuple[Row, list[str], list[bool]]]:
    """Entry -> a row of it, its cells over all splits, and which of these are the best of their column."""
    lines: dict[str, tuple[Row, list[str], list[bool]]] = {}
    for row, _, _ in (line for section in tables for line in section.rows):
        if row.entry in lines:
            continue
        cells: list[str] = []
        bold: list[bool] = []
        for section in tables:
            found = [(c, b) for other, c, b in section.rows if other.entry == row.entry]
            here, marks = found[0] if found else (["-"] * len(BRIEF), [False] * len(BRIEF))
            cells += here
            bold += marks
        lines[row.entry] = (row, cells, bold)
    return lines


def _marked(cells: Sequence[str], bold: Sequence[bool], before: str, after: str) -> list[str]:
    return [f"{before}{cell}{after}" if best else cell for cell, best in zip(cells, bold, strict=True)]


def _markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table whose columns are right-aligned but for the first."""
    lines = [headings, *rows]
    text = ["| " + " | ".join(cells) + " |" for cells in lines]
    return [text[0], "|---|" + "---:|" * (len(headings) - 1), *text[1:]]
