"""The plan on the command line, and the one line of a mistake."""

import re

import pytest
import torch
from rich.console import Console

from study import plan, presets
from study.config import StudyConfig
from study.display import dry_run_table
from tests import own_folder


def test_the_command_prints_a_plan(capsys):
    line = (
        "--model slot_attention --trials 200 --gpus 64 --price 2 --seconds-per-step 0.25 --data clevrtex:full --seed 3"
    )
    assert plan.main(line.split()) == 0
    printed = capsys.readouterr().out
    assert "200 trials of slot_attention on clevrtex:full-(128,128), paper preset, 500,000 steps" in printed
    assert "64 GPUs on 8 nodes; 64 trials at a time, 1 GPU each" in printed
    assert "bottleneck: " in printed and "at 2 an hour" in printed
    assert "measuring" not in printed and "divided and multiplied by 1.25" in printed
    assert re.search(r"it costs: +[\d,]+000? to [\d,]+000? GPU hours", printed) and ".0 h" not in printed
    assert "12 reruns of 3 finalists and the base with 3 seeds each" in printed
    assert plan.main([*line.split(), "--seeds", "1"]) == 0 and "rerun" not in capsys.readouterr().out
    assert "with early stopping: " in printed and "assumed: " in printed and "not counted: " in printed


def test_the_command_prints_its_assumptions(capsys):
    line = "--model slot_attention --gpus 64 --seconds-per-step 0.25 --data clevrtex:full --pruner median"
    assert plan.main([*line.split(), "--workers-per-trial", "4"]) == 0
    printed = capsys.readouterr().out
    assert "16 trials at a time, 4 GPUs each" in printed and "if 4 workers are 4 times as fast" in printed
    assert "early stopping" not in printed and "nor what --pruner median saves" in printed
    assert plan.main([*line.split(), "--gpus-per-trial", "0.5"]) == 0
    assert "if 0.5 of a GPU is 0.5 times as fast as all of it" in capsys.readouterr().out


def test_data_of_ones_own_are_counted_where_they_lie(capsys, tmp_path):
    own_folder.write(tmp_path, "data/sources/squares.py")
    line = "--model space --preset tiny --seconds-per-step 0.25".split()
    with own_folder.kept_out():
        assert plan.main([*line, "--data", "squares", "--plugins", str(tmp_path)]) == 0
        assert "trials of space on squares-(32,32), tiny preset" in capsys.readouterr().out
    images = [*line, "--data", "images-(32,32)"]
    assert plan.main(images) == 2 and "is not known here; give --data-root, or plan with" in capsys.readouterr().err
    assert plan.main([*images, "--data-root", str(own_folder.ROOT / "tests/data/images")]) == 0
    assert "trials of space on images-(32,32)" in capsys.readouterr().out


def test_a_core_here_is_measured(capsys):
    assert plan.main("--model slot_attention --trials 4 --cpus 2 --set batch_size=2".split()) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("measuring one training step of slot_attention on this machine, ")
    assert "measured on one" in printed


def test_a_dry_run_shows_searched_keys_first_with_ranges_for_people(capsys):
    study = StudyConfig(model="slot_attention", preset="tiny", set={"batch_size": 2}, space=["num_iters=2,3"])
    dry_run_table.show(presets.resolve(study, has_gpu=False), Console(width=100))
    lines = [line.split("│") for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    rows = [[cell.strip() for cell in cells[1:4]] for cells in lines]
    searched = [row for row in rows if row[2] not in ("", "fixed")]
    assert rows[: len(searched)] == searched and rows[len(searched)] == ["batch_size", "2", "fixed"]
    assert ["num_iters", "2", "2, 3"] in searched or ["num_iters", "3", "2, 3"] in searched
    assert any(" .. " in row[2] and row[2].endswith(" log") for row in searched)


@pytest.mark.skipif(torch.backends.cuda.is_built() and not torch.cuda.is_available(), reason="torch asks for a driver")
def test_a_gpu_here_is_not_taken_for_a_core_of_the_cluster(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert plan.main("--model slot_attention --trials 4 --cpus 2 --preset tiny --set batch_size=2".split()) == 0
    assert "measured on one CPU core" in capsys.readouterr().out
    study = StudyConfig(model="slot_attention", preset="tiny", set={"batch_size": 2})
    dry_run_table.show(presets.resolve(study, has_gpu=True), Console())
    assert "on one CPU core" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--model space --gpus -1", "--gpus is -1; it must be above zero"),
        ("--model space --gpus-per-trial 0", "--gpus-per-trial is 0.0"),
        ("--model spcae --gpus 4", "did you mean space"),
        ("--model space --gpus 1 --gpus-per-trial 2", "--gpus-per-trial 2 per trial, but the cluster has 1 GPUs"),
        ("--model space --gpus 2 --workers-per-trial 4", "the cluster has places for 2"),
        ("--model space --gpus 8 --gpus-per-trial 0.5 --workers-per-trial 2", "--gpus-per-trial is 0.5 with --workers"),
        ("--model space --gpus 8 --data clevrtex:clevr", "plan with clevrtex:full"),
    ],
)
def test_a_mistake_ends_with_one_line(line, says, capsys):
    assert plan.main(line.split()) == 2
    printed = capsys.readouterr().err
    assert says in printed and printed.count("\n") == 1
