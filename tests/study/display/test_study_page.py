"""Reports of small results folders: whole, hardly begun, failing, interrupted."""

import json
import os
import shutil
import sys
from pathlib import Path

import optuna
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from study.display import study_page
from study.display.front_table import front_notes, front_table
from study.scoring.leaderboard import BRIEF
from tests.study.display.page_reader import Page
from tests.study.results import CONFIG, open_study, with_figures, write_curve


def quiet_console() -> Console:
    return Console(record=True, width=80, file=open(os.devnull, "w"))


def test_a_fourth_split_has_a_table_and_pictures_of_its_own(results_folder: Path) -> None:
    """Its name has an underscore, as names of entries have."""
    path = results_folder / "evaluation.parquet"
    table = pq.read_table(path)
    fourth = table.filter(pc.equal(table["split"], "test"))
    fourth = fourth.set_column(fourth.column_names.index("split"), "split", pa.array(["camo_textured"] * len(fourth)))
    pq.write_table(pa.concat_tables([table, fourth]), path)
    for entry in ("trial_0005", "baseline_grid_4x4"):
        shutil.copy(
            results_folder / f"pictures/{entry}_test.png", results_folder / f"pictures/{entry}_camo_textured.png"
        )
    page = Page(study_page.write(results_folder).read_text())
    assert "textured CAMO (6 images)" in page.headings
    assert page.headings[page.headings.index("Pictures") :][1:3] == ["test", "textured CAMO"]
    assert page.details == ["trial 5", "trial 2", "grid 4x4", "trial 5", "grid 4x4"]


def test_the_curve_is_a_picture_a_table_and_a_line(results_folder: Path) -> None:
    assert "Curve over" not in study_page.write(results_folder).read_text(), "without one"
    (results_folder / "best.json").write_text('{"entry": "trial_0005"}')
    write_curve(results_folder, "trial_0005")
    console = quiet_console()
    html = study_page.write(results_folder, console).read_text()
    page = Page(html)
    assert "Curve over the strength of texture" in page.headings
    assert "mIoU_fg in % by strength of texture" in page.headings, "where a narrow page hides the heads"
    assert page.named["curve"] == [
        *("mIoU_fg", "(%)", "0", "0.2", "1"),
        *("trial 5", "61.0", "49.0", "15.0"),
        *("grid 4x4", "30.5", "24.5", "7.5"),
        *("kmeans", "20.3", "16.3", "5.0"),
    ]
    symbols = [
        trace["marker"].get("symbol") for plot in page.plots for trace in plot["data"] if trace.get("name") == "trial 5"
    ]
    assert ["circle", "diamond", "circle"] in symbols, "where the winner was trained"
    assert "trained at 0.2; scored without retraining" in html
    line = "strength of texture 0 / 0.2 / 1: mIoU_fg of trial 5 61 49 15"
    assert line in " ".join(console.export_text().split())


