"""Search space of SPACE."""

from typing import Any

import optuna

TINY: dict[str, Any] = {}


def space(trial: optuna.Trial, base: dict[str, Any]) -> dict[str, Any]:
    """Sample."""
    return {}
