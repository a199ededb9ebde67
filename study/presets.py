"""What a study's configuration comes to: preset, image size, steps, and the hyperparameters it starts from."""

import dataclasses
import importlib
from dataclasses import dataclass
from typing import Any

import torch

import trainables
from data import spec
from data.spec import DataSpec
from study.config import StudyConfig
from study.results_folder import StudyFolder
from study.search import ranges
from study.search.proposal import Proposal
from trainables import typed_config
from trainables.model import SegmentationModel
from trainables.training import Task

IMAGE_SIZE = {"paper": 128, "tiny": 32}
"""Pixels of a side where the data specification names no size."""

REPORTS = {"paper": 27, "tiny": 6}
"""Validations of a full trial where the study names no number, at most one per step. With six, trials are compared
once, after a third: before that, the curves of short trials do not tell the best from the good (docs/search.md)."""

FINALISTS = {"paper": 3, "tiny": 2}
"""Finalists where ``--finalists`` is not given."""

SEEDS = {"paper": 3, "tiny": 2}
"""Seeds of each finalist where ``--seeds`` is not given."""


@dataclass(frozen=True)
class Resolved:
    """A StudyConfig after ``auto`` and the defaults are settled, before any data is read."""

    config: StudyConfig
    """with its number of reports"""
    preset: str
    """paper or tiny"""
    data: DataSpec
    """with its size"""
    steps: int
    """training steps of a full trial"""
    gpus: float
    """GPUs per worker of a trial"""
    folder: StudyFolder

    @property
    def image_size(self) -> int:
        """Height and width in pixels."""
        assert self.data.size is not None
        return self.data.size[0]

    @property
    def reports(self) -> int:
        """Validations of a full trial."""
        assert self.config.reports is not None
        return self.config.reports

    @property
    def finalists(self) -> int:
        """Best trials that the final stage compares with the base configuration."""
        return self.config.finalists or FINALISTS[self.preset]

    @property
    def seeds(self) -> int:
        """Fresh seeds for each finalist and the base; 1: nothing is retrained."""
        return self.config.seeds or SEEDS[self.preset]

    @property
    def reruns(self) -> int:
        """Full trials of the final stage, at most; fewer where the base is among the best trials."""
        return 0 if self.seeds == 1 else (self.finalists + 1) * self.seeds

    @property
    def identity(self) -> dict[str, Any]:
        """What makes this study what it is, as stored in study.json."""
        return self.config.identity(self.preset, self.steps, self.image_size)

    @property
    def task(self) -> Task:
        """What all trials have in common."""
        c = self.config
        return Task(
            model=c.model,
            image_size=self.image_size,
            steps=self.steps,
            reports=self.reports,
            seed=c.seed,
            metric=c.goals[0],
            precision=c.precision,
            micro_batch=c.micro_batch,
            compile=c.compile,
            validation_images=c.validation_images,
            profile=c.profile,
        )

    def proposal(self, max_objects: int) -> Proposal:
        """The search around this preset for scenes of at most ``max_objects`` objects. Raises ValueError."""
        module = trainables.load(self.config.model)
        values = preset_values(self.config.model, self.preset) | self.config.set | {"steps": self.steps}
        complete = dataclasses.asdict(typed_config.make(module.Config, values))
        if "num_slots" in complete and "num_slots" not in self.config.set:
            # Objects and background need a slot each; the preset may be made for scenes with fewer objects.
            complete["num_slots"] = max(complete["num_slots"], max_objects + 1)
        self._build(complete)  # only checks that the model takes these values
        proposal = Proposal(
            space=importlib.import_module(f"search_spaces.{self.config.model}").space,
            base={**complete, "image_size": self.image_size, "max_objects": max_objects},
            fixed=dict(self.config.set),
            known=tuple(complete),
        )
        if entries := self.config.space:
            proposal = ranges.applied(proposal, entries, module.Config)
            ranges.refuse_bad_ends(proposal, entries, self._build)
        return proposal

    def _build(self, hyperparameters: dict[str, Any]) -> SegmentationModel:
        if hyperparameters.get("num_slots") == 1:
            raise ValueError("background and objects need a slot each")
        with torch.random.fork_rng(devices=[]):  # not on the meta device, which imports sympy: that takes seconds
            return trainables.build(self.config.model, hyperparameters, self.image_size)

    def expected_proposal(self) -> Proposal:
        """The proposal before data is read: with the most objects that the study began with, else that the data can
        have. Scenes at hand may have fewer. Raises ValueError.
        """
        stored = None if self.config.fresh else self.folder.read()
        return self.proposal((stored or {}).get("base", {}).get("max_objects", self.data.max_objects))


def preset_values(model: str, preset: str) -> dict[str, Any]:
    """The keys in which ``preset`` differs from the model's published configuration."""
    return dict(importlib.import_module(f"search_spaces.{model}").TINY) if preset == "tiny" else {}


def resolve(config: StudyConfig, *, has_gpu: bool) -> Resolved:
    """Settle preset, size, steps, GPUs and folder. Raises ValueError for a damaged study.json.

    A study that exists keeps its preset under ``auto``, so that it can be continued on a machine with other devices.
    """
    preset = config.preset
    if preset == "auto":
        found = [] if config.fresh else [StudyFolder(config.folder(name)).read() for name in IMAGE_SIZE]
        there = [stored["config"].get("preset") for stored in found if stored is not None]
        preset = there[0] if len(there) == 1 or (config.name and there) else "paper" if has_gpu else "tiny"
        if preset not in IMAGE_SIZE:
            raise ValueError(f"the study's study.json is damaged (its preset is {preset}); restore it from a copy")
    data = spec.parse(config.data)
    data = data.sized(data.size or (IMAGE_SIZE[preset], IMAGE_SIZE[preset]))
    values = typed_config.make(trainables.load(config.model).Config, preset_values(config.model, preset))
    steps = config.steps or values.steps
    if config.reports is not None and config.reports > steps:
        raise ValueError(f"--reports {config.reports} is above the {steps} steps of a trial; a report needs a step")
    gpus = config.gpus if config.gpus is not None else float(has_gpu and preset == "paper")
    config = dataclasses.replace(config, reports=config.reports or min(REPORTS[preset], steps))
    return Resolved(config, preset, data, steps, gpus, StudyFolder(config.folder(preset)))
