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
from tests.study.display.page_reader import Page
from tests.study.results import CONFIG, open_study, write_curve


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
    (table,) = [table for table in page.tables if table[0] == "mIoU_fg (%)"]
    assert table == [
        *("mIoU_fg (%)", "0", "0.2", "1"),
        *("trial 5", "61.0", "49.0", "15.0"),
        *("grid 4x4", "30.5", "24.5", "7.5"),
        *("kmeans", "20.3", "16.3", "5.0"),
    ]
    assert html.count('"diamond"') == 1, "where the winner was trained"
    assert "trained at 0.2; scored without retraining" in html
    line = "strength of texture 0 / 0.2 / 1: mIoU_fg of trial 5 61 49 15"
    assert line in " ".join(console.export_text().split())


def test_report_is_one_file_with_everything_in_it(results_folder: Path) -> None:
    path = study_page.write(results_folder)
    html = path.read_text()
    page = Page(html)
    assert page.headings[0] == "space on synthetic"
    sections = ["Leaderboard", "Pictures", "Trials", "Importance", "Search", "Configuration", "How to reproduce"]
    assert [heading for heading in page.headings if heading in sections] == sections
    assert "OOD (6 images)" in page.headings and "outd" not in html.partition("<body>")[2].partition("<h2>Pic")[0]
    failures, test, outd, finalists, trials, _ = page.tables
    assert failures == ["reason", "trials", "loss is nan at step 120 </script>", "1"]
    assert page.headings.index("Failed trials") == 1, "near the top"
    assert test[-4:] == ["background", "2.5", "2.5", "200"] and "47.5 ± 5.0" in test
    assert test.index("trial 2") < test.index("base") < test.index("trial 5 - base") < test.index("grid 4x4")
    assert finalists == [
        *("mean mIoU_fg", "seed 11", "seed 12"),
        *("trial 5", "0.7100", "0.7000", "0.7200"),
        *("trial 2", "0.6250", "0.6000", "0.6500"),
        *("base", "0.6050", "0.6100", "0.6000"),
    ]
    assert test.index("trial 5") < test.index("trial 2"), "in the order of validation; test says the opposite"
    assert outd[-8:-4] == ["grid 4x4", "12.6", "12.6", "160"]
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
        "test: trial 5 may or may not beat the base: mIoU_fg +7.0 [-2.3, +16.3]",
        "validation: trial 5 ",
        "0123456789ab+",
        "86%",
        "1 h 57 min",
    ):
        assert text in html
    for title in ("Optimisation history", "Intermediate values", "Timeline"):
        assert title in page.headings
    assert html.count('class="plotly-graph-div') == 5 and html.count("plotly.js v") == 1
    assert (
        "--trials 9" in html
        and "--set optimizer=adam --set grad_clip=none" in html
        and "--finalists 3 --seeds 2" in html
        and "--micro-batch" not in html
    )


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
    (table,) = [table for table in Page(html).tables if table and table[0] == "share of importance"]
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
    html = study_page.write(folder).read_text()
    assert "running" in html and "Failed trials" not in html


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
    reasons = Page(html).tables[0]
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
    assert "pip install &#x27;clevrtune[report]&#x27;" in html and 'class="plotly-graph-div' not in html


def test_folders_without_a_study_are_errors(results_folder: Path, tmp_path: Path) -> None:
    for place in (tmp_path, results_folder / "study.json", tmp_path / "absent"):
        with pytest.raises(ValueError, match=r"holds no study\.json; give the folder of a study"):
            study_page.write(place)
    (results_folder / "study.json").write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        study_page.write(results_folder)
