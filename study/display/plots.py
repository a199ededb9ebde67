"""Plots of a study's search: Optuna's own, in the style of the page."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import optuna

PLOT_CONFIG = {"displayModeBar": False, "responsive": True}

MANY = 6
"""A plot with one axis per hyperparameter shows at most so many of them, to stay legible."""


def search_plots(
    study: optuna.Study, metric: str, important: Sequence[str] | None
) -> tuple[list[tuple[str, str, bool]], list[str], list[str]]:
    """Plots as (title, HTML, full width?), remarks on those left out, and the scripts that the plots need.

    ``metric`` names the objective, ``important`` the hyperparameters to show where not all fit; None if that is not
    known yet. Without plotly there is no plot, and a remark says what to install.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        return [], ["The plots need a package: pip install 'clevrtune[report]'"], []
    draw = optuna.visualization
    shown = _shown(study, important)
    named, few = {"target_name": metric}, {"target_name": metric, "params": shown}
    suffix = "" if shown is None or len(shown) < MANY else f", the {MANY} most important"
    wanted: list[tuple[str, Any, dict[str, Any], bool]] = [
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
