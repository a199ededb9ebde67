"""HTML of the pages: fragments of one self-contained page that works offline, in light and dark."""

import base64
import json
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from data import atomic
from study.display.durations import duration
from study.scoring.leaderboard import TITLES, Row, Section, entry_name
from study.scoring.ranking import Finalist
from study.scoring.trial_table import STATES

STYLE = """
:root { color-scheme: light dark; --page: #f6f7f9; --card: #ffffff; --text: #1c2330; --soft: #667085;
  --line: #e3e6eb; --accent: #2563a8; --good: #12805c; --bad: #b3362b; --calm: #8a6100; }
@media (prefers-color-scheme: dark) { :root { --page: #12151b; --card: #1b2029; --text: #e6e9ef;
  --soft: #98a2b3; --line: #2c333f; --accent: #7db3ec; --good: #4cc79a; --bad: #f0857b; --calm: #e0b04f; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 6px; letter-spacing: -.02em; }
h2 { font-size: 19px; margin: 44px 0 14px; }
h3 { font-size: 15px; margin: 0 0 10px; }
p { margin: 6px 0; }
.soft { color: var(--soft); }
.facts { color: var(--soft); display: flex; flex-wrap: wrap; gap: 2px 22px; }
.facts b { color: var(--text); font-weight: 500; }
.cards { display: grid; gap: 14px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 360px), 1fr)); }
.cards.full-width { grid-template-columns: minmax(0, 1fr); }
.cards.wide { grid-template-columns: repeat(auto-fit, minmax(min(100%, 520px), 1fr)); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 16px 18px;
  overflow-x: auto; min-width: 0; }
.numbers { display: grid; gap: 14px; margin-top: 22px;
  grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); }
.numbers .card { padding: 12px 18px; }
.numbers strong { display: block; font-size: 25px; font-weight: 600; letter-spacing: -.02em; }
.notes { border-left: 3px solid var(--calm); padding: 2px 12px; margin: 14px 0; }
a { color: var(--accent); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { color: var(--soft); font-weight: 500; font-size: 13px; text-align: left; vertical-align: bottom; }
th, td { padding: 5px 10px; border-bottom: 1px solid var(--line); }
tr:last-child td { border-bottom: 0; }
.number { text-align: right; white-space: nowrap; }
tr.gain td { font-style: italic; }
tr.rule td { border-top: 2px solid var(--soft); }
tr.baseline td { color: var(--soft); }
tr.baseline b { color: var(--text); }
.trials { max-height: 560px; overflow: auto; padding: 0; }
.trials th { position: sticky; top: 0; background: var(--card); cursor: pointer; white-space: nowrap; }
.trials td { white-space: nowrap; }
.trials td.reason { white-space: normal; min-width: 170px; font-size: 13px; }
.trials th:hover, .trials th[aria-sort] { color: var(--accent); }
.trials th[aria-sort=ascending]::after { content: " \\2191"; }
.trials th[aria-sort=descending]::after { content: " \\2193"; }
.state { font-size: 12px; font-weight: 600; padding: 1px 8px; border-radius: 9px; border: 1px solid; }
.complete { color: var(--good); } .pruned { color: var(--calm); } .failed { color: var(--bad); }
.running, .waiting { color: var(--accent); }
svg.curve { display: block; width: 90px; height: 22px; color: var(--accent); }
details img { display: block; max-width: 100%; height: auto; border-radius: 6px; margin: 4px 0 12px; }
summary { font-size: 13px; color: var(--soft); cursor: pointer; }
.full { grid-column: 1 / -1; }
.full .plotly-graph-div { min-width: 900px; }
@media (prefers-color-scheme: dark) { .plotly-graph-div { filter: invert(.92) hue-rotate(180deg); } }
td.key { color: var(--soft); width: 14em; }
pre { margin: 0; font: 13px/1.5 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere; }
@media (max-width: 600px) { th, td { padding: 5px 6px; } .card { padding: 14px 12px; } }
"""

SCRIPT = """
window.dispatchEvent(new Event("resize"));  // plots were sized while the page was still growing
for (const head of document.querySelectorAll(".trials th")) head.addEventListener("click", () => {
  const body = head.closest("table").tBodies[0], index = head.cellIndex;
  const down = head.getAttribute("aria-sort") === "ascending";
  for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const key = row => row.cells[index].dataset.key ?? row.cells[index].textContent;
  const compare = (a, b) => a === "" || b === "" ? (a === "") - (b === "")  // what is missing comes last
    : (down ? -1 : 1) * (isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b);
  [...body.rows].sort((a, b) => compare(key(a), key(b))).forEach(row => body.append(row));
});
"""


