"""How studies stop, and which files are deleted when trials and studies end."""

import os
import pickle
import signal
from types import SimpleNamespace

import pytest
from ray.tune.experiment import Trial

from study.search.stopping import CheckpointSweeper, StudyStopper, sweep_checkpoints, sweep_tune_files


def folder_with(tmp_path, **steps):
    tmp_path.mkdir(exist_ok=True)
    for name, step in steps.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / f"step_{step:09d}.pt").write_text("")
    (tmp_path / "events.out.tfevents.1").write_text("")
    return tmp_path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_newest_is_the_highest_step_not_the_highest_folder(tmp_path):
    folder = folder_with(tmp_path, checkpoint_000000=30, checkpoint_000001=10, checkpoint_000002=20)
    sweep_checkpoints(folder, keep=1)
    assert names(folder) == ["checkpoint_000000", "events.out.tfevents.1"]


def test_a_folder_that_tune_has_used_twice_keeps_the_newer_file(tmp_path):
    folder = folder_with(tmp_path, checkpoint_000000=10)
    (folder / "checkpoint_000000" / "step_000000020.pt").write_text("")
    sweep_checkpoints(folder, keep=1)
    assert names(folder / "checkpoint_000000") == ["step_000000020.pt"]


def tunes(folder, own, status):
    """Tune's trial 7, with statistics as a real one has them."""
    trial = Trial("a name", config={"number": 7, "folder": str(folder)}, stub=True)
    trial.run_metadata.update_metric("val/mIoU_fg", 0.5)
    return SimpleNamespace(
        config=trial.config,
        local_path=str(own),
        status=status,
        PENDING=Trial.PENDING,
        run_metadata=trial.run_metadata,
        metric_analysis=trial.metric_analysis,
        metric_n_steps=trial.metric_n_steps,
    )


def test_as_many_are_kept_as_are_asked_for_wherever_they_lie(tmp_path):
    folder = folder_with(tmp_path, checkpoint_000000=10, checkpoint_000001=15)
    (folder / "checkpoint_000000" / "step_000000020.pt").write_text("")
    sweep_checkpoints(folder, keep=2)
    assert [path.name for path in sorted(folder.rglob("step_*.pt"))] == ["step_000000020.pt", "step_000000015.pt"]
    sweep_checkpoints(folder, keep=9)
    assert len(list(folder.rglob("step_*.pt"))) == 2
    sweeper = CheckpointSweeper(lambda number: "COMPLETE", keep=2)
    trial = tunes(folder, tmp_path / "x", "RUNNING")
    sweeper.on_trial_complete(1, [trial], trial)
    assert len(list(folder.rglob("step_*.pt"))) == 2


def test_a_pruned_trial_keeps_its_curves_only(tmp_path):
    folder = folder_with(tmp_path, checkpoint_000000=30)
    sweep_checkpoints(folder, keep=0)
    assert names(folder) == ["events.out.tfevents.1"]


def test_tunes_files_are_deleted_and_trials_are_kept(tmp_path):
    for name in ("tuner.pkl", "experiment_state-2026.json", "searcher-state-1.pkl", "search_gen_state-2.json"):
        (tmp_path / name).write_text("")
    (tmp_path / "trial_0001").mkdir()
    (tmp_path / ".validate_storage_marker").write_text("")
    sweep_tune_files(tmp_path)
    assert names(tmp_path) == ["trial_0001"]


def test_the_first_ctrl_c_stops_the_study_in_good_order_and_the_second_at_once():
    stopper = StudyStopper(lambda: False, hours=None)
    before = signal.getsignal(signal.SIGINT)
    with stopper.catching_signals():
        assert not stopper.stop_all()
        os.kill(os.getpid(), signal.SIGINT)
        assert stopper.interrupted and stopper.stop_all()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_sigterm_stops_a_study_as_ctrl_c_does():
    stopper = StudyStopper(lambda: False, hours=None)
    before = signal.getsignal(signal.SIGTERM)
    with stopper.catching_signals():
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopper.interrupted and stopper.stop_all()
    assert signal.getsignal(signal.SIGTERM) is before


def test_signal_handlers_are_restored_after_an_error():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyError), StudyStopper(lambda: False, hours=None).catching_signals():
        raise KeyError
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(("hours", "seconds"), [(1.0, 3600), (0.5, 1800), (24, 86400)])
def test_a_study_stops_when_its_hours_are_up(hours, seconds):
    now = 1e6
    stopper = StudyStopper(lambda: False, hours, clock=lambda: now)
    for passed, stopped in ((0, False), (seconds - 1, False), (seconds + 1, True)):
        now = 1e6 + passed
        assert stopper.stop_all() is stopped
    assert not stopper.interrupted


def test_without_hours_only_the_searcher_stops_a_study():
    given_up, now = False, 0.0
    stopper = StudyStopper(lambda: given_up, None, clock=lambda: now)
    now = 1e12
    assert not stopper.stop_all()
    given_up = True
    assert stopper.stop_all() and not stopper.interrupted


def test_no_single_trial_is_stopped():
    assert StudyStopper(lambda: True, hours=None)("trial", {"done": True}) is False


@pytest.mark.parametrize(
    ("state", "left"),
    [
        ("COMPLETE", ["checkpoint_000001", "events.out.tfevents.1"]),
        ("PRUNED", ["events.out.tfevents.1"]),
        ("PAUSED", ["checkpoint_000001", "events.out.tfevents.1"]),
        ("FAIL", ["events.out.tfevents.1"]),
        ("RUNNING", ["checkpoint_000000", "checkpoint_000001", "events.out.tfevents.1"]),
    ],
)
def test_a_trial_keeps_only_the_checkpoints_that_are_read_again(state, left, tmp_path):
    both = ["checkpoint_000000", "checkpoint_000001", "events.out.tfevents.1"]
    for status in ("RUNNING", "PENDING"):  # the last one has lost its worker
        own = tmp_path / f"driver-{status}"
        own.mkdir()
        folder = folder_with(tmp_path / status, checkpoint_000000=10, checkpoint_000001=20)
        asked = []
        sweeper = CheckpointSweeper(lambda number, asked=asked: asked.append(number) or state)
        trial = tunes(folder, own, status)
        sweeper.on_trial_complete(1, [trial], trial)
        expected = both if (state, status) == ("PAUSED", "PENDING") else left  # its last one may be cut short
        assert set(asked) == {7} and names(folder) == expected
        assert not own.exists(), "Tune would give the trial another folder"
        assert bool(trial.metric_analysis) == bool(trial.metric_n_steps) == (status == "PENDING")


def test_what_tune_pickles_holds_nothing():
    for made in (StudyStopper(lambda: False, hours=1.0), CheckpointSweeper(lambda number: "FAIL")):
        assert vars(pickle.loads(pickle.dumps(made))) == {}