def test_report_is_one_file_with_everything_in_it(results_folder: Path) -> None:
    path = study_page.write(results_folder)
    html = path.read_text()
    page = Page(html)
    assert page.headings[0] == "space on synthetic"
    sections = ["What was found", "Leaderboard", "Pictures", "Search", "Importance", "Trials", "How to reproduce"]
    assert [heading for heading in page.headings if heading in sections] == sections
    assert "OOD (6 images)" in page.headings
    names = ("failures", "leaderboard", "leaderboard_OOD", "finalists", "trials")
    failures, test, outd, finalists, trials = (page.named[name] for name in names)
    assert failures == ["reason", "trials", "loss is nan at step 120 </script>", "1"]
    assert page.headings.index("Failed trials") < page.headings.index("Leaderboard"), "near the top"
    assert "47.5 ± 5.0" in test
    units = ("(%)", "(%)", "(sum over 3x32x32)")
    wanted = [f"{m} {who} {unit}" for m, unit in zip(BRIEF, units, strict=True) for who in ("trial 5", "base")]
    assert " ".join(page.named["found"]).startswith(" ".join(wanted))
    scores = ["2.5", "[1.2, 3.8]"]
    assert test[-7:] == ["background", *scores, *scores, "200", "[200, 200]"], "with intervals over images"
    assert test.index("trial 2") < test.index("base") < test.index("trial 5 - base") < test.index("grid 4x4")
    assert finalists == [
        *("mean mIoU_fg", "seed 11", "seed 12"),
        *("trial 5", "0.7100", "0.7000", "0.7200"),
        *("trial 2", "0.6250", "0.6000", "0.6500"),
        *("base", "0.6050", "0.6100", "0.6000"),
    ]
    assert test.index("trial 5") < test.index("trial 2"), "in the order of validation; test says the opposite"
    at = outd.index("grid 4x4")
    assert outd[at + 1 :: 2][:3] == ["12.6", "12.6", "160"]
    assert "loss is nan at step 120 </script>" in trials
    states = {word: trials.count(word) for word in ("complete", "pruned", "failed", "running")}
    assert states == {"complete": 5, "pruned": 2, "failed": 1, "running": 1}
    assert page.details == ["trial 5", "trial 2", "grid 4x4"], "in the order of the leaderboard"
    images = [source for source in page.loaded if source.startswith("data:image/png;base64,")]
    assert len(images) == 3
    assert all(source.startswith(("data:", "#")) for source in page.loaded), "works offline"
    assert "url(" not in html.partition("</style>")[0] and "@import" not in html.partition("</style>")[0]
    assert "evaluation.parquet" not in html and "best.json" not in html, "nothing is missing"
    for text in (
        "incomplete data: not comparable",
        "clevrtex:camo is absent",
        "mIoU_fg on validation, trial 5, mean of 2 seeds",
        "71.0%",
        "test: trial 5 may or may not beat the base: mIoU_fg +7.0 [-24.2, +38.2]",
        "validation: trial 5 ",
        "0123456789ab+",
        "86%",
        "1 h 57 min",
    ):
        assert text in html
    for title in ("Learning curves", "History", "Timeline, pauses included", "Parallel coordinates", "lr", "kernel"):
        assert title in page.headings
    assert len(page.plots) == 7 and html.count('<script id="plotly"') == 1
    assert html.count("<b>wide") == 0, "names are no markup, neither on the page nor in its plots"
    assert len(html) < 3_000_000
    assert (
        "--trials 9" in html
        and "--set optimizer=adam --set grad_clip=none" in html
        and "--finalists 3 --seeds 2" in html
        and "--micro-batch" not in html
    )


def test_the_report_has_all_metrics_and_what_each_entry_does(results_folder: Path) -> None:
    table = with_figures(pq.read_table(results_folder / "evaluation.parquet"), trial_0002=0.9)
    pq.write_table(table, results_folder / "evaluation.parquet")
    record = json.loads((results_folder / "study.json").read_text()) | {"best_grid": "2x3"}
    (results_folder / "study.json").write_text(json.dumps(record))
    console = quiet_console()
    page = Page(study_page.write(results_folder, console).read_text())
    test, diagnosis = page.named["leaderboard"], page.named["diagnosis"]
    assert [word for word in test if word.startswith(("mBO", "ARI", "diagnosis"))] == [
        *("ARI_FG", "mBO_fg", "mBO", "ARI", "diagnosis"),
    ]
    at = test.index("trial 2")
    assert test[at + 5 : at + 12 : 2] == ["30.0 ± 0.0", "40.0 ± 0.0", "50.0 ± 0.0", "76.0 ± 4.0"]
    assert test[at + 13] == "finds objects"
    assert test[-1] == "tiles the image"
    assert "Diagnosis" in page.headings
    at = diagnosis.index("trial 2, test")
    figures = ["10", "9.0", "20", "83", "90", "5", "15", "finds objects"]
    assert diagnosis[at + 1 : at + 9] == figures and "trial 2, OOD" in diagnosis
    printed = console.export_text().replace("\n", " ")
    assert "trial 5 on test: tiles the image" in printed and "best fixed grid on validation is 2x3" in printed


