"""HTML of the pages: fragments of one self-contained page that works offline, in light and dark, and on paper."""

import base64
import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from data import atomic
from study.scoring.leaderboard import TITLES, Row, Section, entry_name
from study.scoring.ranking import Finalist

HERE = Path(__file__).resolve().parent
CONTENTS = re.compile(r'<section id="([^"]+)">\n<h2>(.*?)</h2>')


@dataclass(frozen=True)
class Cell:
    """A cell of a table: what is shown, and what it is sorted by and saved as."""

    text: str
    key: float | str | None = None
    """the value in full; None: the text"""
    below: str = ""
    """a smaller line below the text"""
    bold: bool = False
    markup: str | None = None
    """HTML shown in place of the text"""
    style: str = ""
    """a class of the style sheet"""


def write(path: Path, title: str, fragments: Sequence[str], plots_script: str = "") -> None:
    """Write the document to ``path``, in one step.

    A table of contents leads to the sections among ``fragments``. ``plots_script`` is what
    :func:`study.display.figures.script` returns, if there are plots.
    """
    body = "\n".join(fragments)
    links = "".join(f'<a href="#{slug}">{name}</a>' for slug, name in CONTENTS.findall(body))
    document = "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<title>{escape(title)}</title>\n<link rel="icon" href="data:,">',
            f"<style>\n{(HERE / 'page.css').read_text()}</style>\n</head>",
            f'<body>\n<nav aria-label="contents">{links}</nav>\n<main>\n{body}\n</main>',
            plots_script,
            f"<script>\n{(HERE / 'page.js').read_text()}</script>\n</body>\n</html>\n",
        ]
    )
    with atomic.replacing(path) as partial:
        partial.write_text(document)


def headline(title: str, facts: Mapping[str, Any]) -> str:
    """The title above a line of facts; empty ones are left out."""
    line = "".join(f"<span>{escape(k)} <b>{escape(str(v))}</b></span>" for k, v in facts.items() if v not in (None, ""))
    return f'<h1>{escape(title)}</h1>\n<div class="facts">{line}</div>'


def numbers(values: Mapping[str, str]) -> str:
    """Large figures in a row of cards: label -> text."""
    cards = (
        f'<div class="card"><strong>{escape(v)}</strong><span class="soft">{escape(k)}</span></div>'
        for k, v in values.items()
    )
    return f'<div class="numbers">{"".join(cards)}</div>'


def found(lines: Sequence[str]) -> str:
    """What the study found, in sentences at the top of the page; nothing if there are none."""
    return f'<div class="found">{"".join(f"<p>{escape(line)}</p>" for line in lines)}</div>' if lines else ""


def notes(lines: Sequence[str]) -> str:
    """Remarks on the fragment above them; nothing if there are none."""
    if not lines:
        return ""
    return f'<div class="notes">{"".join(f"<p>{escape(line)}</p>" for line in lines)}</div>'


def section(title: str, *fragments: str) -> str:
    """Fragments under a heading, which the table of contents lists."""
    slug = re.sub(r"\W+", "-", title.lower()).strip("-")
    return f'<section id="{slug}">\n<h2>{escape(title)}</h2>\n' + "\n".join(fragments) + "\n</section>"


def cards(*fragments: str, layout: str = "wide") -> str:
    """Cards beside each other: ``layout`` wide (two in a row), small (three or four), or full-width (one)."""
    return f'<div class="cards {layout}">{"".join(fragments)}</div>'


def table(
    heads: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    name: str,
    title: str = "",
    scroll: bool = False,
    classes: Sequence[str] = (),
    saved: str | None = None,
) -> str:
    """A card with a table of :class:`Cell` or text that a click on a heading sorts and a button saves as ``name``.csv.

    On a narrow screen each row is a block of its own, or with ``scroll``, meant for many columns, the card scrolls.
    ``classes`` holds one class of the style sheet per row; ``saved`` is the CSV, where the table itself is not it.
    """
    cells = [[cell if isinstance(cell, Cell) else Cell(str(cell)) for cell in row] for row in rows]
    numeric = [any(isinstance(row[i].key, int | float) for row in cells) for i in range(len(heads))]
    head = "".join(
        f"<th{' class=number' if right else ''}>{_broken(text)}</th>"
        for text, right in zip(heads, numeric, strict=True)
    )
    body = []
    for number, row in enumerate(cells):
        style = f' class="{classes[number]}"' if classes and classes[number] else ""
        labels = [""] * len(heads) if scroll else heads
        body.append(f"<tr{style}>{''.join(map(_cell, row, labels, numeric))}</tr>")
    stored = f'<script type="application/json" class="csv">{in_script(saved)}</script>' if saved is not None else ""
    return (
        f'<div class="card">{f"<h3>{escape(title)}</h3>" if title else ""}<div class="{"scroll" if scroll else "fit"}">'
        f'<table class="{"many" if scroll else "stack"}"><thead><tr>{head}</tr></thead>\n'
        f"<tbody>{chr(10).join(body)}</tbody></table></div>"
        f'<div class="tools"><button data-csv="{escape(name)}.csv">save as CSV</button></div>{stored}</div>'
    )