def write(path: Path, title: str, fragments: Sequence[str], scripts: Sequence[str] = ()) -> None:
    """Write the document to ``path``, in one step; ``scripts`` go into the head, before the fragments that use them."""
    document = "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<title>{escape(title)}</title>\n<link rel="icon" href="data:,">\n<style>{STYLE}</style>',
            *(f"<script>{script}</script>" for script in scripts),
            "</head>\n<body>\n<main>",
            *fragments,
            f"</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n",
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


def notes(lines: Sequence[str]) -> str:
    """Remarks on the fragment above them; nothing if there are none."""
    if not lines:
        return ""
    return f'<div class="notes">{"".join(f"<p>{escape(line)}</p>" for line in lines)}</div>'


def section(title: str, *fragments: str) -> str:
    """Fragments under a heading."""
    return f"<section>\n<h2>{escape(title)}</h2>\n" + "\n".join(fragments) + "\n</section>"


def leaderboard(tables: Sequence[Section]) -> str:
    """One card per split, one above the other."""
    return f'<div class="cards full-width">{"".join(_split_table(table) for table in tables)}</div>'


def pictures(by_split: Mapping[str, Sequence[tuple[str, bytes]]]) -> str:
    """PNG files by split, as (entry, bytes); the first of each split is open, the others fold away."""
    cards = []
    for name, files in by_split.items():
        split = TITLES.get(name, name)
        figures = [
            f"<details{' open' if i == 0 else ''}><summary>{escape(entry)}</summary>"
            f"{_image(entry, split, png)}</details>"
            for i, (entry, png) in enumerate(files)
        ]
        cards.append(f'<div class="card"><h3>{escape(split)}</h3>{"".join(figures)}</div>')
    return f'<div class="cards wide">{"".join(cards)}</div>'


def failures(reasons: Mapping[str, int]) -> str:
    """A table of reasons and how many trials failed for each."""
    body = "".join(f"<tr><td>{escape(reason)}</td>{_td(count)}</tr>" for reason, count in reasons.items())
    head = "<tr><th>reason</th><th>trials</th></tr>"
    return f'<div class="card"><table><thead>{head}</thead><tbody>{body}</tbody></table></div>'


def trials(rows: Sequence[Mapping[str, Any]], goals: Sequence[str]) -> str:
    """A table of trials that sorts by a click on a heading; ``goals`` names their values, one or two.

    Each row has the columns of trials.parquet: number, state, value, second_value, step, seconds, reason,
    intermediate_values and the searched hyperparameters as ``params_<name>``.
    """
    names = [key for key in (rows[0] if rows else {}) if key.startswith("params_")]
    reasons = any(row["reason"] for row in rows)
    heads = ["trial", "state", *goals, "curve", "step", "time", *["reason"] * reasons]
    heads += [name.removeprefix("params_") for name in names]
    body = []
    for row in rows:
        cells = [
            _td(row["number"]),
            f'<td><span class="state {STATES[row["state"]]}">{STATES[row["state"]]}</span></td>',
            _td(row["value"], "%.4f"),
            *(_td(row["second_value"], "%.6g") for _ in goals[1:]),
            f"<td data-key=''>{_curve(row['intermediate_values'])}</td>",
            _td(row["step"]),
            f'<td data-key="{row["seconds"] or ""}">{duration(row["seconds"])}</td>',
            *([f'<td class="reason">{escape(row["reason"] or "")}</td>'] if reasons else []),
            *(_td(row[name], "%.3g") for name in names),
        ]
        body.append(f"<tr>{''.join(cells)}</tr>")
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    return (
        f'<div class="card trials"><table><thead><tr>{head}</tr></thead>\n'
        f"<tbody>{chr(10).join(body)}</tbody></table></div>"
    )


def plots(drawn: Sequence[tuple[str, str, bool]]) -> str:
    """Plots as (title, HTML, whether it wants the full width)."""
    cards = "".join(
        f'<div class="card{" full" if wide else ""}"><h3>{escape(title)}</h3>{html}</div>'
        for title, html, wide in drawn
    )
    return f'<div class="cards wide">{cards}</div>'


