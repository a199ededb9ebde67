"""The command that writes a report anew."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from study import report

ROOT = Path(__file__).resolve().parents[2]


def test_the_script_runs_from_any_folder(results_folder: Path, tmp_path: Path) -> None:
    script = [sys.executable, str(ROOT / "study" / "report.py")]
    run = subprocess.run([*script, results_folder.name, "--markdown"], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("**test (6 images)**") and "report.html" in run.stderr
    assert (results_folder / "report.html").stat().st_size > 100_000


def test_everything_is_written_anew_and_the_table_printed(results_folder: Path, capsys: pytest.CaptureFixture) -> None:
    (results_folder / "trials.parquet").write_bytes(b"damaged")
    assert report.main([str(results_folder)]) == 0
    assert pq.read_table(results_folder / "trials.parquet").num_rows == 9
    assert (results_folder / "report.html").exists()
    printed = capsys.readouterr().out
    assert "test (6 images)" in printed and "47.5 ± 5.0" in printed
    assert "incomplete data: not comparable with published numbers" in printed
    assert "failed, 1 x: loss is nan at step 120 </script>" in printed


def test_other_folders_are_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert report.main([str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and "study.json" in error


def test_a_storage_out_of_reach_is_one_line(results_folder: Path, capsys: pytest.CaptureFixture) -> None:
    url = f"sqlite:///{results_folder / 'absent' / 'optuna.db'}"
    record = json.loads((results_folder / "study.json").read_text()) | {"storage": url}
    (results_folder / "study.json").write_text(json.dumps(record))
    assert report.main([str(results_folder)]) == 2
    assert capsys.readouterr().err.startswith("error: Optuna storage sqlite:///")


def test_a_mistyped_flag_is_one_line_with_status_2(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert report.main([str(tmp_path), "--markdwn"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "--markdwn" in error and error.count("\n") == 1