def csv_text(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A CSV file."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([heads, *rows])
    return file.getvalue()


def leaderboard(tables: Sequence[Section], saved: str | None = None) -> str:
    """One card per split, one above the other; the first one's button saves ``saved``, the scores of all."""
    return cards(*(_split_table(one, saved if i == 0 else None) for i, one in enumerate(tables)), layout="full-width")


def plots(drawn: Sequence[tuple[str, str, bool]], layout: str = "wide") -> str:
    """Plots as (title, HTML, whether it wants the full width)."""
    if not drawn:
        return ""
    inside = "".join(
        f'<div class="card{" full" if wide else ""}"><h3>{escape(title)}</h3>{html}</div>'
        for title, html, wide in drawn
    )
    return f'<div class="cards {layout}">{inside}</div>'


def finalists(ranked: Sequence[Finalist], metric: str) -> str:
    """A table of finalists, the winner first: the mean of ``metric`` on validation images, then each seed's."""
    seeds = [f"seed {run.seed}" for run in ranked[0].runs]
    rows = [
        [entry_name(f.entry), figure(f.mean, "%.4f")]
        + [figure(run.value, "%.4f") if run.value is not None else Cell("failed") for run in f.runs]
        for f in ranked
    ]
    return table(["", f"mean {metric}", *seeds], rows, name="finalists")


def code(text: str) -> str:
    """Preformatted text."""
    return f'<div class="card"><pre>{escape(text)}</pre></div>'


def key_values(values: Mapping[str, Any], title: str = "") -> str:
    """A table of two columns."""
    rows = "".join(
        f"<tr><td class='key'>{escape(key)}</td><td>{escape(text(value))}</td></tr>" for key, value in values.items()
    )
    head = f"<h3>{escape(title)}</h3>" if title else ""
    return f'<div class="card">{head}<table>{rows}</table></div>'


def grid(heads: Sequence[str], rows: Sequence[Sequence[str]], *, name: str) -> str:
    """A table of text; what reads as a number is sorted as one, and stands on the right."""
    return table(heads, [[row[0], *map(as_number, row[1:])] for row in rows], name=name)


def folded(summary: str, *fragments: str) -> str:
    """Fragments that a click on ``summary`` unfolds."""
    return f"<details><summary>{escape(summary)}</summary>{''.join(fragments)}</details>"


def image(alt: str, data: bytes) -> str:
    """A picture inside the page; ``data`` is a PNG or WebP file."""
    kind = "webp" if data[8:12] == b"WEBP" else "png"
    return f'<img alt="{escape(alt)}" src="data:image/{kind};base64,{base64.b64encode(data).decode()}">'


def figure(value: Any, number_format: str = "%d") -> Cell:
    """A number as a cell, sorted by its full value; other values as text, None as nothing."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Cell(str(value) if isinstance(value, int) else number_format % value, value)
    return Cell("" if value is None else text(value))


def as_number(words: str) -> Cell:
    """``words`` as a cell, with the number that they begin with, if they do, as its key."""
    begins = re.match(r"[+-]?[\d,]*\.?\d+(?:e[+-]?\d+)?", words)
    return Cell(words, float(begins[0].replace(",", ""))) if begins else Cell(words)


def text(value: Any) -> str:
    """A value of a configuration as people read it."""
    return value if isinstance(value, str) else "none" if value is None else json.dumps(value)


def _cell(cell: Cell, label: str, right: bool) -> str:
    shown = cell.markup if cell.markup is not None else escape(cell.text)
    shown = f"<b>{shown}</b>" if cell.bold else shown
    shown += f"<small>{escape(cell.below)}</small>" if cell.below else ""
    styles = " ".join(filter(None, ["number" if right else "", cell.style]))
    attributes = f' class="{styles}"' if styles else ""
    if cell.key is not None:
        attributes += f' data-key="{escape(str(cell.key))}"'
    if label:
        attributes += f' data-label="{escape(label)}"'
    return f"<td{attributes}>{shown}</td>"


def _split_table(one: Section, saved: str | None) -> str:
    diagnosed = any(row.diagnosis for row, _, _ in one.rows)
    rows: list[list[Cell | str]] = []
    classes, previous = [], None
    for row, cells, bold in one.rows:
        line: list[Cell | str] = [row.entry]
        for words, best in zip(cells, bold, strict=True):
            value, bracket, interval = words.partition(" [")
            line.append(Cell(value, as_number(value).key, (bracket + interval).strip(), best))
        rows.append(line + ([row.diagnosis.verdict if row.diagnosis else ""] if diagnosed else []))
        classes.append(_row_class(row, previous))
        previous = row
    heads = ["", *one.headings, *(["diagnosis"] if diagnosed else [])]
    name = "leaderboard" if saved is not None else f"leaderboard_{one.split}"
    return table(heads, rows, name=name, title=one.title, classes=classes, saved=saved)


def _row_class(row: Row, previous: Row | None) -> str:
    starts_baselines = row.kind == "baseline" and previous is not None and previous.kind != "baseline"
    return f"{row.kind} rule" if starts_baselines else row.kind


def _broken(heading: str) -> str:
    """A heading that may break before its unit."""
    return escape(heading).replace(" (", "<br>(")


def in_script(value: Any) -> str:
    """``value`` as JSON inside a script element, which it cannot end."""
    return json.dumps(value, separators=(",", ":"), default=str).replace("<", "\\u003c")


def split_title(name: str) -> str:
    """The name of a split as people read it."""
    return TITLES.get(name, name)
