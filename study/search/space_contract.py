"""What every search space promises about the two presets, as checks that ``clevrtune check`` and the tests run."""

import dataclasses
import importlib
import typing
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
import torch

import trainables
from data import source
from trainables import typed_config
from trainables.contract import CPU, Broken, require, scenes
from trainables.training import Task, Training

DRAWS = 20
SIZES = {"paper": 128, "tiny": 32}
"""Preset -> image size in pixels."""

CONDITIONAL = 2
"""Most hyperparameters that only some trials have."""


@dataclass(frozen=True)
class Space:
    """The search space of a model."""

    name: str

    def hyperparameters(self, preset: str) -> dict[str, Any]:
        """The model's full configuration in a preset."""
        changes = self.module.TINY if preset == "tiny" else {}
        return dataclasses.asdict(typed_config.make(trainables.load(self.name).Config, changes))

    def base(self, preset: str) -> dict[str, Any]:
        """What a study passes to a space."""
        return {**self.hyperparameters(preset), "image_size": SIZES[preset], "max_objects": most_objects()}

    def draws(self, base: dict[str, Any], count: int) -> list[tuple[optuna.Trial, dict[str, Any]]]:
        """Random trials of the space around ``base``, each with what the space returned."""
        study = _quiet_study()
        return [(trial, self.module.space(trial, base)) for trial in (study.ask() for _ in range(count))]

    @property
    def module(self) -> Any:
        """The file in ``search_spaces``."""
        return importlib.import_module(f"search_spaces.{self.name}")


@dataclass(frozen=True)
class Promise:
    """One promise."""

    name: str
    """a word for tests"""
    says: str
    """what is promised, as a person reads it"""
    check: Callable[[Space], None]
    """raises Broken, or what the space raises"""


def most_objects() -> int:
    """Most objects in an embedded scene."""
    drawn = source.load(source.DEFAULT)
    return drawn.max_objects(drawn.variants[0])


def _quiet_study() -> optuna.Study:
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # a line for each new study
    try:
        return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    finally:
        optuna.logging.set_verbosity(verbosity)


def has_tiny_and_space(space: Space) -> None:
    """The module has TINY and space, and TINY fits the model."""
    for needed in ("TINY", "space"):
        require(hasattr(space.module, needed), f"{space.module.__file__} has no {needed}; define it there")
    space.hyperparameters("tiny")


def preset_is_first_trial(space: Space) -> None:
    """Every range holds the preset's own value."""
    for preset, values in _presets(space):
        study = _quiet_study()
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Optuna only warns of a value outside its range
            study.enqueue_trial(values)
            trial = study.ask()
            try:
                returned = space.module.space(trial, values)
            except UserWarning as error:
                raise Broken(
                    f"{preset}: {error}; take ranges of search_spaces.around, which hold the preset"
                ) from error
        require(bool(trial.params), f"{preset}: nothing is searched; suggest a hyperparameter from trial")
        _same(preset, trial.params, values, "has to lie in its range")
        _same(preset, returned, values, "has to come back for the preset's own trial")


def _same(preset: str, found: Mapping[str, Any], wanted: Mapping[str, Any], must: str) -> None:
    for key, value in found.items():
        there = wanted.get(key)
        require(key in wanted and value == there, f"{preset}: {key} is {value!r}, and the preset's {there!r} {must}")


def none_can_be_set(space: Space) -> None:
    """What may be None can be fixed at None by hand."""
    config = trainables.load(space.name).Config
    types = typing.get_type_hints(config)
    for preset, values in _presets(space):
        for key in (key for key, wanted in types.items() if type(None) in typing.get_args(wanted)):
            try:
                for _, returned in space.draws({**values, key: None}, 5):
                    typed_config.make(config, {**space.hyperparameters(preset), **returned, key: None})
            except Exception as error:
                said = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
                raise Broken(
                    f"{preset} with {key} = None raises {said}; search it only where it is a number"
                ) from error