def test_importances_stand_beside_the_number_of_trials_and_rank_correlations_below(tmp_path: Path) -> None:
    folder, console = tmp_path / "learnt", quiet_console()
    folder.mkdir()
    config = CONFIG | {"reports": 4, "space": ["lr=0.1..0.2", "kernel=3,5"]}
    (folder / "study.json").write_text(
        json.dumps({"config": config, "direction": "max", "from": [{"study": "/results/other"}]})
    )
    study = open_study(folder)
    distributions = {key: optuna.distributions.FloatDistribution(0, 1) for key in ("lr", "<width>")}
    for i in range(30):
        params = {"lr": i / 30, "<width>": i * 7 % 30 / 30}
        curve = {k: params["lr"] for k in range(1, 5 if i % 3 == 0 else 2)}
        state = optuna.trial.TrialState.COMPLETE if i % 3 == 0 else optuna.trial.TrialState.PRUNED
        value = params["lr"] if i % 3 == 0 else None
        study.add_trial(
            optuna.trial.create_trial(
                state=state, value=value, params=params, distributions=distributions, intermediate_values=curve
            )
        )
    html = study_page.write(folder, console).read_text()
    table = Page(html).named["importance"]
    assert table[:4] == ["share of importance", "report 1 of 4", "trials", "30"]
    assert table[4] == "lr" and int(table[5].rstrip("%")) > 50 and table[6] == "<width>"
    assert "report 4 of 4: importance cannot be known from 10 trials; it takes 20" in html
    line = "rank correlation of report 1 with the last, 4: +1.00 (trials that have both: 10)"
    assert line in html and line in console.export_text().replace("\n", " ")
    assert "--space lr=0.1..0.2 --space kernel=3,5" in html and "--from /results/other" in html, "how to reproduce"


def test_report_of_a_study_that_has_hardly_begun(tmp_path: Path) -> None:
    folder = tmp_path / "young"
    folder.mkdir()
    (folder / "study.json").write_text(json.dumps({"config": CONFIG, "direction": "max"}))
    study = open_study(folder)
    html = study_page.write(folder).read_text()
    assert "no trial is complete yet" in html and "Parallel coordinates: too few trials yet" in html
    assert pq.read_table(folder / "trials.parquet").num_rows == 0
    study.ask().suggest_float("lr", 0, 1)
    study.tell(0, 0.5)
    study.ask({f"x_{i}": optuna.distributions.FloatDistribution(0, 1) for i in range(9)})
    html = study_page.write(folder).read_text()
    assert "running" in html and "Failed trials" not in html
    assert "hyperparameters are drawn" not in html, "of one trial none is"
    (history,) = (plot for plot in Page(html).plots if plot["data"][0].get("name") == "complete trials")
    assert history["layout"]["yaxis"]["range"] == [0.45, 0.55], "a value below zero or above one would be untrue"


def test_report_of_a_study_in_which_every_trial_failed(tmp_path: Path) -> None:
    folder, console = tmp_path / "failing", quiet_console()
    folder.mkdir()
    (folder / "study.json").write_text(json.dumps({"config": CONFIG, "data": {"incomplete": True}}))
    study = open_study(folder)
    for reason in ("out of memory", "loss is [red]nan", "loss is [red]nan", None):
        trial = study.ask({"lr": optuna.distributions.FloatDistribution(0, 1)})
        if reason is not None:
            trial.set_user_attr("reason", reason)
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
    html = study_page.write(folder, console).read_text()
    reasons = Page(html).named["failures"]
    assert reasons[2:4] == ["loss is [red]nan", "2"], "the most frequent first"
    assert set(reasons[4:]) == {"out of memory", "no reason recorded", "1"}
    printed = console.export_text().splitlines()
    assert printed[0] == "incomplete data: not comparable with published numbers"
    assert printed[1] == (
        "no evaluation.parquet and no best.json: no trial is complete yet; "
        "run the study's command again, with more --trials or --hours"
    )
    assert printed[2] == "failed, 2 x: loss is [red]nan" and len(printed) == 5
    assert "no evaluation.parquet and no best.json" in html and "incomplete data: not comparable" in html


