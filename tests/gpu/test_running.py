"""The GPU run itself: one part never hides another, and the report says how each went."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.gpu import __main__ as command
from tests.gpu import report, rows, running
from tests.gpu.running import Ended, Part

PLANTED = """
import json, os, signal, subprocess, sys, time
rows = sys.argv[sys.argv.index("--rows") + 1]
def row(verdict): print(json.dumps({"what": "x", "verdict": verdict}), file=open(rows, "a"))
print("log of", sys.argv[1])
match sys.argv[1]:
    case "well": row("ok")
    case "hangs":
        row("ok")
        print('{"what": "ha', end="", file=open(rows, "a"))
        subprocess.Popen(["sleep", "1000"])
        time.sleep(1000)
    case "crashes": os.kill(os.getpid(), signal.SIGSEGV)
    case "differs": row("ok"); row("differs by 1")
"""


def part(name: str, seconds: float = 60) -> Part:
    return Part(name, ("-c", PLANTED, name), seconds)


def ended(stages: list[list[Part]], scratch: Path, seconds: float = 100.0) -> dict[str, Ended]:
    told: list[Ended] = []
    running.run(stages, Path(sys.executable), scratch, "cpu", seconds, told.append)
    return {one.name: one for one in told}


def test_a_part_that_hangs_or_crashes_hides_no_other(tmp_path):
    stages = [[part("hangs", 6), part("crashes")], [part("differs")], [part("well")]]
    started = time.monotonic()
    found = ended(stages, tmp_path)
    assert {name: one.status for name, one in found.items()} == {
        "hangs": "stopped after 6 s",
        "crashes": "failed with status -11",
        "differs": "failed",
        "well": "ok",
    }
    assert found["hangs"].rows == [{"what": "x", "verdict": "ok"}], "a row that was written counts"
    assert [len(found[name].rows) for name in ("crashes", "differs", "well")] == [0, 2, 1]
    assert found["well"].log == "log of well\n"
    assert time.monotonic() - started < 60


def test_the_time_of_the_whole_run_ends_all_parts(tmp_path):
    found = ended([[part("hangs", 600)], [part("well")]], tmp_path, seconds=7)
    assert found["hangs"].status == "stopped after 7 s"
    assert found["well"].status == "skipped: the time of the whole run was up"


def test_a_row_of_one_name_that_fails_leaves_the_others(tmp_path):
    def measure(name: str) -> dict[str, object]:
        if name == "b":
            raise RuntimeError("no\nluck")
        return {"ms": 1.5} if name == "a" else {"verdict": "differs"}

    written = rows.Rows(tmp_path / "rows")
    rows.each(["a", "b", "c"], written, time.monotonic() + 60, measure)
    rows.each(["d"], written, time.monotonic() - 1, measure)
    assert [(row["what"], row["verdict"]) for row in rows.read(tmp_path / "rows")] == [
        ("a", "ok"),
        ("b", "RuntimeError: no"),
        ("c", "differs"),
        ("d", "skipped"),
    ]


def test_the_report_has_all_parts_and_figures(tmp_path):
    both = [
        Ended(
            "bench", "failed", 2.5, [{"what": "a|b", "verdict": "ok", "ms": 1234.5, "costliest": [["x", 1]]}], "said"
        ),
        Ended("study", "stopped after 9 s", 9.0),
    ]
    text = report.write(tmp_path / "new" / "out", {"card": "Card 9", "torch": "2.11"}, both)
    assert text.startswith("# Card 9\n") and "torch 2.11" in text
    assert "| study | stopped after 9 s | 9 |" in text
    assert "| what | verdict | ms |\n|---|---|---|\n| a/b | ok | 1,234 |" in text
    stored = json.loads((tmp_path / "new" / "out" / "figures.json").read_text())
    assert stored["parts"][0]["rows"][0]["costliest"] == [["x", 1]]
    assert "==== bench: failed\nsaid" in (tmp_path / "new" / "out" / "log.txt").read_text()


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        ([], "tests.gpu: no GPU is visible here; run it on a machine with one"),
        (["--only", "bensh"], "tests.gpu: part 'bensh' is unknown; there are contract, "),
        (["--unpack", "nowhere", "place"], "tests.gpu: no pack in nowhere, and Ray is not installed here; make one"),
    ],
)
def test_what_cannot_run_says_so_in_one_line(flags, line, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tests.gpu", *flags, "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
        env={"PATH": "/usr/bin:/bin", "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 2
    assert done.stderr.startswith(line) and done.stderr.count("\n") == 1


def test_a_pack_is_asked_for_where_ray_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"no pack in .*nowhere.*--pack"):
        command.environment(tmp_path / "nowhere", tmp_path)


def test_parts_that_time_nothing_run_side_by_side():
    stages = command.stages(command.wanted(""))
    assert [[part.name for part in stage] for stage in stages[:2]] == [["contract", "agreement", "waits"], ["bench"]]
    assert sum(max(part.seconds for part in stage) for stage in stages) > command.WHOLE  # so the limit is the whole's
    assert [part.name for part in command.wanted("study, waits")] == ["waits", "study"]
