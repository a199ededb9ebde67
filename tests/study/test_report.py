"""The command that writes a report anew."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from study import report, stages
from study.results_folder import StudyFolder
from tests.study.search.test_load_study import in_a_database

ROOT = Path(__file__).resolve().parents[2]


def test_the_script_runs_from_any_folder(results_folder: Path, tmp_path: Path) -> None:
    script = [sys.executable, str(ROOT / "study" / "report.py")]
    run = subprocess.run([*script, results_folder.name, "--markdown"], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("**test (6 images)**") and "report.html" in run.stderr
    assert (results_folder / "report.html").stat().st_size > 100_000


def test_a_locale_without_utf_8_changes_no_file_and_ends_no_command(results_folder: Path) -> None:
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    script = [sys.executable, str(ROOT / "study" / "report.py"), str(results_folder)]
    run = subprocess.run(script, env=os.environ | locale, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "\u00b1" in (results_folder / "report.html").read_text(encoding="utf-8") and "47.5 ? 5.0" in run.stdout


def test_everything_is_written_anew_and_the_table_printed(results_folder: Path, capsys: pytest.CaptureFixture) -> None:
    (results_folder / "trials.parquet").write_bytes(b"damaged")
    assert report.main([str(results_folder)]) == 0
    assert pq.read_table(results_folder / "trials.parquet").num_rows == 9
    assert (results_folder / "report.html").exists()
    printed = capsys.readouterr().out
    assert "test (6 images)" in printed and "47.5 ± 5.0" in printed
    assert "incomplete data: not comparable with published numbers" in printed
    assert "failed, 1 x: loss is nan at step 120 </script>" in printed


def test_the_tables_for_a_paper_are_printed(results_folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert report.main([str(results_folder), "--latex"]) == 0
    printed = capsys.readouterr().out
    assert printed == (results_folder / "tables.tex").read_text(encoding="utf-8") and r"\toprule" in printed
    (results_folder / "evaluation.parquet").unlink()
    assert report.main([str(results_folder), "--latex"]) == 2
    error = capsys.readouterr().err
    assert "has no scores yet" in error and error.count("\n") == 1


def test_other_folders_are_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert report.main([str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and "study.json" in error


def test_a_storage_out_of_reach_is_one_line(results_folder: Path, capsys: pytest.CaptureFixture) -> None:
    url = f"sqlite:///{results_folder / 'absent' / 'optuna.db'}"
    assert report.main([str(results_folder), "--storage", url]) == 2
    assert capsys.readouterr().err.startswith("error: Optuna storage sqlite:///")


def test_what_a_strangers_study_json_names_is_not_opened(results_folder: Path, capsys: pytest.CaptureFixture) -> None:
    url = in_a_database(results_folder)
    trap = results_folder / "trap.db"
    record = json.loads((results_folder / "study.json").read_text())
    (results_folder / "study.json").write_text(json.dumps(record | {"storage": f"sqlite:///{trap}"}))
    assert report.main([str(results_folder)]) == 2
    error = capsys.readouterr().err
    assert f"say --storage sqlite:///{trap} to open it" in error and error.count("\n") == 1 and not trap.exists()
    assert report.main([str(results_folder), "--storage", url]) == 0


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b"null", b"\xff\xfe", b'{"config": {"model": "space"}}', b'{"config": {"a": 1}}', b"{"],
)
def test_a_damaged_study_json_is_one_line(results_folder: Path, capsys: pytest.CaptureFixture, content: bytes) -> None:
    (results_folder / "study.json").write_bytes(content)
    for more in ([], ["--markdown"]):
        assert report.main([str(results_folder), *more]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1 and "study.json is damaged" in error


def test_an_error_of_the_report_does_not_hide_the_one_before_it(results_folder: Path) -> None:
    (results_folder / "report.html").mkdir()
    console = Console(file=io.StringIO(), width=200)
    study = SimpleNamespace(folder=StudyFolder(results_folder), config=SimpleNamespace(storage=None))
    stages._report_all_the_same(SimpleNamespace(study=study, console=console))  # type: ignore[arg-type]
    assert isinstance(console.file, io.StringIO) and "no report: [Errno 21] Is a directory" in console.file.getvalue()


def test_a_study_run_by_several_versions_says_so(results_folder: Path, capsys: pytest.CaptureFixture) -> None:
    record = json.loads((results_folder / "study.json").read_text())
    record["sessions"] = [{"versions": {"torch": "2.12"}, "git": "abc"}, {"versions": {"torch": "2.13"}, "git": "abc"}]
    (results_folder / "study.json").write_text(json.dumps(record))
    assert report.main([str(results_folder)]) == 0
    assert "the study was run by several versions: torch 2.12, then 2.13" in " ".join(capsys.readouterr().out.split())


def test_a_mistyped_flag_is_one_line_with_status_2(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert report.main([str(tmp_path), "--markdwn"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "--markdwn" in error and error.count("\n") == 1
