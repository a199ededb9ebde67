"""The distributions of every search space, in the order in which it suggests them, as ``distributions.txt`` has them.

A changed range shows there as a changed line. Optuna does not continue a stored study whose categorical choices
changed, their order included, and a seeded sampler draws in the order of the suggestions. After an intended change, or
to record a new model: ``python -m tests.search_spaces.test_distributions``.
"""

import itertools
from pathlib import Path
from typing import Any

import optuna
import pytest

import trainables
from tests.search_spaces.test_spaces import PRESETS, draws, hyperparameters

RECORD = Path(__file__).with_name("distributions.txt")
DRAWS = 200
MAX_OBJECTS = {"paper": 10, "tiny": 5}
RECORDED = RECORD.read_text().splitlines()


def distributions(name: str, preset: str) -> list[str]:
    """One line per hyperparameter that the space suggests in any of ``DRAWS`` random trials."""
    base = {**hyperparameters(name, preset), "image_size": PRESETS[preset], "max_objects": MAX_OBJECTS[preset]}
    seen: dict[str, list[optuna.distributions.BaseDistribution]] = {}
    for trial, _ in draws(name, base, DRAWS):
        for key, distribution in trial.distributions.items():
            seen.setdefault(key, []).append(distribution)
    lines = []
    for key, found in seen.items():
        assert all(distribution == found[0] for distribution in found), f"{key} has more than one distribution"
        sometimes = " in some trials" if len(found) < DRAWS else ""
        lines.append(f"{name} {preset} {key}: {described(found[0])}{sometimes}")
    return lines


def described(distribution: Any) -> str:
    if isinstance(distribution, optuna.distributions.CategoricalDistribution):
        return f"one of {', '.join(map(repr, distribution.choices))}"
    kind = "integer" if isinstance(distribution, optuna.distributions.IntDistribution) else "float"
    assert distribution.step == (1 if kind == "integer" else None)
    scale = ", logarithmic" if distribution.log else ""
    # 12 digits: powers differ in the last digit between C libraries
    return f"{kind} {distribution.low:.12g} to {distribution.high:.12g}{scale}"


@pytest.mark.parametrize(("name", "preset"), sorted({tuple(line.split()[:2]) for line in RECORDED}))
def test_the_distributions_are_the_recorded_ones(name: str, preset: str) -> None:
    assert distributions(name, preset) == [line for line in RECORDED if line.startswith(f"{name} {preset} ")]


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    cases = itertools.product(trainables.names(), PRESETS)
    RECORD.write_text("".join(f"{line}\n" for case in cases for line in distributions(*case)))
