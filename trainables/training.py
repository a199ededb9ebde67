"""The training loop that all ten models share; no Ray here.

A trial is a :class:`Training`. ``report`` trains up to the next validation; ``advance`` is the loop itself.
Axes: B batch, C channels, H W pixels.
"""

import dataclasses
import math
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import trainables
from data.loader import Shuffle, Split, image_tensor
from trainables import checkpoint, metrics, noise, optim, parallel
from trainables.compiled import CompiledForward
from trainables.model import SegmentationModel
from trainables.output import SegmentationOutput
from trainables.parallel import ALONE, Team
from trainables.precision import autocast
from trainables.profiling import StepProfile
from trainables.scoring import evaluate

CHECK_EVERY = 20
"""Training steps between two checks of loss and gradient norms; each check waits for the device."""

INITIAL_IMAGES = 256
"""Training images that ``Model.initialise`` sees."""


@dataclass(frozen=True)
class Task:
    """What all trials of a study have in common."""

    model: str
    """name of the model"""
    image_size: int
    """height and width in pixels"""
    steps: int
    """training steps of a full trial"""
    reports: int
    """validations per full trial"""
    seed: int
    """seed of the study; each trial derives its own from it and its number"""
    metric: str
    """objective, a key of ``objectives.OBJECTIVES``"""
    precision: str = "fp32"
    """fp32 or bf16 (autocast)"""
    micro_batch: int | None = None
    """images per forward pass; None: the full batch"""
    compile: bool = False
    """whether the training forward runs under torch.compile"""
    validation_images: int = 1000
    """images of the validation split used per report, at most"""
    profile: bool = False
    """whether a few steps of trial 0 are profiled"""


class Diverged(Exception):
    """A trial's loss, gradient or objective is not finite; the message is the reason that the study records."""


