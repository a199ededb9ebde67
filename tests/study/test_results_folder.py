"""Identity, lock and atomic writes of a study's folder."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import trainables
from study import results_folder
from study.results_folder import ROOT, StudyFolder, git_revision, versions, write_json
from tests import own_folder

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


def hold(folder):
    """Another process that runs a study in ``folder``."""
    code = (
        "import sys; from pathlib import Path; from study.results_folder import StudyFolder;"
        f"StudyFolder(Path({str(folder.path)!r})).claim({IDENTITY!r}, fresh=False); print('held', flush=True);"
        "sys.stdin.read()"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
    return holder


def test_a_second_process_is_refused_while_the_first_lives(tmp_path):
    folder = StudyFolder(tmp_path / "study")
    holder = hold(folder)
    with pytest.raises(ValueError, match="being run by another process"):
        folder.claim(IDENTITY, fresh=False)
    holder.kill()
    holder.wait()
    folder.claim(IDENTITY, fresh=False)


def test_a_released_study_can_be_run_by_another_process_and_again_by_this_one(tmp_path):
    folder = StudyFolder(tmp_path / "study")
    folder.claim(IDENTITY, fresh=False)
    folder.write(config=IDENTITY)
    folder.set_aside()
    results_folder.release_locks()
    results_folder.release_locks()
    holder = hold(folder)
    with pytest.raises(ValueError, match="being run by another process"):
        folder.claim(IDENTITY, fresh=False)
    holder.kill()
    holder.wait()
    folder.claim(IDENTITY, fresh=False)


def test_the_plugins_that_a_study_names_are_used_unless_they_came_with_the_folder(tmp_path):
    folder = StudyFolder(tmp_path / "results" / "own")
    folder.path.mkdir(parents=True)
    (folder.path / "best").mkdir()
    with own_folder.kept_out():
        mine = own_folder.write(tmp_path / "mine", *own_folder.MODEL)
        for named in (None, str(tmp_path / "gone"), 3):
            folder.write(config=IDENTITY, plugins=named)
            assert results_folder.use_its_plugins(folder.path) == folder.path
        assert "colour_field" not in trainables.names()
        folder.write(plugins=str(mine))
        results_folder.use_its_plugins(folder.path / "best")
        assert "colour_field" in trainables.names()
    with own_folder.kept_out():
        within = own_folder.write(folder.path / "mine", *own_folder.MODEL)
        folder.write(plugins=str(within))
        with pytest.raises(ValueError, match="its plugins lie within it; copy them elsewhere"):
            results_folder.read_record(folder.path)
        assert "colour_field" not in trainables.names()


def begun(tmp_path, **config):
    """A study with a trial, and a neighbour."""
    folder = StudyFolder(tmp_path / "study")
    folder.claim(IDENTITY | config, fresh=False)
    folder.write(config=IDENTITY | config)
    (folder.trials / "trial_0000").mkdir()
    (tmp_path / "neighbour").write_text("stays")
    return folder


def files(path):
    return sorted(str(entry.relative_to(path)) for entry in path.rglob("*"))


def test_fresh_sets_the_old_study_aside_and_an_error_brings_it_back(tmp_path):
    folder = begun(tmp_path)
    before = files(tmp_path)
    folder.claim({**IDENTITY, "seed": 1}, fresh=True)
    assert files(tmp_path) == before, "claimed, but nothing moves before the new study can start"
    folder.set_aside()
    assert folder.read() is None and files(folder.path) == [".lock", "trials"]
    assert StudyFolder(folder.aside).read()["config"] == IDENTITY
    (folder.trials / "trial_0000").write_text("of the new study")
    folder.bring_back()
    assert files(tmp_path) == before and folder.read()["config"] == IDENTITY


def test_after_a_kill_a_new_study_that_never_began_gives_way_to_the_old_one(tmp_path):
    folder = begun(tmp_path)
    before = files(tmp_path)
    folder.set_aside()
    folder.claim(IDENTITY, fresh=False)
    assert files(tmp_path) == before and not folder.aside.exists()


def test_a_new_study_that_began_stays_and_starting_over_again_keeps_the_one_that_had_trials(tmp_path):
    folder = begun(tmp_path)
    folder.set_aside()
    folder.write(config={**IDENTITY, "seed": 1})
    folder.claim({**IDENTITY, "seed": 1}, fresh=False)
    assert folder.read()["config"]["seed"] == 1 and folder.aside.exists()
    folder.set_aside()
    assert folder.read() is None and (folder.aside / "trials" / "trial_0000").exists()
    folder.write(config={**IDENTITY, "seed": 2})
    folder.drop_aside()
    folder.drop_aside()
    assert files(tmp_path) == ["neighbour", "study", "study/.lock", "study/study.json", "study/trials"]


def test_a_study_with_checkpoints_never_gives_way_to_one_that_was_not_removed(tmp_path):
    folder = begun(tmp_path)
    folder.set_aside()
    (folder.trials / "trial_0000" / "checkpoint_0").mkdir(parents=True)
    (folder.trials / "trial_0000" / "checkpoint_0" / "step_000000004.pt").touch()
    folder.claim(IDENTITY, fresh=False)  # its study.json is lost
    assert folder.aside.exists() and (folder.trials / "trial_0000").exists()
    folder.set_aside()
    assert list(folder.aside.rglob("step_*.pt")), "the study that had trials"


def test_a_folder_behind_a_link_is_set_aside_where_it_is(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "study").symlink_to(tmp_path / "disk", target_is_directory=True)
    folder = begun(tmp_path)
    folder.set_aside()
    assert folder.aside.parent == tmp_path and (tmp_path / "study").is_symlink() and files(tmp_path / "disk")


@pytest.mark.parametrize("fresh", [True, False])
def test_a_study_that_could_not_begin_leaves_no_folder(tmp_path, fresh):
    folder = StudyFolder(tmp_path / "a" / "b" / "study")
    folder.leave(folder.claim(IDENTITY, fresh=fresh))
    assert files(tmp_path) == []
    folder.leave(folder.claim(IDENTITY, fresh=fresh))  # the lock is no longer in the way
    (folder.path).mkdir(parents=True)
    folder.leave(folder.claim(IDENTITY, fresh=fresh))
    assert files(tmp_path) == ["a", "a/b", "a/b/study", "a/b/study/.lock"], "it was there before"


def test_what_has_been_written_is_not_left(tmp_path):
    folder = StudyFolder(tmp_path / "study")
    made = folder.claim(IDENTITY, fresh=False)
    folder.write(config=IDENTITY)
    folder.leave(made)
    assert folder.read() is not None
    folder.claim(IDENTITY, fresh=False)


def test_a_process_that_is_refused_leaves_the_others_folder_alone(tmp_path):
    folder = StudyFolder(tmp_path / "study")
    holder = hold(folder)
    with pytest.raises(ValueError, match="being run by another process"):
        folder.claim(IDENTITY, fresh=False)
    assert files(tmp_path) == ["study", "study/.lock", "study/trials"]
    holder.kill()
    holder.wait()


def test_folders_of_trials_without_records_are_put_away(tmp_path):
    folder = StudyFolder(tmp_path)
    for name in ("trial_0000", "trial_0001", "trial_0002", "trial_none"):
        (folder.trials / name).mkdir(parents=True)
    assert folder.put_away(3) == []
    assert folder.put_away(1) == ["trial_0001", "trial_0002"]
    (folder.trials / "trial_0001").mkdir()
    assert folder.put_away(1) == ["trial_0001"]
    assert files(tmp_path / "lost") == ["trial_0001", "trial_0001-2", "trial_0002"]
    assert files(folder.trials) == ["trial_0000", "trial_none"]


def test_versions_and_commands_are_kept_for_each_session():
    earlier = {"command": "python study/run.py", "versions": {"torch": "1"}, "git": "abc", "config": {}}
    assert results_folder.sessions(earlier) == [{key: earlier[key] for key in ("command", "versions", "git")}]
    now = results_folder.this_session()
    assert results_folder.sessions({"sessions": [now]}) == [now] and now["versions"] == versions()
    assert results_folder.sessions({"config": {}}) == []


def test_no_key_of_a_cache_is_recorded(monkeypatch):
    uri = "s3://b/x?access_key=me&secret_key=hush"
    monkeypatch.setattr(sys, "argv", ["run.py", "--cache", uri, "--storage", "mysql://me:hush@host/x"])
    command = results_folder.this_session()["command"]
    assert "hush" not in command and "secret_key=***" in command and "mysql://me@host/x" in command


def test_an_unwritable_results_folder_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"cannot be written .*choose another --results"):
        StudyFolder(tmp_path / "file" / "study").claim(IDENTITY, fresh=False)


def test_other_images_are_refused(tmp_path):
    folder = StudyFolder(tmp_path)
    folder.check_data("abc")
    folder.write(config=IDENTITY, data={"fingerprint": "abc"})
    folder.check_data("abc")
    with pytest.raises(ValueError, match="other images"):
        folder.check_data("xyz")


def test_damaged_study_json_is_named(tmp_path):
    whole = json.dumps({"config": IDENTITY, "sessions": []}).encode()
    contents = [b"{", b"", b"{}", b"[]", b"null", b"3", b"\xff\xfe", whole.replace(b"space", b"sp\xe9ce"), whole[:-1]]
    contents += [b'{"config": null}', b'{"config": []}', b'{"config": {}}', b'{"config": {"seed": 1}, "data": 3}']
    contents += [whole.replace(b"[]", b'{"a": 1}'), whole[:-1] + b', "study": "a"}']
    for content in contents:
        (tmp_path / "study.json").write_bytes(content)
        with pytest.raises(ValueError, match=r"study\.json is damaged \(.*restore it, or delete it.*--fresh") as caught:
            StudyFolder(tmp_path).read()
        assert "\n" not in str(caught.value)


def test_busy_share_is_over_all_sessions(tmp_path):
    folder = StudyFolder(tmp_path)
    folder.write(config=IDENTITY)
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