def drawn_is_used(space: Space) -> None:
    """Everything that is suggested is returned, under a name of the Config, and is a value that it takes."""
    config = trainables.load(space.name).Config
    fields = {field.name for field in dataclasses.fields(config)}
    for preset, values in _presets(space):
        for trial, returned in space.draws(values, DRAWS):
            unused = sorted(set(trial.params) - set(returned))
            require(not unused, f"{preset}: {', '.join(unused)} is suggested and not returned; return it")
            unknown = sorted(set(returned) - fields)
            require(not unknown, f"{preset}: {', '.join(unknown)} is no field of Config; add it, or rename it here")
            _same(preset, trial.params, returned, "comes back changed; return what was suggested")
            typed_config.make(config, {**space.hyperparameters(preset), **returned})


def nearly_flat(space: Space) -> None:
    """Nearly all hyperparameters are searched in every trial."""
    for preset, values in _presets(space):
        keys = [set(trial.params) for trial, _ in space.draws(values, 50)]
        some = sorted(keys[0].union(*keys) - keys[0].intersection(*keys))
        few = len(some) <= CONDITIONAL
        require(few, f"{preset}: {', '.join(some)} are searched in some trials only; {CONDITIONAL} such are the most")


def function_of_preset(space: Space) -> None:
    """The same trials ask for the same ranges, and ``base`` stays as it is."""
    for preset, values in _presets(space):
        before = dict(values)
        first, again = ([returned for _, returned in space.draws(values, 5)] for _ in range(2))
        require(first == again, f"{preset}: the same trials got other values; draw nothing but through trial")
        require(values == before, f"{preset}: space changes base; copy it first")


def tiny_draws_train(space: Space) -> None:
    """Random trials of the CPU preset train, stay finite, and have at most twice its parameters."""
    tiny, size = space.hyperparameters("tiny"), SIZES["tiny"]
    split = scenes(2, size)
    task = Task(space.name, size, steps=tiny["steps"], reports=1, seed=0, metric="mIoU_fg")
    count = parameters(space.name, tiny)
    for number, (_, returned) in enumerate(space.draws(space.base("tiny"), DRAWS)):
        config = {**tiny, **returned, "batch_size": 2}
        trial = Training(task, config, number, split, CPU)
        finite = all(np.isfinite(value) for value in trial.advance(1).values())
        finite = finite and all(bool(torch.isfinite(weight).all()) for weight in trial.model.parameters())
        require(finite, f"one step with {returned} is not finite; narrow the ranges")
        more = parameters(space.name, config)
        require(more <= 2 * count, f"{returned} has {more:,} parameters, TINY {count:,}; twice that is the most")


def parameters(name: str, config: dict[str, Any]) -> int:
    """How many parameters the model ``name`` has at the size of the CPU preset."""
    return sum(parameter.numel() for parameter in trainables.build(name, config, SIZES["tiny"]).parameters())


def tiny_has_slots(space: Space) -> None:
    """A slot for every object and one for the background, where the model has ``num_slots``."""
    slots = space.hyperparameters("tiny").get("num_slots")
    enough = slots is None or slots > most_objects()
    require(
        enough, f"TINY has num_slots {slots}; {most_objects()} objects and the background need {most_objects() + 1}"
    )


def _presets(space: Space) -> Iterator[tuple[str, dict[str, Any]]]:
    return ((preset, space.base(preset)) for preset in SIZES)


PROMISES = (
    Promise("module", "a search space with TINY and space(trial, base)", has_tiny_and_space),
    Promise("first", "the preset itself is the first trial", preset_is_first_trial),
    Promise("none", "what may be None can be set to None by hand", none_can_be_set),
    Promise("used", "everything drawn is used and known", drawn_is_used),
    Promise("flat", "the space is nearly flat", nearly_flat),
    Promise("pure", "the space is a function of the preset", function_of_preset),
    Promise("slots", "the tiny preset has a slot for every object", tiny_has_slots),
    Promise("tiny", "tiny draws train and stay tiny", tiny_draws_train),
)
"""What a search space promises, quick and basic things first."""
