"""Plots of a search, as the traces that the page draws."""

import json
import re
from typing import Any

from study.display.figures import decades, label, thinned
from study.display.plots import Search, history, learning_curves, one_slice, parallel_coordinates


def trial(number: int, value: float, *, state: str = "COMPLETE", lr: float = 0.01, reports: int = 3) -> dict[str, Any]:
    curve = [value * report / 3 for report in range(1, reports + 1)]
    row = {"number": number, "state": state, "value": value, "second_value": None, "start": None, "complete": None}
    row |= {"intermediate_steps": list(range(1, reports + 1)), "intermediate_values": curve}
    return row | {"params_lr": lr, "params_kind": "<b>" if number % 2 else None, "params_depth": number}


TRIALS = [
    trial(3, 0.9, lr=0.001),
    trial(1, 0.6, lr=0.1),
    trial(0, 0.3),
    trial(2, 0.95, state="PRUNED", reports=1),
    trial(4, 0.2, state="FAIL", reports=2),
]


def search(**change: Any) -> Search:
    asked: dict[str, Any] = {"trials": TRIALS, "goals": ["mIoU_fg"], "maximize": True, "steps_per_report": 50.0}
    return Search(**asked | {"rungs": [1], "logarithmic": frozenset({"lr"})} | change)


def read(html: str | None) -> dict[str, Any]:
    assert html is not None
    return json.loads(re.search(r"<script[^>]*>(.*?)</script>", html)[1])  # type: ignore[index]


def test_curves_stand_over_steps_and_say_how_they_end() -> None:
    data = read(learning_curves(search()))["data"]
    by_name = {trace["name"]: trace for trace in data if "name" in trace}
    assert list(by_name) == ["failed", "pruned", "complete", "base", "trial 3, the best"], "the best is on top"
    assert by_name["trial 3, the best"]["x"] == [50, 100, 150]
    assert by_name["complete"]["text"][0] == "trial 1" and by_name["complete"]["x"][-1] is None
    ends = {trace["text"][0]: trace["x"] for trace in data if trace.get("marker", {}).get("symbol") == "x"}
    assert ends == {"trial 2 pruned": [50], "trial 4 failed": [100]}
    assert "base, the winner" in str(read(learning_curves(search(winner=0)))["data"])


def test_the_history_has_complete_trials_alone() -> None:
    points, so_far = read(history(search()))["data"]
    assert points["x"] == [0, 1, 3] and points["y"] == [0.3, 0.6, 0.9], "a pruned trial has a value, too"
    assert so_far["y"] == [0.3, 0.6, 0.9]
    assert read(history(search(maximize=False)))["data"][1]["y"] == [0.3, 0.3]


def test_a_slice_has_the_scale_of_its_range_and_names_as_text() -> None:
    drawn = read(one_slice(search(), "lr"))
    assert drawn["layout"]["xaxis"]["type"] == "log"
    assert {trace["name"]: len(trace["x"]) for trace in drawn["data"]} == {"pruned": 1, "complete": 3}
    assert read(one_slice(search(logarithmic=frozenset()), "lr"))["layout"]["xaxis"]["type"] == "linear"
    axis = read(one_slice(search(), "depth"))["layout"]["xaxis"]
    assert (axis["tickformat"], axis["dtick"]) == ("d", 1), "there is nothing between whole numbers"
    assert one_slice(search(), "kind") is None, "one value alone tells nothing"
    kinds = [trial(0, 0.1) | {"params_kind": "a"}, trial(1, 0.2) | {"params_kind": "<b>"}]
    drawn = read(one_slice(search(trials=kinds), "kind"))
    assert drawn["data"][0]["x"] == ["a", "&lt;b&gt;"] and drawn["layout"]["xaxis"]["type"] == "category"


def test_parallel_coordinates_run_from_0_to_1_on_each_axis() -> None:
    drawn = read(parallel_coordinates(search(), ["lr", "depth", "kind"]))
    assert drawn["layout"]["xaxis"]["ticktext"] == ["lr", "depth"], "those with several values"
    best = drawn["data"][-1]
    assert best["name"] == "trial 3" and best["y"][:2] == [0.0, 1.0] and best["line"]["color"] == "var(--best)"
    base = next(trace for trace in drawn["data"] if "trial 0" in trace["text"])
    assert base["y"][:2] == [0.5, 0.0], "0.01 is midway from 0.001 to 0.1"
    assert [a["text"] for a in drawn["layout"]["annotations"][:3]] == ["0.001", "0.01", "0.1"]
    ends = drawn["layout"]["annotations"][3:]
    assert [(a["text"], a["xanchor"]) for a in ends] == [("0", "right"), ("3", "right")], "within a narrow page"
    assert parallel_coordinates(search(trials=TRIALS[:1]), ["lr", "depth"]) is None


def test_values_far_off_do_not_flatten_the_others() -> None:
    usual = [trial(number, 0.5 + number / 100) for number in range(10)]
    assert "range" not in read(learning_curves(search(trials=usual)))["layout"]["yaxis"]
    wild = [*usual, trial(10, -1e9)]
    low, high = read(learning_curves(search(trials=wild)))["layout"]["yaxis"]["range"]
    assert -1 < low < 0.2 and 0.5 < high < 1


def test_few_are_spread_over_many() -> None:
    assert thinned(range(5), 9) == [0, 1, 2, 3, 4]
    few = thinned(range(1000), 7)
    assert len(few) == 7 and few[0] == 0 and few[-1] == 999 and len(set(few)) == 7


def test_ticks_of_a_logarithmic_axis_are_round_and_few() -> None:
    for values in ([0.05, 0.2], [1e-25, 1e-12], [3, 3], [40_000, 900_000]):
        axis = decades(values)
        assert 1 <= len(axis["tickvals"]) <= 6, values
        low, high = axis["range"]
        assert 10**low < min(values) and 10**high > max(values)
    assert decades([40_000, 900_000])["ticktext"][0] == "50,000" and label("<a>") == "&lt;a&gt;"
