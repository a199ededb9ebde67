"""Reports of a small results folder: a real Optuna study in a journal, a table of scores, and pictures."""

import json
import math
import os
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import optuna
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from rich.console import Console

from study import report
from study.scoring import leaderboard
from trainables import pictures

ROOT = Path(__file__).resolve().parents[2]
CONFIG = {
    "model": "space",
    "data": "synthetic",
    "size": 32,
    "preset": "tiny",
    "steps": 400,
    "metric": "mIoU_fg",
    "seed": 3,
    "micro_batch": None,
    "set": {"optimizer": "adam", "grad_clip": None},
}


def objective(trial: optuna.Trial) -> float:
    lr = trial.suggest_float("lr", 1e-5, 1e-2, log=True)
    slots = trial.suggest_int("num_slots", 4, 12)
    trial.suggest_categorical("kernel", [3, "<b>wide</b>", None])
    value = 0.0
    for step in range(1, 5):
        value = 0.2 * step - abs(math.log10(lr) + 3.4) / 10 + slots / 200
        trial.report(value, step)
        if trial.number > 2 and step == 2 and trial.number % 3 == 0:
            raise optuna.TrialPruned
    if trial.number == 4:
        trial.set_user_attr("reason", "loss is nan at step 120 </script>")
        raise FloatingPointError
    trial.set_user_attr("progress", {"seconds": 75.0, "step": 400, "validation": {"mIoU_fg": value}})
    return value


def evaluation(entries: dict[str, float], images: int = 6) -> pa.Table:
    """Scores of ``entries`` on two splits; ``outd`` has one image without foreground."""
    rows = []
    for split, offset in (("outd", -0.1), ("test", 0.0)):  # not in the order of the tables
        for entry, level in entries.items():
            for image in range(images):
                empty = split == "outd" and image == 2
                score = math.nan if empty else level + offset + 0.01 * image
                trial = int(entry[6:]) if entry.startswith("trial") else None
                rows.append({"entry": entry, "trial": trial, "split": split, "image": image})
                rows[-1] |= {"mIoU_fg": score, "ARI_FG": score, "mIoU": 0.9, "MSE": 200 * (1 - level)}
    return pa.Table.from_pylist(rows)


