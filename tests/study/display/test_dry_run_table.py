"""What a dry run says of the disk, beside what a trial really writes."""

import torch

import trainables
from study import presets
from study.config import StudyConfig
from study.display import dry_run_table
from study.display.dry_run_table import checkpoint_bytes
from tests.trainables import scenes
from trainables import checkpoint
from trainables.training import Task, Training


def test_the_size_of_a_checkpoint_is_that_of_a_real_one(tmp_path):
    values = presets.preset_values("space", "tiny") | {"steps": 4, "batch_size": 2}  # two optimisers
    split = scenes.split(4, 32)
    training = Training(
        Task("space", 32, steps=4, reports=2, seed=0, metric="loss"), values, 0, split, torch.device("cpu")
    )
    training.report(split)
    written = checkpoint.save(tmp_path, training.state()).stat().st_size
    assert 0.95 * written < checkpoint_bytes(trainables.build("space", values, 32)) < written


def test_the_disk_that_a_study_may_take_is_that_of_all_its_trials(tmp_path, monkeypatch):
    asked = {"model": "slot_attention", "trials": 50, "results": str(tmp_path / "not" / "there")}
    once = presets.resolve(StudyConfig(**asked), has_gpu=False)
    text = dry_run_table._checkpoints(once, 2**20, at_a_time=4)
    assert text.startswith("1.0 MiB each, 1 kept per trial: at most 64.0 MiB of the disk, which has ")  # 50, 6, 4 x 2
    thrice = presets.resolve(StudyConfig(**asked, keep_checkpoints=3, seeds=1), has_gpu=False)
    text = dry_run_table._checkpoints(thrice, 2**30, at_a_time=4)
    assert text.startswith("1.0 GiB each, 3 kept per trial: at most 154.0 GiB of the disk")
    text = dry_run_table._checkpoints(thrice, 2**50, at_a_time=4)
    assert text.endswith("free: fewer --keep-checkpoints or --trials, or another --results")
