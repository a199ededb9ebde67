"""What every search space promises about the two presets."""

import dataclasses
import importlib
import typing
import warnings
from typing import Any

import numpy as np
import optuna
import pytest
import torch

import trainables
from data.sources.synthetic import drawing
from tests.trainables import scenes
from trainables import typed_config
from trainables.training import Task, Training

DRAWS = 20
PRESETS = {"paper": 128, "tiny": 32}
"""Preset -> image size in pixels."""

both_presets = pytest.mark.parametrize("preset", PRESETS)
pytestmark = pytest.mark.parametrize("name", trainables.names())


def hyperparameters(name: str, preset: str) -> dict[str, Any]:
    """The model's full configuration in a preset."""
    changes = importlib.import_module(f"search_spaces.{name}").TINY if preset == "tiny" else {}
    return dataclasses.asdict(typed_config.make(trainables.load(name).Config, changes))


def base(name: str, preset: str) -> dict[str, Any]:
    """What a study passes to a space."""
    facts = {"image_size": PRESETS[preset], "max_objects": drawing.MAX_OBJECTS}
    return {**hyperparameters(name, preset), **facts}


def draws(name: str, base: dict[str, Any], count: int) -> list[tuple[optuna.Trial, dict[str, Any]]]:
    """Random trials of the space around ``base``, each with what the space returned."""
    space = importlib.import_module(f"search_spaces.{name}").space
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = []
    for _ in range(count):
        trial = study.ask()
        drawn.append((trial, space(trial, base)))
    return drawn


@both_presets
def test_the_preset_itself_is_the_first_trial(name: str, preset: str) -> None:
    preset_values = base(name, preset)
    space = importlib.import_module(f"search_spaces.{name}").space
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Optuna only warns of a value outside its range
        study.enqueue_trial(preset_values)
        trial = study.ask()
        returned = space(trial, preset_values)
    assert trial.params, "nothing is searched"
    assert trial.params == {key: preset_values[key] for key in trial.params}
    assert returned == {key: preset_values[key] for key in returned}


@both_presets
def test_what_may_be_none_can_be_set_to_none_by_hand(name: str, preset: str) -> None:
    types = typing.get_type_hints(trainables.load(name).Config)
    for key in (key for key, wanted in types.items() if type(None) in typing.get_args(wanted)):
        for _, returned in draws(name, {**base(name, preset), key: None}, 5):
            typed_config.make(trainables.load(name).Config, {**hyperparameters(name, preset), **returned, key: None})


@both_presets
def test_everything_drawn_is_used_and_known(name: str, preset: str) -> None:
    fields = {field.name for field in dataclasses.fields(trainables.load(name).Config)}
    for trial, returned in draws(name, base(name, preset), DRAWS):
        suggested = trial.params
        assert set(suggested) <= set(returned) <= fields
        assert {key: returned[key] for key in suggested} == suggested
        typed_config.make(trainables.load(name).Config, {**hyperparameters(name, preset), **returned})


@both_presets
def test_the_space_is_nearly_flat(name: str, preset: str) -> None:
    keys = [set(trial.params) for trial, _ in draws(name, base(name, preset), 50)]
    assert len(keys[0].union(*keys) - keys[0].intersection(*keys)) <= 2, "more than two conditional keys"


@both_presets
def test_the_space_is_a_function_of_the_preset(name: str, preset: str) -> None:
    preset_values = base(name, preset)
    before = dict(preset_values)
    first, again = ([returned for _, returned in draws(name, preset_values, 5)] for _ in range(2))
    assert first == again
    assert preset_values == before


def test_tiny_draws_train_and_stay_tiny(name: str) -> None:
    tiny = hyperparameters(name, "tiny")
    size = PRESETS["tiny"]
    split = scenes.split(2, size)
    task = Task(name, size, steps=tiny["steps"], reports=1, seed=0, metric="mIoU_fg")
    count = parameters(name, tiny)
    for number, (_, returned) in enumerate(draws(name, base(name, "tiny"), DRAWS)):
        config = {**tiny, **returned, "batch_size": 2}
        trial = Training(task, config, number, split, torch.device("cpu"))
        assert all(np.isfinite(value) for value in trial.advance(1).values()), returned
        assert all(torch.isfinite(weight).all() for weight in trial.model.parameters()), returned
        assert parameters(name, config) <= 2 * count, f"{returned} is not tiny"


def parameters(name: str, config: dict[str, Any]) -> int:
    return sum(parameter.numel() for parameter in trainables.build(name, config, PRESETS["tiny"]).parameters())


def test_tiny_has_a_slot_for_every_object(name: str) -> None:
    slots = hyperparameters(name, "tiny").get("num_slots")
    assert slots is None or slots > drawing.MAX_OBJECTS
