"""The picture of curves: what models trained on one variant of the data score on others."""

import math
from collections.abc import Mapping
from typing import Any

from study.display import figures, pages
from study.scoring.curve import METRIC, Curve
from study.scoring.leaderboard import cell

DASHES = ("dot", "dash", "dashdot", "longdash")


def curve_section(curves: Mapping[str, Curve]) -> str:
    """A section of a page with all ``curves`` in one picture and one table.

    ``curves`` is name -> curve, at least one, of studies on the same data. Where some have fewer places, their lines
    have gaps, and the baselines are those of one that has most. Without plotly there is no picture.
    """
    longest = max(curves.values(), key=lambda curve: len(curve.labels))
    lines = {name: curve.at(longest.labels) for name, curve in curves.items()}
    baselines = {name: scores for name, scores in longest.scores.items() if name != longest.winner}
    rows = [[name, *(cell(METRIC, score) for score in scores)] for name, scores in {**lines, **baselines}.items()]
    table = pages.grid([f"{METRIC} (%)", *longest.labels], rows, name="curve", title=f"{METRIC} in % by {longest.axis}")
    picture = _figure(longest, lines, baselines) if figures.script() else []
    return pages.section(f"Curve over the {longest.axis}", *picture, table, pages.notes([_note(longest)]))


def _note(curve: Curve) -> str:
    trained = f"trained at {curve.own}; " if curve.own is not None else ""
    return f"{trained}scored without retraining; the curve is reported, and nothing is chosen by it"


def _figure(curve: Curve, lines: Mapping[str, list[float]], baselines: Mapping[str, list[float]]) -> list[str]:
    """The picture as HTML."""
    data: list[dict[str, Any]] = []
    for number, (name, scores) in enumerate(lines.items()):
        marker = {
            "size": [13 if label == curve.own else 6 for label in curve.labels],
            "symbol": ["diamond" if label == curve.own else "circle" for label in curve.labels],
            "color": f"var(--series{number % 10 + 1})",
        }
        line = {"width": 2.5, "color": marker["color"]}
        look = {"mode": "lines+markers", "marker": marker, "line": line}
        data.append({"x": curve.places, "y": _percent(scores), "name": figures.label(name), **look})
    for number, (name, scores) in enumerate(baselines.items()):
        line = {"width": 1.5, "color": "var(--faint)", "dash": DASHES[number % len(DASHES)]}
        data.append(
            {"x": curve.places, "y": _percent(scores), "name": figures.label(name), "mode": "lines", "line": line}
        )
    axes = {
        "xaxis": {"title": {"text": figures.label(curve.axis)}},
        "yaxis": {"title": {"text": f"{METRIC} (%)"}, "rangemode": "tozero"},
    }
    drawn = figures.figure(data, axes, height=420, about=f"{METRIC} over the {curve.axis}")
    return [pages.plots([(f"{METRIC} on test images", drawn, True)])]


def _percent(scores: list[float]) -> list[float | None]:
    return [None if math.isnan(score) else figures.short(100 * score) for score in scores]
