"""report.pdf: printed by Chromium where there is one, else a line."""

import os
import re
import shutil
from pathlib import Path

import pytest

from study import report
from study.display import printed, study_page
from tests.study.display.chromium import PROGRAM


@pytest.mark.browser
@pytest.mark.skipif(PROGRAM is None, reason="no Chromium here")
def test_the_report_is_printed(results_folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert report.main([str(results_folder), "--pdf"]) == 0
    assert f"pdf: {results_folder / 'report.pdf'}" in capsys.readouterr().err
    content = (results_folder / "report.pdf").read_bytes()
    assert content.startswith(b"%PDF-") and len(content) > 50_000
    boxes = set(re.findall(rb"/MediaBox \[0 0 (\d+)[.\d]* (\d+)", content))
    assert len(boxes) == 1 and all(840 < int(w) < 843 and 593 < int(h) < 597 for w, h in boxes), "A4, landscape"
    assert not list(results_folder.glob("*.partial"))


def program(folder: Path, script: str) -> None:
    """A chromium in ``folder`` that does what ``script`` says."""
    path = folder / "chromium"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_without_a_chromium_a_line_says_how_to_print(
    results_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert report.main([str(results_folder), "--pdf"]) == 0
    line = f"no report.pdf: no Chromium is installed here; open {results_folder / 'report.html'} in a browser"
    assert line in capsys.readouterr().err and not (results_folder / "report.pdf").exists()


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo the sandbox is missing >&2; exit 3", "did not print it (the sandbox is missing)"),
        ("exit 0", "did not print it (status 0)"),
        (
            'for word in "$@"; do case $word in --print-to-pdf=*) echo html > "${word#--print-to-pdf=}";; esac; done',
            "did not print it",
        ),
    ],
)
def test_a_chromium_that_fails_is_no_error(
    script: str, said: str, results_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = study_page.write(results_folder)
    (results_folder / "report.pdf").write_bytes(b"%PDF- an older one")
    program(tmp_path, script)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin")
    assert shutil.which("chromium") == str(tmp_path / "chromium")
    line = printed.write(page)
    assert said in line and line.startswith("no report.pdf: ") and "\n" not in line
    assert (results_folder / "report.pdf").read_bytes() == b"%PDF- an older one"
    monkeypatch.setattr(printed, "LONGEST", 0.2)
    program(tmp_path, "exec sleep 20")
    assert "took longer than 0.2 s" in printed.write(page)
