"""Plots of a study's search: Optuna's own, in the style of the page."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import optuna

from study.search import goals as study_goals

PLOT_CONFIG = {"displayModeBar": False, "responsive": True}

FRONT = "The front among all complete trials"
"""The title of the plot of a Pareto front."""

MANY = 6
"""A plot with one axis per hyperparameter shows at most so many of them, to stay legible."""


def search_plots(
    study: optuna.Study, goals: Sequence[str], important: Sequence[str] | None
) -> tuple[list[tuple[str, str, bool]], list[str], list[str]]:
    """Plots as (title, HTML, full width?), remarks on those left out, and the scripts that the plots need.

    ``goals`` names what the study optimises; with two, the first plot is the Pareto front, and the others are about the
    first goal. ``important`` names the hyperparameters to show where not all fit; None if that is not known yet.
    Without plotly there is no plot, and a remark says what to install.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        return [], ["The plots need a package: pip install 'clevrtune[report]'"], []
    draw = optuna.visualization
    shown = _shown(study, important)
    named: dict[str, Any] = {"target_name": goals[0]}
    if len(goals) > 1:
        named["target"] = study_goals.first
    few = {**named, "params": shown}
    suffix = "" if shown is None or len(shown) < MANY else f", the {MANY} most important"
    wanted: list[tuple[str, Any, dict[str, Any], bool]] = [
        *([(FRONT, _front, {"goals": goals}, True)] if len(goals) > 1 else []),
        ("Optimisation history", draw.plot_optimization_history, named, False),
        ("Intermediate values", draw.plot_intermediate_values, {}, False),
        ("Timeline", draw.plot_timeline, {}, False),
        (f"Parallel coordinates{suffix}", draw.plot_parallel_coordinate, few, True),
        (f"Slices{suffix}", draw.plot_slice, few, True),
    ]
    drawn, missing = [], []
    for title, plot, arguments, wide in wanted:
        with _quiet():
            try:
                figure = plot(study, **arguments)
            except (ValueError, RuntimeError, ZeroDivisionError):
                figure = None
        if figure is None or not figure.data:
            missing.append(f"{title}: too few trials yet")
            continue
        style(figure)
        html = figure.to_html(full_html=False, include_plotlyjs=False, config=PLOT_CONFIG)
        drawn.append((title, html, wide))
    return drawn, missing, [get_plotlyjs()] if drawn else []


def _front(study: optuna.Study, goals: Sequence[str]) -> Any:
    """The complete trials of ``study`` by both ``goals``: first all, then the Pareto front as a line, then the base."""
    from plotly import graph_objects

    trials = study.get_trials(deepcopy=False)
    complete = [trial.number for trial in trials if trial.state == optuna.trial.TrialState.COMPLETE]
    front = study_goals.front(study)
    figure = graph_objects.Figure()
    for name, numbers, look in (
        ("complete trials", complete, {"mode": "markers", "marker": {"color": "#98a2b3"}}),
        ("Pareto front", front, {"mode": "lines+markers", "line": {"color": "#2563a8"}}),
        ("base", [n for n in complete if n == 0], {"mode": "markers", "marker": {"color": "#b3362b", "symbol": "x"}}),
    ):
        if numbers:
            firsts, seconds = zip(*(trials[number].values for number in numbers), strict=True)
            texts = [f"trial {number}" for number in numbers]
            figure.add_scatter(x=seconds, y=firsts, text=texts, name=name, **look)
    figure.update_layout(xaxis_title=goals[1], yaxis_title=goals[0])
    return figure


def _shown(study: optuna.Study, important: Sequence[str] | None) -> list[str] | None:
    """At most :data:`MANY` of the ``important`` hyperparameters that complete trials have; None for all."""
    if important is None:
        return None
    complete = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    used = {key for trial in complete for key in trial.params}
    return [key for key in important if key in used][:MANY] or None


def style(figure: Any) -> None:
    """Fit ``figure`` into a card: dark on transparent; in dark mode the page's style inverts it."""
    grid = "rgba(128, 136, 150, 0.25)"
    figure.update_layout(
        title=None,
        width=None,  # that of the card
        height=380,
        margin={"l": 60, "r": 30, "t": 30, "b": 50},
        legend={"orientation": "h", "y": 1.12},
        paper_bgcolor="rgba(0, 0, 0, 0)",
        plot_bgcolor="rgba(0, 0, 0, 0)",
        font={"color": "#475467", "family": "system-ui, sans-serif"},
    )
    figure.update_xaxes(gridcolor=grid, zerolinecolor=grid)
    figure.update_yaxes(gridcolor=grid, zerolinecolor=grid)


@contextmanager
def _quiet() -> Iterator[None]:
    """Within this context Optuna does not warn that a study is small."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)
