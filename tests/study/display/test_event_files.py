"""The callback, called directly in the order in which Tune 2.60 does, its files read back by TensorBoard."""

import math
import os
import pickle
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer
from tensorboard.plugins.hparams import metadata

from study.display.event_files import TensorBoardCallback

HYPERPARAMETERS = {"lr": 4e-4, "num_slots": 11, "optimizer": "adam", "grad_clip": None, "betas": (0.9, 0.95)}
SEARCHED = ("num_slots", "grad_clip", "betas")


def trial(tmp_path: Path, number: int = 7) -> SimpleNamespace:
    """What the callback uses of a Tune trial."""
    folder = tmp_path / f"trial_{number:04d}"
    folder.mkdir(exist_ok=True)
    config = {"hyperparameters": HYPERPARAMETERS, "number": number, "folder": str(folder)}
    return SimpleNamespace(trial_id=f"id{number}", config=config)


def checkpoint(tmp_path: Path, colour: int) -> SimpleNamespace:
    """A checkpoint folder with a picture in one colour."""
    folder = tmp_path / f"checkpoint_{colour}"
    folder.mkdir()
    Image.new("RGB", (8, 4), (colour, 0, 0)).save(folder / "panel.png")
    return SimpleNamespace(path=str(folder))


def report(callback: TensorBoardCallback, of: SimpleNamespace, step: int, value: float, **more: object) -> None:
    result = {
        "step": step,
        "train/loss": 10.0 - step,
        "val/mIoU_fg": value,
        "time/train_s": 1.5,
        "lr": 1e-3,
        "lr/2": 2e-3,
    }
    result |= {"training_iteration": step, "time_total_s": 3.0, "hostname": "box", "config": {}} | more
    callback.on_trial_result(0, [], of, result)


def read(folder: str) -> EventAccumulator:
    return EventAccumulator(folder).Reload()


def curve(folder: str, tag: str) -> list[tuple[int, float]]:
    return [(event.step, pytest.approx(event.value)) for event in read(folder).Scalars(tag)]


def test_a_trial_writes_curves_picture_text_and_hparams_into_one_run(tmp_path: Path) -> None:
    callback, one = TensorBoardCallback("mIoU_fg", SEARCHED), trial(tmp_path)
    folder = one.config["folder"]
    callback.on_trial_start(0, [], one)
    report(callback, one, 1, 0.25)
    assert curve(folder, "val/mIoU_fg") == [(1, 0.25)], "a result is on disk before the next one"
    callback.on_checkpoint(0, [], one, checkpoint(tmp_path, 200))
    report(callback, one, 2, 0.5, done=True)
    callback.on_trial_complete(0, [], one)

    events = read(folder)
    tags = {"train/loss", "val/mIoU_fg", "time/train_s", "lr", "lr/2", "Objective/mIoU_fg"}
    assert set(events.Tags()["scalars"]) == tags
    assert curve(folder, "train/loss") == [(1, 9.0), (2, 8.0)]
    assert curve(folder, "Objective/mIoU_fg") == [(1, 0.25), (2, 0.5)]
    assert curve(folder, "lr/2")[-1] == (2, 2e-3)
    (picture,) = events.Images("panel")
    assert (picture.step, picture.width, picture.height) == (1, 8, 4)
    (table,) = events.Tensors("hyperparameters/text_summary")
    rows = table.tensor_proto.string_val[0].decode().splitlines()[2:]
    assert [row.split(" | ")[0][2:] for row in rows] == ["num_slots", "grad_clip", "betas", "lr", "optimizer"]
    assert rows[0] == "| num_slots | 11 |"
    start = metadata.parse_session_start_info_plugin_data(
        events.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    )
    assert set(start.hparams) == set(SEARCHED), "fixed ones would be columns without a message"
    assert start.hparams["num_slots"].number_value == 11
    assert start.hparams["grad_clip"].string_value == "none"
    assert start.hparams["betas"].string_value == "[0.9, 0.95]"
    assert all(path.is_file() for path in Path(folder).iterdir()), "a subfolder would be a second run"


def test_an_interrupted_trial_shows_every_step_once(tmp_path: Path) -> None:
    first = TensorBoardCallback("mIoU_fg", SEARCHED)
    first.on_trial_start(0, [], trial(tmp_path))
    for step in (1, 2, 3, 4):
        report(first, trial(tmp_path), step, step / 10)
    # the driver dies without closing anything; the next one goes on from the checkpoint of step 2
    second, one = TensorBoardCallback("mIoU_fg", SEARCHED), trial(tmp_path)
    second.on_trial_start(0, [], one)
    for step in (3, 4, 5):
        report(second, one, step, step / 5)
    second.on_trial_complete(0, [], one)
    folder = one.config["folder"]
    assert curve(folder, "val/mIoU_fg") == [(1, 0.1), (2, 0.2), (3, 0.6), (4, 0.8), (5, 1.0)]
    assert len(read(folder).Tensors("hyperparameters/text_summary")) == 1


