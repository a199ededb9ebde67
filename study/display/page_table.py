"""Tables of a report: once made, they become HTML that sorts and saves, Markdown, or LaTeX."""

import csv
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

SHORT = 8
"""Letters of a heading that stays in one piece."""


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


@dataclass(frozen=True)
class Table:
    """A table. Its rows hold :class:`Cell` or text."""

    heads: Sequence[str]
    rows: Sequence[Sequence[object]]
    name: str
    """of the CSV file, without its ending"""
    title: str = ""
    scroll: bool = False
    """On a narrow screen each row is a block of its own; a table with many columns scrolls in its card instead."""
    classes: Sequence[str] = field(default=())
    """one class of the style sheet per row"""
    saved: str | None = None
    """the CSV, where the table itself is not it"""

    def html(self) -> str:
        """A card with the table, which a click on a heading sorts and a button saves as CSV."""
        cells = self._cells()
        numeric = [any(isinstance(row[i].key, int | float) for row in cells) for i in range(len(self.heads))]
        head = "".join(
            f"<th{' class=number' if right else ''}>{_broken(text, names=self.scroll)}</th>"
            for text, right in zip(self.heads, numeric, strict=True)
        )
        body = []
        for number, row in enumerate(cells):
            style = f' class="{self.classes[number]}"' if self.classes and self.classes[number] else ""
            labels = [""] * len(self.heads) if self.scroll else self.heads
            body.append(f"<tr{style}>{''.join(map(_cell, row, labels, numeric))}</tr>")
        stored = ""
        if self.saved is not None:
            stored = f'<script type="application/json" class="csv">{in_script(self.saved)}</script>'
        title = f"<h3>{escape(self.title)}</h3>" if self.title else ""
        return (
            f'<div class="card">{title}<div class="{"scroll" if self.scroll else "fit"}">'
            f'<table class="{"many" if self.scroll else "stack"}"><thead><tr>{head}</tr></thead>\n'
            f"<tbody>{chr(10).join(body)}</tbody></table></div>"
            f'<div class="tools"><button data-csv="{escape(self.name)}.csv">save as CSV</button></div>{stored}</div>'
        )

    def markdown(self) -> list[str]:
        """Lines of Markdown; columns are right-aligned but for the first."""
        lines = [f"**{self.title}**", ""] if self.title else []
        rows = [[_words(cell, "**", "**").replace("|", "\\|") for cell in row] for row in self._cells()]
        marked = ["| " + " | ".join(row) + " |" for row in [list(self.heads), *rows]]
        return [*lines, marked[0], "|---|" + "---:|" * (len(self.heads) - 1), *marked[1:], ""]

    def latex(self, label: str) -> list[str]:
        """Lines of LaTeX, a table of the package booktabs."""
        body = [" & ".join(_words(cell, "\\textbf{", "}", tex) for cell in row) + r" \\" for row in self._cells()]
        return framed(
            self.title,
            label,
            f"l*{{{len(self.heads) - 1}}}{{r}}",
            [" & ".join(map(tex, self.heads)) + r" \\", r"\midrule", *body],
        )

    def _cells(self) -> list[list[Cell]]:
        return [[cell if isinstance(cell, Cell) else Cell(str(cell)) for cell in row] for row in self.rows]


def framed(caption: str, label: str, columns: str, body: Sequence[str]) -> list[str]:
    """Lines of a LaTeX table whose rows are ``body``."""
    return [
        r"\begin{table}",
        r"\centering\footnotesize",
        rf"\caption{{{tex(caption)}}}",
        rf"\label{{tab:{label}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
        "",
    ]


def tex(words: str) -> str:
    """``words`` as text of LaTeX."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"}
    special |= {char: f"\\{char}" for char in "&%$#_{}"} | {"<": "$<$", ">": "$>$"}
    signed = re.sub(r"(?<![\w.])-(?=\d)", "\u2212", words)  # a minus sign, no hyphen
    return "".join(special.get(char, char) for char in signed).replace("\u2212", "$-$")


def csv_text(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A CSV file."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([heads, *rows])
    return file.getvalue()


def in_script(value: Any) -> str:
    """``value`` as JSON inside a script element, which it cannot end."""
    return json.dumps(value, separators=(",", ":"), default=str).replace("<", "\\u003c")


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


def _words(cell: Cell, before: str, after: str, escaped: Any = str) -> str:
    words = escaped(cell.text)
    words = f"{before}{words}{after}" if cell.bold and words else words
    return f"{words} {escaped(cell.below)}" if cell.below else words


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


def _broken(heading: str, *, names: bool) -> str:
    """A heading that breaks before its unit, and with ``names``, of many columns, may break within its name."""
    shown = escape(heading).replace(" (", " <br>(")
    return shown.replace("_", "_<wbr>") if names and len(heading) > SHORT else shown
