"""Identity, lock and atomic writes of a study's folder."""

import subprocess
import sys
from pathlib import Path

import pytest

from study.results_folder import ROOT, StudyFolder, git_revision, versions, write_json

IDENTITY = {"model": "space", "seed": 0, "steps": 100, "set": {"lr": 0.1}}


def test_another_identity_is_refused_by_naming_the_keys_and_nothing_is_touched(tmp_path):
    folder = StudyFolder(tmp_path / "study")
    (folder.path / "trials").mkdir(parents=True)
    (folder.path / ".lock").touch()
    folder.write(config=IDENTITY)
    precious = folder.path / "evaluation.parquet"
    precious.write_text("scores")
    before = {path: path.stat().st_mtime_ns for path in folder.path.iterdir()}
    with pytest.raises(ValueError, match="seed is 0 there and 1 here; set is") as caught:
        StudyFolder(folder.path).claim({**IDENTITY, "seed": 1, "set": {}}, fresh=False)
    assert "--fresh" in str(caught.value) and "steps" not in str(caught.value)
    assert {path: path.stat().st_mtime_ns for path in folder.path.iterdir()} == before


def test_what_was_called_asha_before_there_was_promotion_is_compared_as_halving(tmp_path):
    folder = StudyFolder(tmp_path)
    folder.write(config={**IDENTITY, "pruner": "asha"})
    folder.check_identity({**IDENTITY, "pruner": "halving"})
    with pytest.raises(ValueError, match="pruner is 'halving' there and 'asha' here"):
        folder.check_identity({**IDENTITY, "pruner": "asha"})
    folder.write(ranges={})
    folder.check_identity({**IDENTITY, "pruner": "asha"})


def test_a_second_process_is_refused_while_the_first_lives(tmp_path):
    folder = StudyFolder(tmp_path / "study")
    code = (
        "import sys; from pathlib import Path; from study.results_folder import StudyFolder;"
        f"StudyFolder(Path({str(folder.path)!r})).claim({IDENTITY!r}, fresh=False); print('held', flush=True);"
        "sys.stdin.read()"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
    with pytest.raises(ValueError, match="being run by another process"):
        folder.claim(IDENTITY, fresh=False)
    holder.kill()
    holder.wait()
    folder.claim(IDENTITY, fresh=False)


def test_fresh_empties_the_folder_and_only_that(tmp_path):
    folder = StudyFolder(tmp_path / "study")
    folder.path.mkdir()
    folder.write(config={"seed": 5})
    (folder.path / "trials" / "trial_0000").mkdir(parents=True)
    (tmp_path / "neighbour").write_text("stays")
    folder.claim(IDENTITY, fresh=True)
    assert folder.read() is not None, "claimed, but nothing is removed before the new study can start"
    folder.clear()
    assert folder.read() is None and not list(folder.trials.iterdir())
    assert (tmp_path / "neighbour").read_text() == "stays"


def test_an_unwritable_results_folder_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"cannot be written .*choose another --results"):
        StudyFolder(tmp_path / "file" / "study").claim(IDENTITY, fresh=False)


def test_other_images_are_refused(tmp_path):
    folder = StudyFolder(tmp_path)
    folder.check_data("abc")
    folder.write(data={"fingerprint": "abc"})
    folder.check_data("abc")
    with pytest.raises(ValueError, match="other images"):
        folder.check_data("xyz")


def test_damaged_study_json_is_named(tmp_path):
    for content in (b"{", b"[]", b"3", b"\xff\xfe"):
        (tmp_path / "study.json").write_bytes(content)
        with pytest.raises(ValueError, match=r"study\.json is damaged \(.*restore it"):
            StudyFolder(tmp_path).read()


def test_busy_share_is_over_all_sessions(tmp_path):
    folder = StudyFolder(tmp_path)
    folder.add_session(100, 160, 2)
    folder.add_session(50, 20, 1)
    stored = folder.read()
    assert stored is not None and stored["timing"]["busy_share"] == pytest.approx(180 / 250)


def test_write_json_leaves_no_partial_file(tmp_path):
    write_json(tmp_path / "a.json", {"a": 1})
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_versions_and_revision():
    assert versions()["optuna"].count(".") == 2
    assert git_revision() is None or len(git_revision() or "") >= 7


def test_root_is_the_checkout():
    assert (ROOT / "setup.cfg").exists() and Path(ROOT / "study").is_dir()