def test_a_retry_after_a_lost_worker_shows_every_step_once(tmp_path: Path) -> None:
    callback, one = TensorBoardCallback("mIoU_fg", SEARCHED), trial(tmp_path)
    for steps in ((1, 2, 3), (3, 4)):
        callback.on_trial_start(0, [], one)
        for step in steps:
            report(callback, one, step, step / 10)
    callback.on_trial_complete(0, [], one)
    assert curve(one.config["folder"], "val/mIoU_fg") == [(1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4)]


def test_bad_numbers_and_failed_trials_do_not_stop_the_study(tmp_path: Path) -> None:
    callback, one, silent = TensorBoardCallback("mIoU_fg", SEARCHED), trial(tmp_path), trial(tmp_path, 8)
    callback.on_trial_start(0, [], one)
    report(callback, one, 1, 0.3)
    report(callback, one, 2, math.nan, **{"train/loss": np.float32("inf"), "train/note": "text"})
    callback.on_trial_result(0, [], one, {"done": True, "failure": "loss is nan at step 3"})
    callback.on_trial_error(0, [], one)
    (_, bad) = read(one.config["folder"]).Scalars("val/mIoU_fg")
    assert bad.step == 2 and math.isnan(bad.value)
    callback.on_trial_start(0, [], silent)
    callback.on_trial_error(0, [], silent)
    assert read(silent.config["folder"]).Tags()["scalars"] == []


def test_two_trials_keep_apart(tmp_path: Path) -> None:
    callback, one, two = TensorBoardCallback("ARI_FG", SEARCHED), trial(tmp_path, 1), trial(tmp_path, 2)
    for each, value in ((one, 0.1), (two, 0.2)):
        callback.on_trial_start(0, [], each)
        report(callback, each, 1, value)
    callback.on_experiment_end([])
    assert curve(one.config["folder"], "val/mIoU_fg") == [(1, 0.1)]
    assert curve(two.config["folder"], "val/mIoU_fg") == [(1, 0.2)]


def test_the_callback_can_be_pickled_while_files_are_open(tmp_path: Path) -> None:
    callback, one = TensorBoardCallback("mIoU_fg", SEARCHED), trial(tmp_path)
    callback.on_trial_start(0, [], one)
    assert pickle.loads(pickle.dumps(callback)).metric == "mIoU_fg"
    callback.on_experiment_end([])


def test_a_clock_that_goes_back_hides_no_curve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three sessions, each an hour before the one before it; steps are repeated. One board is open all the time."""
    one = trial(tmp_path)
    folder = one.config["folder"]
    board = EventMultiplexer().AddRun(folder, "run")
    started = time.time()
    for session, steps in enumerate([(1, 2, 3), (3, 4), (4, 5)]):
        monkeypatch.setattr(time, "time", lambda ago=3600 * session: started - ago)
        callback = TensorBoardCallback("mIoU_fg", SEARCHED)
        callback.on_trial_start(0, [], one)
        for step in steps:
            report(callback, one, step, session + step / 10)
        callback.on_experiment_end([])
        board.Reload()
    expected = [(1, 0.1), (2, 0.2), (3, 1.3), (4, 2.4), (5, 2.5)]
    assert curve(folder, "val/mIoU_fg") == expected
    assert [(event.step, pytest.approx(event.value)) for event in board.Scalars("run", "val/mIoU_fg")] == expected


def test_a_file_of_a_host_whose_clock_is_ahead_hides_no_curve(tmp_path: Path) -> None:
    one = trial(tmp_path)
    for session, steps in enumerate([(1, 2, 3), (3, 4)]):
        callback = TensorBoardCallback("mIoU_fg", SEARCHED)
        callback.on_trial_start(0, [], one)
        for step in steps:
            report(callback, one, step, session + step / 10)
        callback.on_experiment_end([])
        if session == 0:
            (path,) = Path(one.config["folder"]).iterdir()
            path.rename(path.with_name("events.out.tfevents.4000000000.zebra.1.0"))
    assert curve(one.config["folder"], "val/mIoU_fg") == [(1, 0.1), (2, 0.2), (3, 1.3), (4, 1.4)]


def test_files_of_one_second_are_read_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a second the number of the process is what tells two files apart."""
    one, now = trial(tmp_path), time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    for step, pid in ((1, 7000), (2, 6000)):
        monkeypatch.setattr(os, "getpid", lambda pid=pid: pid)
        callback = TensorBoardCallback("mIoU_fg", SEARCHED)
        callback.on_trial_start(0, [], one)
        report(callback, one, step, step / 100)
        callback.on_experiment_end([])
    assert curve(one.config["folder"], "val/mIoU_fg") == [(1, 0.01), (2, 0.02)]
