"""How studies end, and what is swept away when trials do."""

import os
import signal
import time

import pytest

from study.search.stopping import StudyStopper, sweep_checkpoints, sweep_tune_files


def folder_with(tmp_path, **steps):
    for name, step in steps.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / f"step_{step:09d}.pt").write_text("")
    (tmp_path / "events.out.tfevents.1").write_text("")
    return tmp_path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_newest_is_the_highest_step_not_the_highest_folder(tmp_path):
    folder = folder_with(tmp_path, checkpoint_000000=30, checkpoint_000001=10, checkpoint_000002=20)
    sweep_checkpoints(folder, keep_newest=True)
    assert names(folder) == ["checkpoint_000000", "events.out.tfevents.1"]


def test_a_stopped_trial_keeps_its_curves_only(tmp_path):
    folder = folder_with(tmp_path, checkpoint_000000=30)
    sweep_checkpoints(folder, keep_newest=False)
    assert names(folder) == ["events.out.tfevents.1"]


def test_tunes_files_go_and_trials_stay(tmp_path):
    for name in ("tuner.pkl", "experiment_state-2026.json", "searcher-state-1.pkl", "search_gen_state-2.json"):
        (tmp_path / name).write_text("")
    (tmp_path / "trial_0001").mkdir()
    sweep_tune_files(tmp_path)
    assert names(tmp_path) == ["trial_0001"]


def test_the_first_ctrl_c_ends_the_study_in_good_order_and_the_second_at_once():
    stopper = StudyStopper(lambda: False, hours=None)
    before = signal.getsignal(signal.SIGINT)
    with stopper.catching_signals():
        assert not stopper.stop_all()
        os.kill(os.getpid(), signal.SIGINT)
        assert stopper.interrupted and stopper.stop_all()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_hours_and_giving_up_end_the_study():
    short = StudyStopper(lambda: False, hours=1e-9)
    time.sleep(0.001)
    assert short.stop_all()
    assert StudyStopper(lambda: True, hours=None).stop_all()
    assert not StudyStopper(lambda: False, hours=1.0).stop_all()
