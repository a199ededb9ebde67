"""The picture of curves: what models trained on one variant of the data score on others."""

import math
from collections.abc import Mapping

from study.display import pages
from study.display.plots import PLOT_CONFIG, style
from study.scoring.curve import METRIC, Curve
from study.scoring.leaderboard import cell

GREY = "rgba(110, 118, 130, 0.9)"
DASHES = ("dot", "dash", "dashdot", "longdash")


def curve_section(curves: Mapping[str, Curve]) -> tuple[str, list[str]]:
    """A section of a page with all ``curves`` in one picture and one table, and the scripts that it needs.

    ``curves`` is name -> curve, at least one, of studies on the same data. Where some have fewer places, their lines
    have gaps, and the baselines are those of one that has most. Without plotly there is no picture.
    """
    longest = max(curves.values(), key=lambda curve: len(curve.labels))
    lines = {name: curve.at(longest.labels) for name, curve in curves.items()}
    baselines = {name: scores for name, scores in longest.scores.items() if name != longest.winner}
    rows = [[name, *(cell(METRIC, score) for score in scores)] for name, scores in {**lines, **baselines}.items()]
    body = [pages.grid([f"{METRIC} (%)", *longest.labels], rows), pages.notes([_note(longest)])]
    figure, scripts = _figure(longest, lines, baselines)
    return pages.section(f"Curve over the {longest.axis}", *figure, *body), scripts


def _note(curve: Curve) -> str:
    trained = f"trained at {curve.own}; " if curve.own is not None else ""
    return f"{trained}scored without retraining; the curve is reported, and nothing is chosen by it"


def _figure(
    curve: Curve, lines: Mapping[str, list[float]], baselines: Mapping[str, list[float]]
) -> tuple[list[str], list[str]]:
    """The picture as HTML, and plotly's script; nothing without plotly."""
    try:
        import plotly.graph_objects as go
        from plotly.offline import get_plotlyjs
    except ImportError:
        return [], []
    figure = go.Figure()
    places = curve.places
    for name, scores in lines.items():
        sizes = [13 if label == curve.own else 6 for label in curve.labels]
        symbols = ["diamond" if label == curve.own else "circle" for label in curve.labels]
        y = [None if math.isnan(score) else 100 * score for score in scores]
        marker = {"size": sizes, "symbol": symbols}
        figure.add_scatter(x=places, y=y, name=name, mode="lines+markers", marker=marker, line={"width": 2.5})
    for number, (name, scores) in enumerate(baselines.items()):
        y = [None if math.isnan(score) else 100 * score for score in scores]
        line = {"width": 1, "color": GREY, "dash": DASHES[number % len(DASHES)]}
        figure.add_scatter(x=places, y=y, name=name, mode="lines", line=line)
    style(figure)
    figure.update_xaxes(title=curve.axis)
    figure.update_yaxes(title=f"{METRIC} (%)", rangemode="tozero")
    html = figure.to_html(full_html=False, include_plotlyjs=False, config=PLOT_CONFIG)
    return [pages.plots([(f"{METRIC} on test images", html, True)])], [get_plotlyjs()]
