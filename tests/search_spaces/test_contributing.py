"""The example of a new model in CONTRIBUTING.md works as it stands there."""

import dataclasses
import re
from pathlib import Path
from types import ModuleType

import optuna
import torch

CONTRIBUTING = Path(__file__).parents[2] / "CONTRIBUTING.md"


def example(path: str) -> ModuleType:
    """The Python code that CONTRIBUTING.md shows for the file ``path``, run as a module."""
    code = re.search(rf"^`{path}`.*?```python\n(.*?)^```", CONTRIBUTING.read_text(), re.DOTALL | re.MULTILINE)
    assert code, f"CONTRIBUTING.md shows no {path}"
    module = ModuleType("example")
    exec(code[1], vars(module))
    return module


def test_the_example_model_trains_and_its_presets_lie_inside_its_space() -> None:
    model_file, space_file = example("trainables/colour_field.py"), example("search_spaces/colour_field.py")
    for changes in ({}, space_file.TINY):
        config = model_file.Config(**changes)
        output = model_file.Model(config, 32)(torch.rand(2, 3, 32, 32), step=0)
        assert torch.isfinite(output.loss)
        assert output.masks.shape == (2, config.num_slots, 1, 32, 32)
        base = {**dataclasses.asdict(config), "image_size": 32, "max_objects": 5}
        trial = optuna.trial.FixedTrial(base)
        assert space_file.space(trial, base) == {key: base[key] for key in trial.distributions} != {}