class Training:
    """One trial: a model, its optimisers, its random numbers and its position in the data.

    In a trial of several processes each has a Training of its own. ``team`` tells them apart, and all call the same
    methods at the same time. Raises ValueError for a batch that leaves one of them without an image.
    """

    def __init__(
        self,
        task: Task,
        hyperparameters: Mapping[str, Any],
        number: int,
        train: Split,
        device: torch.device,
        team: Team = ALONE,
    ):
        self.task = task
        self.device = device
        self.number = number
        self.team = team
        self.step = 0
        """Training steps done."""
        seeds = np.random.SeedSequence([task.seed, number]).generate_state(3)
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(int(seeds[0]))
            self.model = trainables.build(task.model, hyperparameters, task.image_size).to(device)
        batch_size = self.model.config.batch_size
        if batch_size < team.size:
            raise ValueError(
                f"batch_size is {batch_size}, less than an image for each of {team.size} workers; "
                "use fewer --workers-per-trial, or fix a larger one with --set batch_size=..."
            )
        self.noise = torch.Generator(device).manual_seed(int(seeds[1]))
        self.train = train
        self.shuffle = Shuffle(len(train), batch_size, int(seeds[2]))
        self.optimizers = self.model.optimizers()
        self._peak_lr = [[group["lr"] for group in optimizer.param_groups] for optimizer in self.optimizers]
        self._compiled = CompiledForward(self.model, self.noise) if task.compile else None
        self._said = False
        self._forward: nn.Module | None = None
        self._profile: StepProfile | None = None

    def profile(self, folder: Path) -> None:
        """Leave a profile of some of the first steps in ``folder``; call it before the first."""
        self._profile = StepProfile(folder, self.task.steps, self.device)

    def close(self) -> None:
        """Leave nothing running in this process when the trial is over, however it ended."""
        if self._profile is not None:
            self._profile.close()

    def advance(self, steps: int) -> dict[str, float]:
        """Train ``steps`` steps; the means of the loss and its terms over them. Raises Diverged."""
        if self.step == 0:
            self._initialise()
        if self._forward is None:
            self._forward = parallel.connected(self._compiled or self.model, self.team)
        self.model.train()
        limit = self.model.clip_norm() or math.inf
        sums: dict[str, Tensor] = {}
        norms: list[Tensor] = []
        for done in range(1, steps + 1):
            self._set_learning_rates()
            output = self._backward(self._forward, self.shuffle.next())
            norms.append(nn.utils.clip_grad_norm_(self.model.parameters(), limit))
            self._drop_gradient(~norms[-1].isfinite())
            for optimizer in self.optimizers:
                optimizer.step()
            with torch.no_grad(), noise.drawn_from(self.noise):
                self.model.after_step(self.step, output)
            self.step += 1
            _add(sums, output)
            if self._profile is not None and not self._profile.step():
                self._profile = None
            if done % CHECK_EVERY == 0 or done == steps:
                _check_finite("training loss", float(output.loss))
                _check_finite("gradient norm", *torch.stack(norms).tolist())
                norms.clear()
        return {name: float(value) / steps for name, value in sums.items()}

    def _initialise(self) -> None:
        """Show training images to a model that wants some before its first step."""
        if type(self.model).initialise is not SegmentationModel.initialise:
            images = self._images(_spread(len(self.train), INITIAL_IMAGES))
            with torch.no_grad(), noise.drawn_from(self.noise):
                self.model.initialise(images)

    def _set_learning_rates(self) -> None:
        """Scale the peak rate of every group by its optimiser's schedule."""
        scales = self.model.lr_scale(self.step)
        for i, (optimizer, peaks) in enumerate(zip(self.optimizers, self._peak_lr, strict=True)):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * scales[i if len(scales) > 1 else 0]

    def _backward(self, forward: nn.Module, rows: np.ndarray) -> SegmentationOutput:
        """As :meth:`_gradient`, which is tried again without torch.compile where its backward pass cannot be compiled.

        That is found out late, when the first one runs; with several processes, when others already wait.
        """
        if self._compiled is None or self._compiled.failure is not None or self.team.size > 1:
            return self._gradient(forward, rows)
        before = self.noise.get_state()
        try:
            return self._gradient(forward, rows)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            if self._compiled.failure is not None:  # it goes on without already: this is an error of the model's own
                raise
            self._compiled.fail(error)
        self.noise.set_state(before)
        return self._gradient(forward, rows)

    def remarks(self) -> list[str]:
        """Lines for people about what has happened since the last call."""
        said = self._compiled and self._compiled.failure
        if not said or self._said:
            return []
        self._said = True
        return [said]

    def _gradient(self, forward: nn.Module, rows: np.ndarray) -> SegmentationOutput:
        """The gradient of the mean loss over the images ``rows`` (B,), in parts of at most ``task.micro_batch``.

        The output is of the last part, but its loss and terms are means over the batch, on all processes.
        """
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        sums: dict[str, Tensor] = {}
        before = self.noise.get_state()
        parts = self.team.parts(len(rows), self.task.micro_batch)
        for part in parts:
            self.noise.set_state(before)  # every part takes its rows of the same numbers
            images = self._images(rows[part.start : part.stop])
            share = len(part) / len(rows)
            with nullcontext() if part is parts[-1] else parallel.gradients_kept(forward):
                with autocast(self.device, self.task.precision), noise.drawn_from(self.noise, part, len(rows)):
                    output: SegmentationOutput = forward(images, self.step)
                (output.loss * share * self.team.size).backward()  # processes exchange the mean of their gradients
            _add(sums, output, share)
        sums = self.team.total(sums, self.device)
        output.loss, output.terms = sums.pop("loss"), sums
        return output

    def _drop_gradient(self, bad: Tensor) -> None:
        """Set the gradient to zero if ``bad``, a boolean scalar on the device, without waiting for its value.

        The weights stay finite in the steps up to the next check, which ends the trial: with NaN in them a model could
        fail in many ways, and on one worker only.
        """
        for parameter in self.model.parameters():
            if parameter.grad is not None:
                parameter.grad.masked_fill_(bad, 0.0)

    def validate(self, split: Split) -> dict[str, float]:
        """Mean scores on at most ``task.validation_images`` images, evenly spread over ``split``. Raises Diverged."""
        rows = _spread(len(split), self.task.validation_images)

        def score() -> dict[str, float]:
            try:
                scores = evaluate(self.model, split, rows, step=self.step, precision=self.task.precision)
            except metrics.NotFinite:
                return {self.task.metric: math.nan}
            return metrics.summarise(scores)

        means = self.team.from_first(score)
        _check_finite(f"validation {self.task.metric}", means[self.task.metric])
        self.model.on_validation(means)
        return means

    def report(self, validation: Split) -> dict[str, Any]:
        """Train up to the next of ``task.reports`` evenly spaced reports, validate, and return the numbers of both.

        Keys: ``report`` (1-based), ``step``, ``objective``, ``done``, ``lr``, ``parameters`` (how many are trained),
        ``train/*``, ``val/*``, ``time/*`` in seconds, and on a GPU ``memory/gpu_gib``, the most that tensors took at a
        time. A trial that was killed after its last step only validates again. Raises Diverged.
        """
        started = time.perf_counter()
        on_gpu = self.device.type == "cuda"
        if on_gpu:
            torch.cuda.reset_peak_memory_stats(self.device)
        ends = [round(i * self.task.steps / self.task.reports) for i in range(1, self.task.reports + 1)]
        number = next((i for i, end in enumerate(ends, 1) if end > self.step), len(ends))
        terms = self.advance(ends[number - 1] - self.step)
        trained = time.perf_counter()
        scores = self.validate(validation)
        return {
            "report": number,
            "step": self.step,
            "objective": scores[self.task.metric],
            "done": self.step >= self.task.steps,
            **{f"lr/{i}" if i > 1 else "lr": one.param_groups[0]["lr"] for i, one in enumerate(self.optimizers, 1)},
            "parameters": sum(p.numel() for p in self.model.parameters() if p.requires_grad),
            **{f"train/{name}": value for name, value in terms.items()},
            **{f"val/{name}": value for name, value in scores.items()},
            "time/train_s": trained - started,
            "time/validation_s": time.perf_counter() - trained,
            **({"memory/gpu_gib": torch.cuda.max_memory_allocated(self.device) / 2**30} if on_gpu else {}),
        }

    def state(self) -> dict[str, Any]:
        """Everything that the rest of the trial depends on; :meth:`load_state` continues bit for bit from it."""
        return {
            "model": self.task.model,
            "image_size": self.task.image_size,
            "step": self.step,
            "hyperparameters": dataclasses.asdict(self.model.config),
            "weights": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "noise": self.noise.get_state(),
            "device": self.device.type,
            "shuffle": self.shuffle.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from ``state``.

        The random numbers of a GPU cannot be continued on a CPU, nor the other way round: there the trial goes on with
        fresh ones. Raises ValueError if ``state`` belongs to another model, image size or hyperparameters.
        """
        checkpoint.check_model(state, self.task.model, self.task.image_size)
        mine = dataclasses.asdict(self.model.config)
        changed = [key for key, value in mine.items() if state["hyperparameters"].get(key) != value]
        if changed:
            raise ValueError(f"the checkpoint has other hyperparameters ({', '.join(changed)}) than this trial")
        self.model.load_state_dict(state["weights"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optim.load_state(optimizer, saved)
        if state["device"] == self.device.type:
            self.noise.set_state(state["noise"].cpu())
        else:
            seed = np.random.SeedSequence([self.task.seed, self.number, state["step"]]).generate_state(1)[0]
            self.noise.manual_seed(int(seed))
        self.shuffle.load_state_dict(state["shuffle"])
        self.step = state["step"]

    def _images(self, rows: np.ndarray) -> Tensor:
        return image_tensor(self.train.images(rows), self.device)


def _spread(length: int, most: int) -> np.ndarray:
    """At most ``most`` of 0..``length`` - 1, evenly spread, (n,)."""
    return np.linspace(0, length - 1, min(most, length)).astype(np.int64)


def _add(sums: dict[str, Tensor], output: SegmentationOutput, weight: float = 1.0) -> None:
    """Add the loss of ``output`` and its terms to ``sums``, times ``weight``."""
    for name, value in {"loss": output.loss, **output.terms}.items():
        sums[name] = sums.get(name, 0.0) + torch.as_tensor(value).detach().float() * weight


def _check_finite(name: str, *values: float) -> None:
    """Raise Diverged with the first of ``values`` that is not finite."""
    for value in values:
        if not math.isfinite(value):
            raise Diverged(f"{name} is {value}")
