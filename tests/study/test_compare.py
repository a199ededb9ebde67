"""The command that compares studies."""

import subprocess
import sys
from pathlib import Path

import pytest

from study import compare
from tests.study.results import write_scored, write_three

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"data": "synthetic:textured"}, "data synthetic:textured and synthetic:plain"),
        ({"data": "clevrtex:full", "fingerprint": "def"}, "data clevrtex:full"),
    ],
)
def test_scores_on_other_images_do_not_compare(
    tmp_path: Path, other: dict, says: str, capsys: pytest.CaptureFixture
) -> None:
    folder = write_scored(tmp_path, "monet", {"trial_0000": 0.5}, best=0, **other)
    assert compare.main([str(write_three(tmp_path)[0]), str(folder)]) == 2
    printed = capsys.readouterr().err
    assert says in printed and printed.count("\n") == 1


def test_table_markdown_and_page(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folders = [str(folder) for folder in write_three(tmp_path)]
    assert compare.main(folders) == 0
    assert "winner of each study on synthetic:plain" in capsys.readouterr().out
    script = [sys.executable, str(ROOT / "study" / "compare.py"), *folders, "--markdown", "--html", "all.html"]
    run = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "| gnm | 2 / 1 / 1 | **50.0** |" in run.stdout and (tmp_path / "all.html").exists()


def test_a_page_that_cannot_be_written_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folders = [str(folder) for folder in write_three(tmp_path)]
    assert compare.main([*folders, "--html", str(tmp_path / "absent" / "all.html")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_mistyped_flag_is_one_line_with_status_2(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert compare.main([str(tmp_path), "--markdwn"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "--markdwn" in error and error.count("\n") == 1
