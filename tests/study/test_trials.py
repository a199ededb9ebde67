"""The verb that lists, shows and exports trials, on results folders with real Optuna journals."""

import csv
import io
import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from study import trials
from study.display.trial_lines import figure
from tests.study.search.test_load_study import in_a_database


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")


def test_a_line_per_trial_best_first_with_its_hyperparameters(results_folder: Path, capsys, wide) -> None:
    assert trials.main(["list", str(results_folder)]) == 0
    printed = capsys.readouterr().out
    stored = exported(results_folder, capsys)
    numbers = [int(line.split("│")[1]) for line in printed.splitlines() if line.startswith("│")]
    assert numbers == [row["number"] for row in stored]
    heading = next(line for line in printed.splitlines() if line.startswith("┃"))
    searched = [key.removeprefix("params_") for key in stored[0] if key.startswith("params_")]
    assert searched and all(f" {name} " in heading for name in searched)


def exported(folder: Path, capsys: pytest.CaptureFixture) -> list[dict]:
    assert trials.main(["export", str(folder), "--format", "json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_database_is_opened_where_a_person_names_it(results_folder, capsys) -> None:
    url = in_a_database(results_folder)
    assert trials.main(["list", str(results_folder)]) == 2
    assert f"say --storage {url} to open it" in capsys.readouterr().err
    assert trials.main(["list", str(results_folder), "--storage", url]) == 0


def test_where_hyperparameters_do_not_fit_they_are_left_out_whole(results_folder, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "70")
    assert trials.main(["list", str(results_folder)]) == 0
    printed = capsys.readouterr().out
    assert "mIoU_fg" in printed and "…" not in printed
    assert all(len(line) <= 70 for line in printed.splitlines()[1:])


def test_best_lists_complete_trials_only_and_so_many(results_folder, capsys, wide) -> None:
    complete = [row["number"] for row in exported(results_folder, capsys) if row["state"] == "COMPLETE"]
    assert trials.main(["best", str(results_folder), "--top", "2"]) == 0
    printed = capsys.readouterr().out
    assert [int(line.split("│")[1]) for line in printed.splitlines() if line.startswith("│")] == complete[:2]


def test_one_trial_with_its_curve_beside_the_base(results_folder, capsys, wide) -> None:
    row = next(row for row in exported(results_folder, capsys) if row["number"] and row["intermediate_steps"])
    assert trials.main(["show", str(results_folder), "--trial", str(row["number"])]) == 0
    printed = capsys.readouterr().out
    assert f"trial {row['number']}: " in printed and "base (trial 0)" in printed
    assert f"{row['intermediate_steps'][-1]}: {figure(row['intermediate_values'][-1])}" in printed


@pytest.mark.parametrize("format", ["csv", "json", "parquet"])
def test_several_studies_in_one_file_have_all_trials(format, results_folder, tmp_path, capsys) -> None:
    shelf = tmp_path / "shelf"
    for name in ("one", "two"):
        shutil.copytree(results_folder, shelf / name / results_folder.name)
    out = tmp_path / f"all.{format}"
    assert trials.main(["export", str(shelf / "one"), str(shelf / "two"), "--out", str(out)]) == 0
    if format == "csv":
        rows = list(csv.DictReader(io.StringIO(out.read_text())))
    elif format == "json":
        rows = json.loads(out.read_text())
    else:
        rows = pq.read_table(out).to_pylist()
    single = exported(results_folder, capsys)
    assert len(rows) == 2 * len(single) and len({row["study"] for row in rows}) == 2
    assert [int(row["number"]) for row in rows[: len(single)]] == [row["number"] for row in single]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["list", "{empty}"], "study.json"),
        (["show", "{study}", "--trial", "99"], "99"),
        (["best", "{study}", "--top", "0"], "--top is 0"),
        (["export", "{study}", "--out", "trials.xls"], "trials.xls"),
        (["sort", "{study}"], "sort"),
        (["list"], "--folders"),
        (["export", "{study}", "--out", "{empty}/absent/trials.csv"], "absent"),
    ],
)
def test_what_cannot_be_done_is_one_line(arguments, named, results_folder, tmp_path, capsys) -> None:
    places = {"empty": tmp_path / "empty", "study": results_folder}
    (tmp_path / "empty").mkdir()
    assert trials.main([word.format(**places) for word in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and named in error
