"""What every search space promises about the two presets; ``clevrtune check`` looks at the same."""

from typing import Any

import optuna
import pytest

import trainables
from study.search.space_contract import PROMISES, SIZES, Promise, Space

PRESETS = SIZES
"""Preset -> image size in pixels."""


def hyperparameters(name: str, preset: str) -> dict[str, Any]:
    """The model's full configuration in a preset."""
    return Space(name).hyperparameters(preset)


def draws(name: str, base: dict[str, Any], count: int) -> list[tuple[optuna.Trial, dict[str, Any]]]:
    """Random trials of the space around ``base``, each with what the space returned."""
    return Space(name).draws(base, count)


@pytest.mark.parametrize("name", trainables.names())
@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.name)
def test_a_search_space_keeps_its_promises(name: str, promise: Promise) -> None:
    promise.check(Space(name))
