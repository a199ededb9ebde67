"""What compared studies were given."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

import trainables
from study.display import study_page
from study.scoring import budgets
from study.scoring.budgets import Budget, unequal

ONE = Budget("tiny", 50, 500, 20_000, 2, 3, 900.0, 50.0, 1000)


def test_only_choices_are_compared() -> None:
    assert unequal({"a": ONE, "b": replace(ONE, trained=1, wall=None, seconds=9.0, parameters=5)}) == []
    lines = unequal({"a": ONE, "b": replace(ONE, seeds=1), "c": replace(ONE, steps=4000)})
    assert lines == [
        "budgets are unequal, training steps of a full trial: 500 for a, b; 4,000 for c",
        "budgets are unequal, seeds: 3 for a, c; 1 for b",
    ]


def test_they_are_read_from_the_folder(results_folder: Path) -> None:
    hyperparameters = {"num_slots": 4}
    best = {"trial": 5, "entry": "trial_0005", "model": "slot_attention", "image_size": 32}
    (results_folder / "best.json").write_text(json.dumps(best | {"hyperparameters": hyperparameters}))
    study_page.write(results_folder)
    found = budgets.read(results_folder)
    model = trainables.build("slot_attention", hyperparameters, 32)
    assert found.parameters == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert (found.trials, found.steps, found.finalists, found.seeds) == (8, 400, 3, 2), "one of nine still runs"
    assert found.wall == 7000.0 and found.seconds == 75.0 and found.trained == 400 * 5
    (results_folder / "best.json").write_text(json.dumps(best | {"hyperparameters": {"of_old": 1}}))
    assert budgets.read(results_folder).parameters is None
    with pytest.raises(ValueError, match="no study"):
        budgets.read(results_folder / "pictures")
