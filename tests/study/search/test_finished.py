"""A finished study is known again without torch or Ray, and only where nothing that matters has changed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from data import plugins
from study import results_folder
from study.config import StudyConfig
from study.results_folder import ROOT
from study.search import finished, journal
from tests import own_folder

LINES = [("found:  trial 2", True), ("report: there", False)]


def asked_for(tmp_path: Path, **more) -> StudyConfig:
    return StudyConfig(**{"model": "space", "preset": "tiny", "name": "done", "results": str(tmp_path)} | more)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "done"
    (path / "best").mkdir(parents=True)
    for name in (
        journal.FILE,
        "report.html",
        "evaluation.parquet",
        "best.json",
        "best/space.safetensors",
    ):
        (path / name).write_text(name)
    (path / "study.json").write_text('{"config": {"model": "space", "seed": 0}}')
    finished.write(path, asked_for(tmp_path), LINES)
    return path


def test_the_same_command_gets_the_same_lines_also_on_another_machine(folder: Path, tmp_path: Path) -> None:
    assert finished.folder_of(asked_for(tmp_path)) == folder
    for more in ({}, {"concurrent": 3}, {"cpus": 2.0, "hours": 1.0}, {"gpus": 0.0}, {"address": "auto"}):
        assert finished.lines(folder, asked_for(tmp_path, **more)) == LINES


@pytest.mark.parametrize(
    "more",
    [
        *({"trials": 51}, {"finalists": 4}, {"seeds": 5}, {"data_root": "/elsewhere"}, {"curve": False}, {"seed": 1}),
        *({"from_": ["other"]}, {"fresh": True}, {"dry_run": True}, {"patience": 3.0}),
    ],
    ids=str,
)
def test_what_is_asked_otherwise_goes_on(folder: Path, tmp_path: Path, more: dict) -> None:
    assert finished.lines(folder, asked_for(tmp_path, **more)) is None


@pytest.mark.parametrize("name", [journal.FILE, "evaluation.parquet", "best.json", "best/space.safetensors"])
def test_a_file_that_is_not_as_it_was_goes_on(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / name).write_bytes(bytes([(folder / name).read_bytes()[0] ^ 1]) + (folder / name).read_bytes()[1:])
    assert finished.lines(folder, asked_for(tmp_path)) is None
    (folder / name).unlink()
    assert finished.lines(folder, asked_for(tmp_path)) is None


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", '{"config": {"model": "space", "seed": 1}}'])
def test_a_damaged_or_edited_study_json_goes_on_to_where_it_is_refused(folder: Path, tmp_path: Path, text: str) -> None:
    (folder / "study.json").write_text(text)
    assert finished.lines(folder, asked_for(tmp_path)) is None


def test_a_report_may_be_made_anew_but_must_be_there(folder: Path, tmp_path: Path) -> None:
    (folder / "report.html").write_text("anew")
    assert finished.lines(folder, asked_for(tmp_path)) == LINES
    (folder / "report.html").unlink()
    assert finished.lines(folder, asked_for(tmp_path)) is None


def test_an_edit_of_a_file_of_ranges_goes_on(folder: Path, tmp_path: Path) -> None:
    code = "def space(trial, base):\n    return {'sigma': trial.suggest_float('sigma', 0.1, 0.2)}"
    (tmp_path / "mine.py").write_text(code)
    asked = asked_for(tmp_path, space=[str(tmp_path / "mine.py")])
    finished.write(folder, asked, LINES)
    assert finished.lines(folder, asked) == LINES
    (tmp_path / "mine.py").write_text(code + "\n")
    assert finished.lines(folder, asked) is None


def test_work_that_begins_another_version_and_damage_are_no_end(folder: Path, tmp_path: Path, monkeypatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(results_folder, "PACKAGES", ("data", "study"))
        assert finished.lines(folder, asked_for(tmp_path)) is None
    said = (folder / finished.FILE).read_text()
    for damage in ("", "[]", "{}", said[:-9]):
        (folder / finished.FILE).write_text(damage)
        assert finished.lines(folder, asked_for(tmp_path)) is None
    (folder / finished.FILE).write_text(said)
    finished.forget(folder)
    assert finished.lines(folder, asked_for(tmp_path)) is None
    finished.forget(folder)


def test_of_two_presets_none_is_taken_for_auto(folder: Path, tmp_path: Path) -> None:
    asked = asked_for(tmp_path, name=None, preset="auto")
    assert finished.folder_of(asked) is None
    for preset in ("tiny", "paper"):
        asked.folder(preset).mkdir()
        (asked.folder(preset) / "study.json").write_text("{}")
        assert finished.folder_of(asked) == (asked.folder("tiny") if preset == "tiny" else None)


def test_the_answer_takes_neither_torch_nor_ray_nor_optuna(folder: Path, tmp_path: Path) -> None:
    words = ["--model", "space", "--preset", "tiny", "--name", "done", "--results", str(tmp_path)]
    code = f"import json, sys; from study import run; print(run.main({words!r}));"
    code += "print(json.dumps(sorted({'torch', 'ray', 'optuna'} & set(sys.modules))))"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    first, *lines, status, imported = said.splitlines()
    assert "is finished: nothing is left to do" in first and lines == [text for text, _ in LINES]
    assert status == "0" and json.loads(imported) == []


def test_keys_of_a_cache_are_written_nowhere_and_do_not_count(folder: Path, tmp_path: Path) -> None:
    places = [f"s3://bucket/shards?secret_key={key}" for key in ("first", "second")]
    finished.write(folder, asked_for(tmp_path, cache=places[0]), LINES)
    assert "first" not in (folder / finished.FILE).read_text()
    assert finished.lines(folder, asked_for(tmp_path, cache=places[1])) == LINES
    assert finished.lines(folder, asked_for(tmp_path, cache="s3://bucket/other")) is None


@pytest.mark.parametrize("named", [True, False])
def test_a_changed_metric_of_ones_own_goes_on(named: bool, folder: Path, tmp_path: Path) -> None:
    with own_folder.kept_out():
        mine = own_folder.write(tmp_path / "mine", own_folder.METRIC)
        plugins.use(mine)
        asked = asked_for(tmp_path, **({"plugins": str(mine)} if named else {}))
        finished.write(folder, asked, LINES)
        assert finished.lines(folder, asked) == LINES
        (path,) = (mine / "trainables" / "own_metrics").glob("*.py")
        path.write_text(path.read_text() + "# changed\n")
        assert finished.lines(folder, asked) is None
