"""What a study cost: rungs, time and sessions, recorded in either form."""

import shlex
from pathlib import Path
from typing import Any

import pytest

from study import command_line, presets
from study.display import budget_section as page
from study.display.budget_section import budget_section, changes, sessions
from tests.study.display.page_reader import Page

VERSIONS = {"ray": "2.60.0", "torch": "2.13.0"}


@pytest.mark.parametrize(
    ("record", "commands"),
    [
        ({}, []),
        ({"command": "a", "versions": VERSIONS, "git": "abc"}, ["a"]),
        ({"sessions": [{"started": "2026-11-28", "command": "a"}, {"command": "b", "git": None}]}, ["a", "b"]),
    ],
)
def test_sessions_are_read_in_either_form(record: dict[str, Any], commands: list[str]) -> None:
    found = sessions(record)
    assert [session["command"] for session in found] == commands
    if "versions" in record:
        assert found[-1]["versions"] == "ray 2.60.0, torch 2.13.0" and found[-1]["git"] == "abc"
    assert all("None" not in session.values() for session in found)


def test_versions_that_changed_are_named() -> None:
    assert changes({"command": "a", "versions": VERSIONS, "git": "abc"}) == []
    first, second = {"versions": VERSIONS, "git": "abc"}, {"versions": VERSIONS | {"ray": "2.61.0"}, "git": "abc"}
    assert changes({"sessions": [first, first]}) == []
    (line,) = changes({"sessions": [first, second]})
    assert line == "the study was run by several versions: ray 2.60.0, then 2.61.0"


def trial(number: int, state: str, steps: int, reports: int) -> dict[str, Any]:
    reached = list(range(1, reports + 1))
    row = {"number": number, "state": state, "step": steps, "seconds": 60.0, "hosts": ["a", "b"][: number + 1]}
    return row | {"gpu_gib": None, "intermediate_steps": reached, "intermediate_values": [0.5] * reports}


def test_rungs_and_the_share_of_the_full_budget() -> None:
    trials = [trial(0, "COMPLETE", 600, 6), trial(1, "PRUNED", 200, 2), trial(2, "PRUNED", 100, 1)]
    record = {"config": {"reports": 6, "steps": 600}, "timing": {"sessions": [{"wall_s": 200.0}], "busy_share": 0.9}}
    html = budget_section(record, trials, [2])
    assert Page(html).named["rungs"][3:] == [
        *("rung, report 2 of 6", "200", "2", "67%"),
        *("end, report 6 of 6", "600", "1", "33%"),
    ]
    cells = Page(html).tables[0]
    assert cells[cells.index("training steps of the search") + 1] == "900"
    assert cells[cells.index("share of the steps that all these trials would take to their end") + 1] == "50%"
    assert cells[cells.index("nodes") + 1] == "2: a, b" and "90%" in cells and "3 min" in cells


def test_the_command_that_reproduces_a_study_is_one_that_can_be_typed(tmp_path: Path) -> None:
    """Every flag that belongs to a study's identity, with a value that is not its default."""
    typed = "--model space --trials 9 --steps 50 --reports 5 --compile --metric ARI_FG --set sigma=0.2 --sampler tpe"
    asked = [*typed.split(), "--preset", "tiny", "--results", str(tmp_path), "--name", "again"]
    (config,) = command_line.studies(asked)
    identity = presets.resolve(config, has_gpu=False).identity
    line = page.command("again", tmp_path, {"config": identity}, 9).splitlines()[-1]
    (again,) = command_line.studies([*shlex.split(line)[2:], "--results", str(tmp_path)])
    assert presets.resolve(again, has_gpu=False).identity == identity and again.compile
