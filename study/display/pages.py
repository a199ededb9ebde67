"""HTML of the pages: fragments of one self-contained page that works offline, in light and dark, and on paper."""

import base64
import io
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image

from data import atomic
from study.display.page_table import Cell, Table, as_number, figure, text
from study.scoring.leaderboard import TITLES, entry_name
from study.scoring.ranking import Finalist

HERE = Path(__file__).resolve().parent
CONTENTS = re.compile(r'<section id="([^"]+)">\n<h2>(.*?)</h2>')


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
            f"<style>\n{(HERE / 'page.css').read_text(encoding='utf-8')}</style>\n</head>",
            f'<body>\n<nav aria-label="contents">{links}</nav>\n<main>\n{body}\n</main>',
            plots_script,
            f"<script>\n{(HERE / 'page.js').read_text(encoding='utf-8')}</script>\n</body>\n</html>\n",
        ]
    )
    with atomic.replacing(path) as partial:
        partial.write_text(document, encoding="utf-8")


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
    return Table(["", f"mean {metric}", *seeds], rows, "finalists").html()


def code(lines: str) -> str:
    """Preformatted text."""
    return f'<div class="card"><pre>{escape(lines)}</pre></div>'


def link(address: str, words: str) -> str:
    """``words``, which lead to ``address``: a path relative to the page, or a URL of http or https."""
    if not re.match(r"https?://", address):
        address = quote(address)  # a colon would end the name of a scheme, such as javascript
    return f'<a href="{escape(address)}">{escape(words)}</a>'


def key_values(values: Mapping[str, Any], title: str = "") -> str:
    """A table of two columns."""
    rows = "".join(
        f"<tr><td class='key'>{escape(key)}</td><td>{escape(text(value))}</td></tr>" for key, value in values.items()
    )
    head = f"<h3>{escape(title)}</h3>" if title else ""
    return f'<div class="card">{head}<table>{rows}</table></div>'


def grid(heads: Sequence[str], rows: Sequence[Sequence[str]], *, name: str, title: str = "") -> str:
    """A table of text; what reads as a number is sorted as one, and stands on the right."""
    return Table(heads, [[row[0], *map(as_number, row[1:])] for row in rows], name, title).html()


def folded(summary: str, *fragments: str) -> str:
    """Fragments that a click on ``summary`` unfolds."""
    return f"<details><summary>{escape(summary)}</summary>{''.join(fragments)}</details>"


def image(alt: str, data: bytes) -> str:
    """A picture inside the page; ``data`` is a PNG or WebP file."""
    kind = "webp" if data[8:12] == b"WEBP" else "png"
    return f'<img alt="{escape(alt)}" src="data:image/{kind};base64,{base64.b64encode(data).decode()}">'


def small(cell: Image.Image) -> bytes:
    """A picture of one scene as a WebP file of a few kB."""
    file = io.BytesIO()
    cell.save(file, "WEBP", quality=80, method=4)
    return file.getvalue()


def split_title(name: str) -> str:
    """The name of a split as people read it."""
    return TITLES.get(name, name)