SCORES = {"baseline_grid_4x4": 0.2, "trial_0002": 0.4, "trial_0005": 0.6, "baseline_background": 0.0}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of nine trials: complete, pruned, failed, and one left running."""
    path = tmp_path_factory.mktemp("results") / "space-synthetic-tiny"
    (path / "pictures").mkdir(parents=True)
    record = {
        "config": CONFIG,
        "direction": "max",
        "storage": None,
        "versions": {"torch": "2.13.0", "optuna": "5.0.0"},
        "git": "0123456789ab+",
        "data": {"incomplete": True, "notices": ["clevrtex:camo is absent"], "counts": {"train": 4000}},
        "timing": {"sessions": [{"wall_s": 7000.0, "busy_s": 6000.0, "at_a_time": 1}], "busy_share": 0.857},
    }
    (path / "study.json").write_text(json.dumps(record))
    study = optuna.create_study(
        study_name=path.name,
        storage=JournalStorage(JournalFileBackend(str(path / "optuna.journal"))),
        direction="maximize",
        sampler=optuna.samplers.RandomSampler(seed=0),
    )
    study.optimize(objective, n_trials=8, catch=FloatingPointError)
    study.ask()
    pq.write_table(evaluation(SCORES), path / "evaluation.parquet")
    for entry in ("trial_0002", "trial_0005", "baseline_grid_4x4"):
        png = pictures.encode_png(np.full((4, 6, 3), len(entry), np.uint8))
        (path / "pictures" / f"{entry}_test.png").write_bytes(png)
    (path / "best.json").write_text("{}")
    return path


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """A copy of the study for one test."""
    return Path(shutil.copytree(finished, tmp_path / finished.name))


class Page(HTMLParser):
    """Collects what the tests look at: headings, cells by table, sources of everything loaded."""

    def __init__(self, html: str):
        super().__init__()
        self.headings: list[str] = []
        self.tables: list[list[str]] = []
        self.loaded: list[str] = []
        self.details: list[str] = []
        self._open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        values = dict(attrs)
        if tag not in ("meta", "link", "img", "br", "polyline"):
            self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        self.loaded += [values[key] for key in ("src", "href", "srcset", "data") if values.get(key)]

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        if "table" in self._open and data.strip():
            self.tables[-1].append(data.strip())
        elif self._open and self._open[-1] in ("h1", "h2", "h3"):
            self.headings.append(data)
        elif self._open and self._open[-1] == "summary":
            self.details.append(data)


def test_leaderboard_is_the_mean_over_images_then_over_trials() -> None:
    rows = leaderboard.leaderboard(evaluation(SCORES))
    order = ["trial 5", "trial 2", "best 2 trials", "grid 4x4", "background"]
    assert [(row.split, row.entry) for row in rows] == [(s, e) for s in ("test", "outd") for e in order]
    best, second, summary, *_ = rows
    assert best.images == 6 and best.undefined == 0
    assert best.means == pytest.approx({"mIoU_fg": 0.625, "ARI_FG": 0.625, "MSE": 80})
    assert second.means["mIoU_fg"] == pytest.approx(0.425)
    assert summary.means["mIoU_fg"] == pytest.approx(0.525)
    assert summary.stds == pytest.approx({"mIoU_fg": 0.1, "ARI_FG": 0.1, "MSE": 20}), "ddof 0, as published"
    outd = rows[5]
    assert outd.undefined == 1 and outd.means["mIoU_fg"] == pytest.approx(0.5 + 0.01 * (0 + 1 + 3 + 4 + 5) / 5)


def test_cells_are_percent_and_the_best_of_each_column_is_marked() -> None:
    test, outd = leaderboard.sections(leaderboard.leaderboard(evaluation(SCORES)), size=32)
    assert test.title == "test (6 images)" and outd.title == "outd (6 images)"
    assert test.headings == ["mIoU_fg (%)", "ARI_FG (%)", "MSE (sum over 3x32x32)"]
    cells = {row.entry: (texts, bold) for row, texts, bold in test.rows}
    assert cells["trial 5"] == (["62.5", "62.5", "80.0"], [True, True, True])
    assert cells["trial 2"] == (["42.5", "42.5", "120"], [False] * 3)
    assert cells["best 2 trials"] == (["52.5 ± 10.0", "52.5 ± 10.0", "100 ± 20"], [False] * 3)


def test_a_baseline_may_be_best_and_what_no_image_defines_is_a_dash() -> None:
    table = evaluation({"trial_0001": 0.1, "baseline_grid_4x4": 0.3})
    table = table.set_column(table.column_names.index("MSE"), "MSE", pa.array([math.nan] * len(table)))
    rows = leaderboard.leaderboard(table)
    assert [row.kind for row in rows] == ["trial", "baseline"] * 2, "one trial needs no summary"
    (_, cells, bold), (_, _, baseline_bold) = leaderboard.sections(rows, 32)[0].rows
    assert cells[2] == "-" and bold == [False] * 3 and baseline_bold == [True, True, False]


def test_footnotes_name_incomplete_data_and_undefined_images() -> None:
    rows = leaderboard.leaderboard(evaluation(SCORES))
    assert leaderboard.footnotes(rows, incomplete=True) == [
        "incomplete data: not comparable with published numbers",
        "outd: mIoU_fg and ARI_FG leave out images without foreground, 1 of them",
    ]
    assert len(leaderboard.footnotes(rows, incomplete=False)) == 1


def test_terminal_and_markdown_show_the_same_numbers() -> None:
    rows = leaderboard.leaderboard(evaluation(SCORES))
    console = Console(record=True, width=80, file=open(os.devnull, "w"))
    leaderboard.print_table(console, rows, 32, incomplete=True)
    printed = console.export_text()
    text = leaderboard.markdown(rows, 32, incomplete=True)
    assert "| trial 5 | **62.5** | **62.5** | **80.0** |" in text
    assert "| *best 2 trials* | 52.5 ± 10.0 | 52.5 ± 10.0 | 100 ± 20 |" in text
    for shown in ("62.5", "52.5 ± 10.0", "grid 4x4", "not comparable", "test (6 images)"):
        assert shown in printed and shown in text


def test_trials_parquet_has_a_row_per_trial(folder: Path) -> None:
    table = report.write_trials(report.load_study(folder), folder)
    assert pq.read_table(folder / "trials.parquet").equals(table)
    rows = {row["number"]: row for row in table.to_pylist()}
    assert sorted(rows) == list(range(9))
    assert [rows[n]["state"] for n in (0, 3, 4, 8)] == ["COMPLETE", "PRUNED", "FAIL", "RUNNING"]
    assert rows[4]["reason"] == "loss is nan at step 120 </script>" and rows[0]["reason"] is None
    assert rows[3]["intermediate_steps"] == [1, 2] and len(rows[0]["intermediate_values"]) == 4
    assert rows[0]["value"] == pytest.approx(rows[0]["intermediate_values"][-1])
    assert rows[0]["step"] == 400 and rows[0]["seconds"] == 75.0
    assert 4 <= rows[0]["params_num_slots"] <= 12 and rows[8]["params_lr"] is None
    assert {json.loads(rows[n]["params_kernel"]) for n in range(8)} <= {3, "<b>wide</b>", None}
    assert rows[8]["params_kernel"] is None, "not suggested yet"
    complete = [row["value"] for row in table.to_pylist() if row["state"] == "COMPLETE"]
    assert complete == sorted(complete, reverse=True), "best first"
    states = [row["state"] for row in table.to_pylist()]
    assert states == sorted(states, key=["COMPLETE", "PRUNED", "RUNNING", "FAIL"].index)


def test_report_is_one_file_with_everything_in_it(folder: Path) -> None:
    path = report.write(folder)
    html = path.read_text()
    page = Page(html)
    assert page.headings[0] == "space on synthetic"
    sections = ["Leaderboard", "Pictures", "Trials", "Search", "Configuration", "How to reproduce"]
    assert [heading for heading in page.headings if heading in sections] == sections
    failures, test, outd, trials, _ = page.tables
    assert failures == ["reason", "trials", "loss is nan at step 120 </script>", "1"]
    assert page.headings.index("Failed trials") == 1, "near the top"
    assert test[-4:] == ["background", "2.5", "2.5", "200"] and "52.5 ± 10.0" in test
    assert outd[-8:-4] == ["grid 4x4", "12.6", "12.6", "160"]
    assert "loss is nan at step 120 </script>" in trials and trials.count("complete") == 5
    assert page.details == ["trial 5", "trial 2", "grid 4x4"], "in the order of the leaderboard"
    images = [source for source in page.loaded if source.startswith("data:image/png;base64,")]
    assert len(images) == 3
    assert all(source.startswith(("data:", "#")) for source in page.loaded), "works offline"
    assert "url(" not in html.partition("</style>")[0] and "@import" not in html.partition("</style>")[0]
    assert "evaluation.parquet" not in html and "best.json" not in html, "nothing is missing"
    for text in (
        "incomplete data: not comparable",
        "clevrtex:camo is absent",
        "0123456789ab+",
        "86%",
        "1 h 57 min",
    ):
        assert text in html
    for title in ("Optimisation history", "Intermediate values", "Timeline", "Hyperparameter importances"):
        assert title in page.headings
    assert html.count('class="plotly-graph-div') == 6 and html.count("plotly.js v") == 1
    assert "--trials 9" in html and "--set optimizer=adam --set grad_clip=none" in html and "--micro-batch" not in html


def test_report_of_a_study_that_has_hardly_begun(tmp_path: Path) -> None:
    folder = tmp_path / "young"
    folder.mkdir()
    (folder / "study.json").write_text(json.dumps({"config": CONFIG, "direction": "max"}))
    storage = JournalStorage(JournalFileBackend(str(folder / "optuna.journal")))
    study = optuna.create_study(study_name="young", storage=storage, direction="maximize")
    html = report.write(folder).read_text()
    assert "no trial has completed yet" in html and "Parallel coordinates: too few trials yet" in html
    assert pq.read_table(folder / "trials.parquet").num_rows == 0
    study.ask().suggest_float("lr", 0, 1)
    html = report.write(folder).read_text()
    assert "running" in html and "Failed trials" not in html


def quiet_console() -> Console:
    return Console(record=True, width=80, file=open(os.devnull, "w"))


def test_report_of_a_study_in_which_every_trial_failed(tmp_path: Path) -> None:
    folder, console = tmp_path / "failing", quiet_console()
    folder.mkdir()
    (folder / "study.json").write_text(json.dumps({"config": CONFIG, "data": {"incomplete": True}}))
    storage = JournalStorage(JournalFileBackend(str(folder / "optuna.journal")))
    study = optuna.create_study(study_name="failing", storage=storage, direction="maximize")
    for reason in ("out of memory", "loss is [red]nan", "loss is [red]nan", None):
        trial = study.ask({"lr": optuna.distributions.FloatDistribution(0, 1)})
        if reason is not None:
            trial.set_user_attr("reason", reason)
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
    html = report.write(folder, console).read_text()
    reasons = Page(html).tables[0]
    assert reasons[2:4] == ["loss is [red]nan", "2"], "the most frequent first"
    assert set(reasons[4:]) == {"out of memory", "no reason recorded", "1"}
    printed = console.export_text().splitlines()
    assert printed[0] == "incomplete data: not comparable with published numbers"
    assert printed[1] == (
        "no evaluation.parquet and no best.json: no trial has completed yet; "
        "run the study's command again, with more --trials or --hours"
    )
    assert printed[2] == "failed, 2 x: loss is [red]nan" and len(printed) == 5
    assert "no evaluation.parquet and no best.json" in html and "incomplete data: not comparable" in html


def test_report_of_a_final_stage_that_was_interrupted(folder: Path) -> None:
    console = quiet_console()
    (folder / "best.json").unlink()
    html = report.write(folder, console).read_text()
    line = "no best.json: the best trials are not all scored yet"
    assert "trial 5" in console.export_text(clear=False) and line in console.export_text() and line in html
    (folder / "evaluation.parquet").unlink()
    shutil.rmtree(folder / "pictures")
    page = Page(report.write(folder, console).read_text())
    assert "no evaluation.parquet and no best.json: the best trials are not" in console.export_text()
    assert "Leaderboard" in page.headings and "Pictures" not in page.headings


@pytest.mark.parametrize("choices", [["a", 1], [1, "a"]])
def test_a_hyperparameter_of_mixed_types_is_json(choices: list) -> None:
    study = optuna.create_study()
    for choice in choices:
        distributions = {"kernel": optuna.distributions.CategoricalDistribution(choices)}
        study.add_trial(optuna.trial.create_trial(value=0.0, params={"kernel": choice}, distributions=distributions))
    assert report.trial_table(study)["params_kernel"].to_pylist() == [json.dumps(choice) for choice in choices]


def test_minimised_metrics_rank_the_smallest_first(tmp_path: Path) -> None:
    study = optuna.create_study(direction="minimize")
    for value in (3.0, 1.0, 2.0):
        study.add_trial(optuna.trial.create_trial(value=value))
    assert report.trial_table(study)["value"].to_pylist() == [1.0, 2.0, 3.0]


def test_the_page_names_the_package_that_plots_need(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    html = report.write(folder).read_text()
    assert "pip install &#x27;clevrtune[report]&#x27;" in html and 'class="plotly-graph-div' not in html


def test_storage_of_the_record_is_used(folder: Path) -> None:
    url = f"sqlite:///{folder / 'optuna.db'}"
    optuna.copy_study(
        from_study_name=folder.name,
        from_storage=JournalStorage(JournalFileBackend(str(folder / "optuna.journal"))),
        to_storage=url,
    )
    (folder / "optuna.journal").unlink()
    with pytest.raises(ValueError, match=r"optuna\.journal is missing"):
        report.load_study(folder)
    name_storage(folder, url)
    assert len(report.load_study(folder).trials) == 9


def name_storage(folder: Path, url: str) -> None:
    record = json.loads((folder / "study.json").read_text()) | {"storage": url}
    (folder / "study.json").write_text(json.dumps(record))


def test_a_storage_out_of_reach_is_an_error_without_traceback(folder: Path, capsys: pytest.CaptureFixture) -> None:
    name_storage(folder, f"sqlite:///{folder / 'absent' / 'optuna.db'}")
    assert report.main([str(folder)]) == 2
    assert capsys.readouterr().err.startswith("error: Optuna storage sqlite:///")


def test_folders_without_a_study_are_refused_in_one_line(folder: Path, tmp_path: Path) -> None:
    for place in (tmp_path, folder / "study.json", tmp_path / "absent"):
        with pytest.raises(ValueError, match=r"holds no study\.json; give the folder of a study"):
            report.write(place)
    renamed = folder.rename(tmp_path / "renamed")
    with pytest.raises(ValueError, match="holds no study 'renamed'"):
        report.write(renamed)
    (renamed / "study.json").write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        report.write(renamed)


def test_the_script_runs_from_any_folder(folder: Path, tmp_path: Path) -> None:
    script = [sys.executable, str(ROOT / "study" / "report.py")]
    run = subprocess.run([*script, folder.name, "--markdown"], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("**test (6 images)**") and "report.html" in run.stderr
    assert (folder / "report.html").stat().st_size > 100_000


def test_the_command_writes_everything_anew_and_prints_the_table(folder: Path, capsys: pytest.CaptureFixture) -> None:
    (folder / "trials.parquet").write_bytes(b"damaged")
    assert report.main([str(folder)]) == 0
    assert pq.read_table(folder / "trials.parquet").num_rows == 9 and (folder / "report.html").exists()
    printed = capsys.readouterr().out
    assert "test (6 images)" in printed and "52.5 ± 10.0" in printed
    assert "incomplete data: not comparable with published numbers" in printed
    assert "failed, 1 x: loss is nan at step 120 </script>" in printed


def test_the_command_refuses_other_folders_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert report.main([str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and "study.json" in error