def test_report_of_a_final_stage_that_was_interrupted(results_folder: Path) -> None:
    console = quiet_console()
    (results_folder / "best.json").unlink()
    html = study_page.write(results_folder, console).read_text()
    line = "no best.json: the best trials are not all scored yet"
    assert "trial 5" in console.export_text(clear=False) and line in console.export_text() and line in html
    (results_folder / "evaluation.parquet").unlink()
    shutil.rmtree(results_folder / "pictures")
    page = Page(study_page.write(results_folder, console).read_text())
    assert "no evaluation.parquet and no best.json: the best trials are not" in console.export_text()
    assert "Leaderboard" in page.headings and "Pictures" not in page.headings


def test_the_page_names_the_package_that_plots_need(results_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    html = study_page.write(results_folder).read_text()
    assert "pip install &#x27;clevrtune[report]&#x27;" in html and not Page(html).plots


def test_folders_without_a_study_are_errors(results_folder: Path, tmp_path: Path) -> None:
    for place in (tmp_path, results_folder / "study.json", tmp_path / "absent"):
        with pytest.raises(ValueError, match=r"holds no study\.json; give the folder of a study"):
            study_page.write(place)
    (results_folder / "study.json").write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        study_page.write(results_folder)


def test_a_study_with_two_goals_shows_its_front_with_the_base_beside_it(tmp_path: Path) -> None:
    folder, console = tmp_path / "two", quiet_console()
    folder.mkdir()
    config = CONFIG | {"metric": "mIoU_fg,seconds", "pruner": "none"}
    (folder / "study.json").write_text(json.dumps({"config": config, "direction": "max"}))
    study = open_study(folder, ["maximize", "minimize"])
    html = study_page.write(folder).read_text()
    assert "Pareto front" not in Page(html).headings and "too few trials yet" in html
    distributions = {key: optuna.distributions.FloatDistribution(0, 1) for key in ("lr", "momentum")}
    for lr, *values in ((0.5, 0.2, 9.0), (0.25, 0.6, 30.25), (0.125, 0.4, 5.0), (0.75, 0.3, 8.0)):
        params = {"lr": lr, "momentum": 0.5}
        study.add_trial(optuna.trial.create_trial(values=values, params=params, distributions=distributions))
    study.ask()
    html = study_page.write(folder, console).read_text()
    page = Page(html)
    assert page.named["front"] == [
        *("mIoU_fg", "seconds", "lr"),  # momentum is the same everywhere
        *("trial 1", "0.6000", "30.2", "0.25"),
        *("trial 2", "0.4000", "5.0", "0.125"),
        *("base (beaten)", "0.2000", "9.0", "0.5"),
    ]
    headings = ["Pareto front", "The front among all complete trials", "Search", "History", "Trials"]
    assert [heading for heading in page.headings if heading in headings] == headings
    assert "best mIoU_fg on validation, trial 1" in html and "60.0%" in html
    assert "Pareto front, the best mIoU_fg first: trials 1, 2" in console.export_text()
    trials = page.named["trials"]
    assert trials[:5] == ["trial", "state", "mIoU_fg", "seconds", "curve"] and "30.25" in trials
    assert "Learning curves" not in page.headings, "no trial has reported"
    assert "Learning curves: too few trials yet" in html


def test_the_first_trial_is_called_the_base_on_a_front() -> None:
    rows = [
        {"number": 3, "state": "COMPLETE", "value": 0.5, "second_value": 2e6, "params_kernel": 3, "params_lr": None},
        {"number": 0, "state": "COMPLETE", "value": 0.4, "second_value": 1e6, "params_kernel": 5, "params_lr": 0.1},
        {"number": 1, "state": "RUNNING", "value": None, "second_value": None, "params_kernel": 5, "params_lr": 0.1},
    ]
    (table,) = Page(front_table(rows, [3, 0], ["mIoU_fg", "parameters"])).tables
    assert table[:4] == ["mIoU_fg", "parameters", "kernel", "lr"]
    assert table[4:] == ["trial 3", "0.5000", "2,000,000", "3", "base", "0.4000", "1,000,000", "5", "0.1"]
    assert not any("the same" in line for line in front_notes(rows, ["mIoU_fg", "parameters"]))
    same = [row | {"second_value": 2e6} for row in rows]
    assert "all trials have the same parameters" in front_notes(same, ["mIoU_fg", "parameters"])[1]
