"""Reports of studies with thousands of trials stay small enough to send around."""

import json

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial

from study.display import study_page
from study.display.plots import LINES, POINTS
from study.display.trials_section import MOST
from tests.study.display.page_reader import Page
from tests.study.results import CONFIG, open_study

TRIALS = 1500


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("many") / "many"
    folder.mkdir()
    (folder / "study.json").write_text(json.dumps({"config": CONFIG | {"reports": 6}, "direction": "max"}))
    study = open_study(folder)
    study.set_user_attr("rungs", [2])
    names = [f"key{i}" for i in range(9)]
    distributions: dict = {name: FloatDistribution(1e-4, 1, log=True) for name in names}
    distributions["kind"] = CategoricalDistribution(["a", "b"])
    trials = []
    for number in range(TRIALS):
        state = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.PRUNED, TrialState.FAIL)[number % 4]
        params = {name: 1e-4 + ((number * 7919 + i * 104729) % 9973) / 9973 * 0.99 for i, name in enumerate(names)}
        params["kind"] = "ab"[number % 2]
        reached = 6 if state == TrialState.COMPLETE else 2
        values = {report: report / 10 + params["key0"] / 10 for report in range(1, reached + 1)}
        trials.append(
            create_trial(
                state=state,
                value=values[6] if reached == 6 else None,
                params=params,
                distributions=distributions,
                intermediate_values=values,
                user_attrs={"reason": "out of memory"} if state == TrialState.FAIL else {},
            )
        )
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study.add_trials(trials)
    path = study_page.write(folder)
    assert path.stat().st_size < 4_500_000, "without pictures; 6 MB is the rule"
    return path.read_text()


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_few_hundred_curves_are_drawn_and_it_is_said(page: Page) -> None:
    curves = next(
        plot for plot in page.plots if plot["layout"]["xaxis"].get("title", {}).get("text") == "training steps"
    )
    lines = sum(trace["x"].count(None) for trace in curves["data"] if trace["mode"] == "lines")
    assert LINES - 10 < lines <= LINES
    names = [trace.get("name", "") for trace in curves["data"]]
    assert any(name.startswith("pruned (") and name.endswith(" of 750)") for name in names)
    best = curves["data"][-1]
    assert best["line"]["color"] == "var(--best)" and len(best["x"]) == 6 and best["x"][-1] == CONFIG["steps"]
    (rung,) = curves["layout"]["shapes"]
    assert rung["x0"] == round(2 * CONFIG["steps"] / 6), "on the axis of steps"
    crosses = [trace for trace in curves["data"] if trace.get("marker", {}).get("symbol") == "x"]
    assert {trace["marker"]["color"] for trace in crosses} == {"var(--calm)", "var(--bad)"}, "pruned and failed ones"


def test_other_plots_are_thinned_too(page: Page, html: str) -> None:
    assert all(len(trace["x"]) <= 7 * POINTS for plot in page.plots for trace in plot["data"])
    assert "Timeline, pauses included: more than 300 trials" in html and "History" in page.headings
    assert "the 6 most important of 10 hyperparameters are drawn" in html


def test_the_table_has_the_best_and_some_that_failed(page: Page) -> None:
    cells = page.named["trials"]
    assert cells.count("failed") == 100 and cells.count("complete") == 375
    assert cells.count("pruned") == MOST - 100 - 375
