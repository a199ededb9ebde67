"""Where a study's winner fails: a histogram over images, its worst, middling and best ones, and scores by object."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from study.display import figures, pages, slots_section
from study.display.page_table import Cell, Table, figure
from study.scoring import bootstrap, extremes, objects
from study.scoring.leaderboard import FRACTIONS, TITLES, Row, entry_name
from study.scoring.ranking import BASE

METRIC = "mIoU_fg"
BINS = 20
"""Bars of a histogram from 0 to 1."""
LONG = 12
"""A table with more rows scrolls."""
BUDGET = 900_000
"""Characters of pictures in this section."""
KINDS = {"worst": "the worst images", "median": "middling images", "best": "the best images"}


def failures_section(folder: Path, rows: Sequence[Row], winner: str | None) -> str:
    """A section about ``winner``, its name in files; nothing before the final stage."""
    path = folder / "evaluation.parquet"
    if winner is None or not path.exists():
        return ""
    splits = list(dict.fromkeys(row.split for row in rows))
    evaluation = pq.read_table(path)
    scores = bootstrap.per_image(evaluation, [METRIC])
    fragments = []
    if figures.script() is not None:
        drawn = [(_title(split), _histogram(scores, winner, split), False) for split in splits]
        fragments.append(pages.plots([(title, html, wide) for title, html, wide in drawn if html], "small"))
        fragments.append(slots_section.used(evaluation, splits, winner))
    table = objects.read(folder / objects.FILE)
    if table is not None and splits:
        fragments.append(_breakdown(table, splits[0], winner))
    fragments.append(_pictures(folder, splits, winner))
    fragments.append(slots_section.masks(folder, splits, winner))
    return pages.section("Where it fails", *fragments) if any(fragments) else ""


def _title(split: str) -> str:
    return f"{METRIC} of single images, {TITLES.get(split, split)}"


def _histogram(scores: Mapping[tuple[str, str], NDArray[np.float64]], winner: str, split: str) -> str | None:
    """How many images have which score: those of the winner, and of the base as a line."""
    edges = np.linspace(0, 1, BINS + 1)
    data: list[dict[str, Any]] = []
    for entry, look in ((winner, "bar"), (BASE, "line")):
        values = scores.get((entry, split))
        if values is None or (look == "line" and winner == BASE):
            continue
        known = values[~np.isnan(values[:, 0]), 0]
        counts = np.histogram(np.clip(known, 0, 1), edges)[0].tolist()
        centres = [round(100 * (low + 0.5 / BINS), 2) for low in edges[:-1]]
        trace = {"x": centres, "y": counts, "name": entry_name(entry)}
        if look == "bar":
            data.append({**trace, "type": "bar", "marker": {"color": "var(--accent)"}})
        else:
            line = {"shape": "hvh", "color": "var(--base)", "width": 2}
            data.append({**trace, "mode": "lines", "line": line})
    if not data:
        return None
    layout = {
        "xaxis": {"title": {"text": f"{METRIC} (%)"}, "range": [0, 100]},
        "yaxis": {"title": {"text": "images"}},
        "bargap": 0.08,
    }
    return figures.figure(data, layout, height=270, about=_title(split))


def _breakdown(table: pa.Table, split: str, winner: str) -> str:
    """A table per tag: the mean IoU of the objects with each of its values, the winner's beside the base's."""
    entries = [winner, *([BASE] if winner != BASE else [])]
    by_tag: dict[str, list[objects.Part]] = {}
    for part in objects.breakdown(table, split, entries):
        by_tag.setdefault(part.tag, []).append(part)
    cards = []
    for tag, parts in by_tag.items():
        rows = [
            [part.value, figure(part.count), *(_percent(part.means.get(entry)) for entry in entries)] for part in parts
        ]
        heads = [objects.TAGS[tag], "objects", *(f"IoU {entry_name(entry)} (%)" for entry in entries)]
        scroll = len(rows) > LONG
        title = f"By {tag}, {TITLES.get(split, split)}"
        cards.append(Table(heads, rows, f"by_{tag}", title, scroll).html())
    said = (
        "IoU of single objects with the segments that they are matched with; 'touches' is no measure of what is hidden"
    )
    return pages.cards(*cards, layout="small") + pages.notes([said]) if cards else ""


def _pictures(folder: Path, splits: Sequence[str], winner: str) -> str:
    """The winner's worst, middling and best images by split and metric, with overlays."""
    blocks: list[str] = []
    budget = BUDGET
    left_out: list[str] = []
    for split in splits:
        path = folder / "pictures" / extremes.FOLDER / f"{winner}_{split}.png"
        if not path.exists():
            continue
        title = TITLES.get(split, split)
        rows = extremes.read(path.read_bytes())
        for metric in dict.fromkeys(one.metric for one, _ in rows):
            kinds: dict[str, list[str]] = {}
            for one, cells in (row for row in rows if row[0].metric == metric):
                caption = f"image {one.image}: {_score(one)}"
                images = "".join(
                    pages.image(f"{title}, {caption}, {column}", pages.small(cell))
                    for column, cell in zip(extremes.COLUMNS, cells, strict=True)
                )
                kinds.setdefault(one.kind, []).append(f"<figure><figcaption>{caption}</figcaption>{images}</figure>")
            cards = [
                f'<div class="card"><h3>{title}: {KINDS.get(kind, "")} by {metric}</h3>'
                f'<div class="scenes">{"".join(shown)}</div></div>'
                for kind, shown in kinds.items()
            ]
            shown = pages.cards(*cards, layout="small")
            if len(shown) > budget:
                left_out.append(f"{title} by {metric}")
                continue
            budget -= len(shown)
            blocks.append(
                shown if not blocks else pages.folded(f"{title}: worst, middling and best images by {metric}", shown)
            )
    if not blocks:
        return ""
    said = [f"scores in %, MSE as a sum; from above: {', '.join(extremes.COLUMNS)}; all of the first seed"]
    said += [f"left out, the page would become too large: {', '.join(left_out)}"] if left_out else []
    return "".join(blocks) + pages.notes(said)


def _score(one: extremes.Shown) -> str:
    return f"{100 * one.score:.1f}" if one.metric in FRACTIONS else f"{one.score:.4g}"


def _percent(mean: float | None) -> Cell:
    return Cell("") if mean is None else Cell(f"{100 * mean:.1f}", mean)
