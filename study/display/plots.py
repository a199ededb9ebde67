"""Plots of a study's search, from the rows of trials.parquet."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from study.display.figures import decades, figure, label, short, thinned
from study.scoring.leaderboard import FRACTIONS

Trial = Mapping[str, Any]
"""A row of trials.parquet."""
Plot = tuple[str, str, bool]
"""Title, HTML, and whether it wants the full width."""

TIMELINE = "Timeline, pauses included"

MANY = 6
"""A plot with one axis per hyperparameter shows at most so many of them, to stay legible."""
LINES = 300
"""At most so many trials are drawn as lines."""
POINTS = 1000
"""At most so many trials are drawn as points."""
FEW = 12
"""An axis of fewer trials has a tick for each."""
SHADES = ("var(--low)", "var(--low2)", "var(--mid)", "var(--high2)", "var(--high)")
"""Colours of values, the worst fifth first."""
OUTCOMES = {
    "COMPLETE": ("complete", "var(--good)"),
    "PRUNED": ("pruned", "var(--calm)"),
    "PAUSED": ("paused", "var(--accent)"),
    "RUNNING": ("running", "var(--accent)"),
    "FAIL": ("failed", "var(--bad)"),
}
"""States that plots show: their word and colour."""


@dataclass(frozen=True)
class Search:
    """What the plots show."""

    trials: Sequence[Trial]
    goals: Sequence[str]
    """what the study optimises, one or two; with two the plots but for the front are about the first"""
    maximize: bool
    """whether more is better by the first goal"""
    steps_per_report: float = 1.0
    """training steps between two reports"""
    rungs: Sequence[int] = ()
    """the reports at which trials are compared"""
    logarithmic: frozenset[str] = frozenset()
    """hyperparameters with a logarithmic range"""
    important: Sequence[str] = ()
    """hyperparameters, the most important first, as far as that is known"""
    winner: int | None = None
    """the trial that the study chose"""
    names: list[str] = field(init=False)
    """all searched hyperparameters, the important ones first"""
    valued: list[Trial] = field(init=False)
    """complete trials, by number"""

    def __post_init__(self) -> None:
        """Look up what several plots need."""
        keys = [key.removeprefix("params_") for key in (self.trials[0] if self.trials else {}) if key[:7] == "params_"]
        object.__setattr__(self, "names", [*(k for k in self.important if k in keys), *_rest(keys, self.important)])
        complete = [trial for trial in self.trials if trial["state"] == "COMPLETE"]
        object.__setattr__(self, "valued", sorted(complete, key=lambda trial: trial["number"]))

    @property
    def best(self) -> Trial | None:
        """The winner, or the best complete trial while there is none."""
        chosen = [trial for trial in self.trials if trial["number"] == self.winner]
        best = [trial for trial in self.trials if trial["state"] == "COMPLETE"][:1]
        return next(iter([*chosen, *best]), None)  # the table has the best first


def search_plots(search: Search) -> tuple[list[Plot], list[Plot], list[str]]:
    """Plots of the search, small plots with one hyperparameter each, and remarks on those left out."""
    shown = search.names[:MANY]
    suffix = f", the {MANY} most important" if len(search.names) > MANY and search.important else ""
    wanted = [
        ("Learning curves", learning_curves(search), True),
        ("History", history(search), False),
        (TIMELINE, timeline(search), False),
        (f"Parallel coordinates{suffix}", parallel_coordinates(search, shown), True),
    ]
    slices = [(name, one_slice(search, name), False) for name in shown]
    drawn = [(title, html, wide) for title, html, wide in wanted if html]
    small = [(title, html, wide) for title, html, wide in slices if html]
    why = {TIMELINE: f"more than {LINES} trials"} if len(search.trials) > LINES else {}
    remarks = [f"{title}: {why.get(title, 'too few trials yet')}" for title, html, _ in wanted if not html]
    if len(search.names) > MANY and (small or wanted[-1][1]):
        which = f"{MANY} most important" if search.important else f"first {MANY}"
        remarks.append(
            f"the {which} of {len(search.names)} hyperparameters are drawn where their values differ; the table "
            "of trials has all"
        )
    return drawn, small, remarks


def learning_curves(search: Search) -> str | None:
    """The values of all trials over training steps, on one scale: pruned ones end with a cross, the best is bold."""
    lines = [trial for trial in search.trials if trial["intermediate_values"]]
    best, chosen = search.best, "best" if search.winner is None else "winner"
    groups: dict[str, list[Trial]] = {}
    for trial in lines:
        if trial is not best and trial["number"] != 0:
            groups.setdefault(trial["state"] if trial["state"] in OUTCOMES else "RUNNING", []).append(trial)
    if not lines:
        return None
    total = sum(map(len, groups.values()))
    data: list[dict[str, Any]] = []
    for state in reversed(OUTCOMES):
        here = groups.get(state, [])
        few = thinned(here, max(2, LINES * len(here) // total)) if total > LINES else here
        if not few:
            continue
        word, colour = OUTCOMES[state]
        x, y, texts = _joined([(_steps(search, trial), _values(trial), f"trial {trial['number']}") for trial in few])
        name = word if len(few) == len(here) else f"{word} ({len(few)} of {len(here):,})"
        style = {"color": colour, "width": 1}
        data.append({"x": x, "y": y, "text": texts, "name": name, "mode": "lines", "line": style, "opacity": 0.75})
        if state in ("PRUNED", "FAIL"):
            ends = [(_steps(search, trial)[-1], _values(trial)[-1], f"trial {trial['number']} {word}") for trial in few]
            x, y, texts = (list(column) for column in zip(*ends, strict=True))
            marker = {"symbol": "x", "size": 7, "color": colour}
            data.append({"x": x, "y": y, "text": texts, "mode": "markers", "marker": marker, "showlegend": False})
    for special, name, colour, dash in (
        (next((trial for trial in lines if trial["number"] == 0), None), "base", "var(--base)", "dash"),
        (best, f"{_name(best)}, the {chosen}" if best else "", "var(--best)", "solid"),
    ):
        if special and special["intermediate_values"] and not (name == "base" and special is best):
            style = {"color": colour, "width": 3.5, "dash": dash}
            line = {"x": _steps(search, special), "y": _values(special), "name": name, "mode": "lines+markers"}
            data.append({**line, "line": style, "marker": {"color": colour, "size": 6}})
    rung = {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "line": {"color": "var(--faint)", "dash": "dot"}}
    places = [round(report * search.steps_per_report) for report in search.rungs]
    layout = {
        "xaxis": {"title": {"text": "training steps"}, "rangemode": "tozero"},
        "yaxis": {"title": {"text": f"{_goal(search)} on validation"}, **_scale(search)},
        "shapes": [{**rung, "x0": place, "x1": place} for place in places],
        "annotations": [
            {"x": place, "y": 0, "yref": "paper", "yanchor": "bottom", "xanchor": "left", "text": "rung"}
            | {"showarrow": False, "font": {"size": 11}}
            for place in places
        ],
    }
    return figure(data, layout, height=440, about="values of all trials over training steps")


def history(search: Search) -> str | None:
    """The value of each complete trial by its number, and the best so far."""
    if not search.valued:
        return None
    choose = max if search.maximize else min
    values = [trial["value"] for trial in search.valued]
    so_far = list(itertools.accumulate(values, choose))
    # where many trials are drawn, those at which the best changes are among them
    steps = [i for i in range(len(values)) if i in (0, len(values) - 1) or so_far[i] != so_far[i - 1]]
    shown = sorted({*thinned(range(len(values)), POINTS), *steps})
    numbers = [trial["number"] for trial in search.valued]
    marker = {"color": "var(--accent)", "size": 6}
    data = [
        {"x": [numbers[i] for i in shown], "y": [short(values[i]) for i in shown], "name": "complete trials"}
        | {"mode": "markers", "marker": marker},
        {"x": [numbers[i] for i in steps], "y": [short(so_far[i]) for i in steps], "name": "best so far"}
        | {"mode": "lines", "line": {"color": "var(--best)", "width": 2.5, "shape": "hv"}},
    ]
    near = 0.1 * abs(values[0]) or 0.1
    few = {"range": [short(values[0] - near), short(values[0] + near)]} if len(set(values)) == 1 else {}
    axes = {"xaxis": _numbered(numbers), "yaxis": {"title": {"text": f"{_goal(search)} on validation"}, **few}}
    return figure(data, axes, about="value of each complete trial")


def timeline(search: Search) -> str | None:
    """When each trial began and ended; of a few hundred trials at most."""
    ran = [trial for trial in search.trials if trial["start"] and trial["complete"]]
    if not ran or len(ran) > LINES:
        return None
    data = []
    for state, (word, colour) in OUTCOMES.items():
        here = [trial for trial in ran if trial["state"] == state]
        if here:
            data.append(
                {
                    "type": "bar",
                    "orientation": "h",
                    "name": word,
                    "base": [f"{trial['start']:%Y-%m-%d %H:%M:%S}" for trial in here],
                    "x": [round((trial["complete"] - trial["start"]).total_seconds() * 1000) for trial in here],
                    "y": [trial["number"] for trial in here],
                    "width": 0.8,  # else that of the closest numbers of this state
                    "marker": {"color": colour},
                    "hovertext": [f"trial {trial['number']}" for trial in here],
                }
            )
    axis = _numbered([trial["number"] for trial in ran])
    layout = {"xaxis": {"type": "date"}, "yaxis": axis, "barmode": "overlay"}
    return figure(data, layout, about="when each trial began and ended")


def parallel_coordinates(search: Search, names: Sequence[str]) -> str | None:
    """One line per complete trial over the hyperparameters ``names``, in five shades by value, the best in its own."""
    shown = [name for name in names if len({_key(trial, name) for trial in search.valued} - {None}) > 1]
    if len(search.valued) < 2 or len(shown) < 2:
        return None
    axes = {name: _axis(search, name) for name in shown}
    by_value = sorted(search.valued, key=lambda trial: trial["value"], reverse=not search.maximize)
    few = thinned(by_value, LINES)
    best = search.best
    groups: list[list[Trial]] = [[] for _ in SHADES]
    for place, trial in enumerate(few):
        groups[len(SHADES) * place // len(few)].append(trial)
    words = ["worst fifth", "", "middle fifth", "", "best fifth"] if len(few) >= len(SHADES) else ["others"] + [""] * 4
    chosen = [best] if best in search.valued and best is not None else []
    styles = [
        *zip(SHADES, words, (1.2,) * 5, strict=True),
        ("var(--best)", _name(best) if best else "", 3.5),
    ]
    data = []
    for members, (colour, word, width) in zip([*groups, chosen], styles, strict=True):
        lines = [
            (list(range(len(shown))), [axes[name].place(trial) for name in shown], f"trial {trial['number']}")
            for trial in members
        ]
        if lines:
            x, y, texts = _joined(lines)
            data.append(
                {"x": x, "y": y, "text": texts, "name": word, "showlegend": bool(word), "mode": "lines"}
                | {"line": {"color": colour, "width": width}, "hoverinfo": "text"}
            )
    ticks = [
        {"x": i, "y": place, "text": words, "showarrow": False, "font": {"size": 11}}
        | {"bgcolor": "var(--card)", "opacity": 0.85}
        | ({"xanchor": "right", "xshift": -3} if i == len(shown) - 1 else {"xanchor": "left", "xshift": 3})
        for i, name in enumerate(shown)
        for place, words in axes[name].ticks
    ]
    upright = {"type": "line", "y0": 0, "y1": 1, "line": {"color": "var(--faint)", "width": 1}}
    layout = {
        "xaxis": {"tickvals": list(range(len(shown))), "ticktext": [label(name) for name in shown], "showgrid": False}
        | {"zeroline": False, "range": [-0.3, len(shown) - 0.7], "side": "bottom"},
        "yaxis": {"visible": False, "range": [-0.06, 1.06]},
        "annotations": ticks,
        "shapes": [{**upright, "x0": i, "x1": i} for i in range(len(shown))],
    }
    return figure(data, layout, height=420, about="hyperparameters of complete trials by value")


def one_slice(search: Search, name: str) -> str | None:
    """Value against one hyperparameter: complete trials, and what pruned ones had at their last report."""
    data = []
    for state, symbol in (("PRUNED", "circle-open"), ("COMPLETE", "circle")):
        here = [t for t in search.trials if t["state"] == state and _key(t, name) is not None and _last(t) is not None]
        here = thinned(here, POINTS)
        if here:
            word, colour = OUTCOMES[state]
            x = [_key(trial, name) for trial in here]
            marker = {"symbol": symbol, "size": 7, "color": "var(--accent)" if state == "COMPLETE" else colour}
            data.append(
                {"x": x, "y": [_last(trial) for trial in here], "name": word, "mode": "markers", "marker": marker}
                | {"text": [f"trial {trial['number']}" for trial in here]}
            )
    if not data or len({x for trace in data for x in trace["x"]}) < 2:
        return None
    numeric = all(isinstance(x, int | float) for trace in data for x in trace["x"])
    positive = numeric and min(x for trace in data for x in trace["x"]) > 0
    kind = "category" if not numeric else "log" if name in search.logarithmic and positive else "linear"
    places = [x for trace in data for x in trace["x"]]
    axis = {"type": kind, **(decades(places) if kind == "log" else {"nticks": 6})}
    if kind == "linear" and all(isinstance(x, int) for x in places):
        axis |= {"tickformat": "d", **({"dtick": 1} if max(places) - min(places) < FEW else {})}
    layout = {"xaxis": axis, "yaxis": {"title": {"text": _goal(search)}, **_scale(search)}}
    return figure(data, layout, height=270, about=f"value against {name}")


def front_plot(search: Search, front: Sequence[int]) -> str | None:
    """The complete trials by both goals: first all, then the Pareto ``front`` as a line, then the base."""
    complete = {trial["number"]: trial for trial in search.valued}
    data = []
    for name, numbers, look in (
        ("complete trials", list(complete), {"mode": "markers", "marker": {"color": "var(--faint)", "size": 7}}),
        ("Pareto front", front, {"mode": "lines+markers", "line": {"color": "var(--best)"}}),
        ("base", [0] if 0 in complete else [], {"mode": "markers"}),
    ):
        if numbers:
            here = [complete[number] for number in numbers]
            line = {"x": [short(t["second_value"]) for t in here], "y": [short(t["value"]) for t in here], **look}
            data.append({**line, "name": name, "text": [f"trial {number}" for number in numbers]})
    if data and data[-1]["name"] == "base":
        data[-1]["marker"] = {"color": "var(--base)", "symbol": "x", "size": 10}
    axes = {"xaxis": {"title": {"text": search.goals[1]}}, "yaxis": {"title": {"text": search.goals[0]}}}
    return figure(data, axes, about="complete trials by both goals") if data else None


@dataclass(frozen=True)
class _Axis:
    """An upright axis of the parallel coordinates, from 0 to 1."""

    name: str
    low: float
    high: float
    logarithmic: bool
    categories: Sequence[str]
    ticks: Sequence[tuple[float, str]]

    def place(self, trial: Trial) -> float | None:
        """Where ``trial`` stands; None where it lacks the hyperparameter."""
        key = _key(trial, self.name)
        if key is None:
            return None
        if self.categories:
            return short(self.categories.index(str(key)) / max(len(self.categories) - 1, 1))
        value = math.log(key) if self.logarithmic else key
        return short((value - self.low) / ((self.high - self.low) or 1.0))


def _axis(search: Search, name: str) -> _Axis:
    keys = [key for trial in search.valued if (key := _key(trial, name)) is not None]
    if not all(isinstance(key, int | float) for key in keys):
        categories = sorted({str(key) for key in keys})
        ticks = [(i / max(len(categories) - 1, 1), label(words)) for i, words in enumerate(categories)]
        return _Axis(name, 0, 1, False, categories, ticks)
    logarithmic = name in search.logarithmic and min(keys) > 0
    low, high = (math.log(min(keys)), math.log(max(keys))) if logarithmic else (min(keys), max(keys))
    whole = all(isinstance(key, int) for key in keys) and not logarithmic
    shares = (0.0, 1.0) if whole and (low + high) % 2 else (0.0, 0.5, 1.0)  # nothing lies in the middle
    places = [low + share * (high - low) for share in shares]
    ticks = [(share, f"{math.exp(p) if logarithmic else p:.3g}") for share, p in zip(shares, places, strict=True)]
    return _Axis(name, low, high, logarithmic, [], ticks)


def _goal(search: Search) -> str:
    """What an axis of values is called."""
    goal = search.goals[0]
    return f"{label(goal)} (0 to 1)" if goal in FRACTIONS else label(goal)


def _numbered(numbers: Sequence[int]) -> dict[str, Any]:
    """An axis of trials: whole numbers, and room around a few."""
    few = {"dtick": 1, "range": [min(numbers) - 0.8, max(numbers) + 0.8]} if max(numbers) - min(numbers) < FEW else {}
    return {"title": {"text": "trial"}, "tickformat": "d", **few}


def _name(trial: Trial) -> str:
    """What a legend calls ``trial``."""
    return f"trial {trial['number']}" if trial["number"] else "base"


def _rest(keys: Sequence[str], important: Sequence[str]) -> list[str]:
    return [key for key in keys if key not in important]


def _key(trial: Trial, name: str) -> Any:
    """The value of a hyperparameter; truth values and lists as text."""
    value = trial.get(f"params_{name}")
    return label(value) if isinstance(value, str | bool | list) else value


def _steps(search: Search, trial: Trial) -> list[int]:
    return [round(report * search.steps_per_report) for report in trial["intermediate_steps"]]


def _values(trial: Trial) -> list[float | None]:
    return [short(value) for value in trial["intermediate_values"]]


def _last(trial: Trial) -> float | None:
    """The value of a trial, of one that is not complete the last that it reported."""
    return short(trial["value"] if trial["value"] is not None else next(iter(trial["intermediate_values"][::-1]), None))


def _joined(lines: Sequence[tuple[Sequence[Any], Sequence[Any], str]]) -> tuple[list, list, list]:
    """Several lines as one trace with gaps: x, y and the text of each point."""
    x: list[Any] = []
    y: list[Any] = []
    texts: list[str | None] = []
    for here, there, words in lines:
        x += [*here, None]
        y += [*there, None]
        texts += [words] * (len(here) + 1)
    return x, y, texts


def _scale(search: Search) -> dict[str, Any]:
    """A range without the few values that would flatten all others, as of a loss that went up."""
    values = sorted(
        value for t in search.trials for value in t["intermediate_values"] if value is not None and math.isfinite(value)
    )
    if len(values) < 8:
        return {}
    low, high = values[len(values) // 10], values[-1 - len(values) // 10]
    span = high - low or 1.0
    seen = [value for value in values if low - 3 * span <= value <= high + 3 * span]
    if len(seen) == len(values):
        return {}
    pad = 0.05 * (seen[-1] - seen[0])
    return {"range": [short(seen[0] - pad), short(seen[-1] + pad)]}