def finalists(ranked: Sequence[Finalist], metric: str) -> str:
    """A table of finalists, the winner first: the mean of ``metric`` on validation images, then each seed's."""
    body = "".join(
        f"<tr><td>{escape(entry_name(f.entry))}</td>{_td(f.mean, '%.4f')}"
        + "".join(_td(run.value, "%.4f") if run.value is not None else "<td>failed</td>" for run in f.runs)
        + "</tr>"
        for f in ranked
    )
    seeds = "".join(f"<th>seed {run.seed}</th>" for run in ranked[0].runs)
    head = f"<tr><th></th><th>mean {escape(metric)}</th>{seeds}</tr>"
    return f'<div class="card"><table><thead>{head}</thead><tbody>{body}</tbody></table></div>'


def code(text: str) -> str:
    """Preformatted text."""
    return f'<div class="card"><pre>{escape(text)}</pre></div>'


def key_values(values: Mapping[str, Any]) -> str:
    """A table of two columns."""
    rows = "".join(
        f"<tr><td class='key'>{escape(key)}</td><td>{escape(_text(value))}</td></tr>" for key, value in values.items()
    )
    return f'<div class="card"><table>{rows}</table></div>'


def grid(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of text, whose columns are right-aligned but for the first."""
    head = "".join(f"<th{' class=number' if i else ''}>{escape(name)}</th>" for i, name in enumerate(heads))
    body = "".join(
        f"<tr><td>{escape(row[0])}</td>{''.join(f'<td class=number>{escape(cell)}</td>' for cell in row[1:])}</tr>"
        for row in rows
    )
    return f'<div class="card"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def link(address: str, text: str) -> str:
    """``text``, which leads to ``address``: a path relative to the page, or a URL of http or https."""
    if not re.match(r"https?://", address):
        address = quote(address)  # a colon would end the name of a scheme, such as javascript
    return f'<a href="{escape(address)}">{escape(text)}</a>'


def studies(rows: Sequence[tuple[str, str, str, str]]) -> str:
    """A table of studies as (entry, name, address of its report, numbers of trials)."""
    body = "".join(
        f"<tr><td>{escape(entry)}</td><td>{link(address, name)}</td><td>{escape(trials)}</td></tr>"
        for entry, name, address, trials in rows
    )
    head = "<tr><th>row</th><th>report</th><th>trials</th></tr>"
    return f'<div class="card"><table><thead>{head}</thead><tbody>{body}</tbody></table></div>'


def _split_table(table: Section) -> str:
    head = "".join(f'<th class="number">{escape(name).replace(" (", "<br>(")}</th>' for name in table.headings)
    diagnosed = any(row.diagnosis for row, _, _ in table.rows)
    head += "<th>diagnosis</th>" if diagnosed else ""
    body, previous = [], None
    for row, cells, bold in table.rows:
        values = "".join(
            f'<td class="number">{f"<b>{cell}</b>" if best else cell}</td>'
            for cell, best in zip(cells, bold, strict=True)
        )
        if diagnosed:
            values += f"<td>{row.diagnosis.verdict if row.diagnosis else ''}</td>"
        body.append(f'<tr class="{_row_class(row, previous)}"><td>{escape(row.entry)}</td>{values}</tr>')
        previous = row
    return (
        f'<div class="card"><h3>{escape(table.title)}</h3><table><thead><tr><th></th>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _row_class(row: Row, previous: Row | None) -> str:
    starts_baselines = row.kind == "baseline" and previous is not None and previous.kind != "baseline"
    return f"{row.kind} rule" if starts_baselines else row.kind


def _image(entry: str, split: str, png: bytes) -> str:
    data = base64.b64encode(png).decode()
    alt = escape(f"{entry} on {split}: input, reconstruction, true and predicted segments")
    return f'<img alt="{alt}" src="data:image/png;base64,{data}">'


def _td(value: Any, number_format: str = "%d") -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        shown = str(value) if isinstance(value, int) else number_format % value
        return f'<td data-key="{value!r}">{shown}</td>'
    return f"<td>{'' if value is None else escape(_text(value))}</td>"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "none" if value is None else json.dumps(value)


def _curve(values: Sequence[float]) -> str:
    """The intermediate values of a trial as a small line, scaled to their own range."""
    finite = [value for value in values if value is not None and abs(value) < float("inf")]
    if len(finite) < 2:
        return ""
    low, span = min(finite), (max(finite) - min(finite)) or 1.0
    points = " ".join(
        f"{3 + 84 * i / (len(finite) - 1):.1f},{19 - 16 * (value - low) / span:.1f}" for i, value in enumerate(finite)
    )
    line = f'<polyline points="{points}" fill="none" stroke="currentColor" stroke-width="1.5"/>'
    return f'<svg class="curve" viewBox="0 0 90 22" aria-hidden="true">{line}</svg>'
