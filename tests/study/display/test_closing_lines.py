"""The last lines of a study, of a results folder as one leaves it."""

import dataclasses
import json
import shlex
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from study import command_line
from study.config import StudyConfig
from study.display import closing_lines, found_section
from study.display.findings import gather
from study.scoring import ranking
from study.scoring.trial_table import write_trials
from tests.study.results import RECORD, reopened

BASE = {"lr": 1e-3, "num_slots": 8, "kernel": 3, "steps": 400}
FOUND = {"lr": 4e-4, "num_slots": 8, "kernel": None, "steps": 400}


@pytest.fixture
def folder(results_folder: Path) -> Path:
    """The study with a best.json, and k-means among its scores."""
    best = {"entry": "trial_0005", "trial": 5, "seed": 11, "step": 400, "model": "space", "image_size": 32}
    (results_folder / "best.json").write_text(json.dumps({**best, "hyperparameters": FOUND}))
    (results_folder / "study.json").write_text(json.dumps({**RECORD, "base": BASE}))
    scores = pq.read_table(results_folder / "evaluation.parquet")
    entries = [name.replace("baseline_grid_4x4", "baseline_kmeans") for name in scores["entry"].to_pylist()]
    scores = scores.set_column(scores.column_names.index("entry"), "entry", pa.array(entries))
    pq.write_table(scores, results_folder / "evaluation.parquet")
    return results_folder


def lines_of(folder: Path) -> list[tuple[str, bool]]:
    trials = write_trials(reopened(folder), folder).to_pylist()
    return closing_lines.found_lines(gather(folder, folder.name, trials, images=False))


def test_scores_stand_beside_the_base_and_changed_values_are_bold(folder: Path) -> None:
    lines = lines_of(folder)
    assert lines[:3] == [
        ("found:  trial 5", True),
        ("        validation: mIoU_fg 71.0 ± 1.0 % (base 60.5 ± 0.5), mean of 2 fresh seeds", False),
        ("        test:       mIoU_fg 47.5 ± 5.0 % (base 40.5 ± 3.0, k-means 22.5)", False),
    ]
    assert lines[3][0].startswith("        OOD:        mIoU_fg ")
    assert ("        lr         4e-4  (base 1e-3)", True) in lines
    assert ("        kernel     none  (base 3)", True) in lines
    assert ("        num_slots  8", False) in lines
    assert not any("steps" in text for text, _ in lines), "not searched"
    assert lines[-1] == (f"files:  {folder}/best/space.safetensors, {folder}/best.json", False)


def test_without_a_better_trial_the_base_is_what_was_found(folder: Path) -> None:
    finalists = ranking.read(folder)
    ranking.write(folder, [finalists[2], finalists[0]])
    best = json.loads((folder / "best.json").read_text())
    (folder / "best.json").write_text(json.dumps({**best, "entry": "base", "trial": 0, "hyperparameters": BASE}))
    lines = lines_of(folder)
    assert lines[0] == ("found:  no trial that is better than the base", True)
    assert lines[1][0] == "        validation: mIoU_fg 60.5 ± 0.5 %, mean of 2 fresh seeds"
    assert not any(bold for _, bold in lines[1:]) and not any("lr " in text for text, _ in lines)


def test_before_the_end_nothing_is_found(results_folder: Path) -> None:
    assert lines_of(results_folder) == []


def test_the_command_for_more_steps_is_the_study_with_other_flags() -> None:
    asked = StudyConfig(
        model="slot_attention",
        data="synthetic:0.4-(64,64)",
        trials=30,
        pruner="median",
        sampler="tpe",
        reports=4,
        set={"grad_clip": None},
        space=["lr=1e-4..1e-3"],
        curve=False,
        compile=True,
        results="some results",
        cpus=2.0,
        seed=3,
        name="mine-400-steps",
        fresh=True,
    )
    folder = Path("some results/mine-400-steps")
    words = shlex.split(closing_lines.longer(asked, "tiny", 400, folder, base=False))
    assert words[:2] in (["python", "study/run.py"], ["clevrtune", "run"])
    (made,) = command_line.studies(words[2:])
    changed = {"trials": 1, "steps": 1200, "seeds": 1, "pruner": "none", "sampler": "prior", "name": "mine-1200-steps"}
    changed |= {"from_": [str(folder)], "preset": "tiny", "fresh": False}
    assert made == dataclasses.replace(asked, **changed)
    assert "--from" not in closing_lines.longer(asked, "tiny", 400, folder, base=True)
    remote = dataclasses.replace(asked, cache="s3://bucket/shards?secret_key=secret", address="auto")
    line = closing_lines.longer(remote, "tiny", 400, folder, base=True)
    assert "s3://bucket/shards" in line and "secret_key=secret" not in line and "--address" not in line


def test_the_report_has_the_command_at_its_top(folder: Path) -> None:
    best = found_section.read_best(folder)
    trials = write_trials(reopened(folder), folder).to_pylist()
    chosen = found_section.chosen({"base": BASE}, best, trials)
    (html,) = found_section.best_section("mine", chosen, best, "python study/run.py --steps 1200")
    assert "python study/run.py --steps 1200" in html and "best/space.safetensors" in html and "best.json" in html


def test_a_split_that_was_scored_before_the_winner_was_there_is_left_out(folder: Path) -> None:
    """Its first row would be the base's."""
    scores = pq.read_table(folder / "evaluation.parquet").to_pylist()
    pq.write_table(
        pa.Table.from_pylist([row for row in scores if row["entry"] != "trial_0005" or row["split"] != "camo"]),
        folder / "evaluation.parquet",
    )
    texts = [text for text, _ in lines_of(folder)]
    assert any(text.strip().startswith("OOD:") for text in texts)
    assert not any(text.strip().startswith("CAMO:") for text in texts)
