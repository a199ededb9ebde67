"""The training loop and the validation that all ten models share; no Ray here.

Axes: B batch, K slots, C channels, H W pixels.
"""

import dataclasses
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

import trainables
from data.loader import Shuffle, Split, as_tensors, image_tensor, sequential
from trainables import checkpoint, metrics, noise, pictures
from trainables.model import SegmentationModel
from trainables.output import SegmentationOutput
from trainables.parallel import ALONE, Replica, Team

CHECK_EVERY = 20
"""Training steps between two looks at the loss; each look waits for the device."""

INITIAL_IMAGES = 256
"""Training images that ``Model.initialise`` sees."""

PANEL_IMAGES = 4
"""Images in a trial's picture."""


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
    """objective, a key of ``metrics.OBJECTIVES``"""
    precision: str = "fp32"
    """fp32 or bf16 (autocast)"""
    micro_batch: int | None = None
    """images per forward pass; None: the full batch"""
    validation_images: int = 1000
    """images of the validation split used per report, at most"""


class Diverged(Exception):
    """The numbers of a trial went bad; the message is the reason that the study records."""


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The autocast context of ``precision`` ('fp32' or 'bf16')."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def images_per_pass(image_size: int) -> int:
    """How many images to evaluate at a time, 8 at 128x128.

    IODINE and EfficientMORL keep the graph of a decoding even here, some 300 MB per image at 128x128 with 11 slots.
    """
    return int(np.clip(2**17 // image_size**2, 1, 128))


def evaluate(
    model: SegmentationModel, split: Split, rows: np.ndarray, *, step: int, precision: str = "fp32"
) -> dict[str, np.ndarray]:
    """Scores of the images ``rows`` (n,) of ``split``: metric name -> (n,) float64, ``loss`` included.

    The noise comes from a generator of its own with a fixed seed: the same model gets the same scores again, and the
    random stream of training stays where it was. ``loss`` is known per pass only and repeated for its images.
    """
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(0)
    parts: list[dict[str, np.ndarray]] = []
    was_training = model.training
    model.eval()
    with torch.no_grad(), noise.drawn_from(generator):
        for chosen in sequential(len(rows), images_per_pass(model.image_size)):
            image, labels = as_tensors(*split.gather(rows[chosen]), device)  # (B, 3, H, W), (B, H, W)
            with autocast(device, precision):
                output = model(image, step)
            scores = metrics.score(output.masks.float(), labels, output.reconstruction.float(), image)
            parts.append({**scores, "loss": np.full(len(chosen), float(output.loss))})
    model.train(was_training)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def panel(model: SegmentationModel, split: Split, *, step: int, precision: str = "fp32") -> np.ndarray:
    """Input | reconstruction | true segments | predicted segments of a few images of ``split``, uint8 (H', W', 3)."""
    device = next(model.parameters()).device
    images, labels = as_tensors(*split.gather(np.arange(min(PANEL_IMAGES, len(split)))), device)
    was_training = model.training
    model.eval()
    with torch.no_grad(), noise.drawn_from(torch.Generator(device).manual_seed(0)), autocast(device, precision):
        output = model(images, step)
    model.train(was_training)
    output.check(images)
    return pictures.panel(
        images,
        output.reconstruction.float(),
        labels,
        output.masks.argmax(1)[:, 0],  # (B, H, W)
        boxes=output.boxes,
        presence=output.presence,
    )


def restore_model(state: Mapping[str, Any], device: torch.device | str = "cpu") -> SegmentationModel:
    """The model of a checkpoint ``state``, with its weights, in evaluation mode."""
    model = trainables.build(state["model"], state["hyperparameters"], state["image_size"]).to(device)
    model.load_state_dict(state["weights"])
    return model.eval()


class Training:
    """One trial: a model, its optimisers and its place in the data, advanced slice by slice.

    Where a trial has several processes each has one, ``team`` tells them apart, and all call the same methods at the
    same time. Raises ValueError for a batch that leaves one of them without an image.
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
        self._replica: Replica | None = None

    def advance(self, steps: int) -> dict[str, float]:
        """Train ``steps`` steps; the means of the loss and its terms over them. Raises Diverged."""
        if self.step == 0:
            rows = np.linspace(0, len(self.train) - 1, min(INITIAL_IMAGES, len(self.train))).astype(np.int64)
            with noise.drawn_from(self.noise), torch.no_grad():
                self.model.initialise(self._images(rows))
        if self._replica is None:
            self._replica = Replica(self.model, self.team)
        self.model.train()
        sums: dict[str, Tensor] = {}
        for done in range(1, steps + 1):
            output = self._train_step(self.shuffle.next(), self._replica)
            for name, value in {"loss": output.loss, **output.terms}.items():
                value = torch.as_tensor(value).detach().float()
                sums[name] = sums[name] + value if name in sums else value
            if done % CHECK_EVERY == 0 or done == steps:
                loss = float(output.loss)
                if not np.isfinite(loss):
                    raise Diverged(f"training loss is {loss}")
        return {name: float(value) / steps for name, value in sums.items()}

    def _train_step(self, rows: np.ndarray, replica: Replica) -> SegmentationOutput:
        """One optimiser step on the images ``rows`` (B,); loss and terms come back as means over the batch."""
        scales = self.model.lr_scale(self.step)
        for i, (optimizer, peaks) in enumerate(zip(self.optimizers, self._peak_lr, strict=True)):
            optimizer.zero_grad(set_to_none=True)
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * scales[i if len(scales) > 1 else 0]
        sums: dict[str, Tensor] = {}
        before = self.noise.get_state()
        parts = self.team.parts(len(rows), self.task.micro_batch)
        for part in parts:
            self.noise.set_state(before)  # every part takes its rows of the same numbers
            images = self._images(rows[part.start : part.stop])
            share = len(part) / len(rows)
            with nullcontext() if part is parts[-1] else replica.on_its_own():
                with autocast(self.device, self.task.precision), noise.drawn_from(self.noise, part, len(rows)):
                    output = replica(images, self.step)
                replica.backward(output.loss * share)
            for name, value in {"loss": output.loss, **output.terms}.items():
                value = torch.as_tensor(value).detach().float() * share
                sums[name] = sums[name] + value if name in sums else value
        sums = self.team.total(sums, self.device)
        limit = self.model.clip_norm()
        if limit is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit)
        for optimizer in self.optimizers:
            optimizer.step()
        output.loss, output.terms = sums.pop("loss"), sums
        with torch.no_grad(), noise.drawn_from(self.noise):
            self.model.after_step(self.step, output)
        self.step += 1
        return output

    def validate(self, split: Split) -> dict[str, float]:
        """Mean scores on at most ``task.validation_images`` images, evenly spread over ``split``. Raises Diverged."""
        rows = np.linspace(0, len(split) - 1, min(self.task.validation_images, len(split))).astype(np.int64)

        def score() -> dict[str, float]:
            scores = evaluate(self.model, split, rows, step=self.step, precision=self.task.precision)
            return metrics.summarise(scores)

        means = self.team.from_first(score)
        if not np.isfinite(means[self.task.metric]):
            raise Diverged(f"validation {self.task.metric} is {means[self.task.metric]}")
        self.model.on_validation(means)
        return means

    def report(self, validation: Split) -> dict[str, Any]:
        """Train up to the next of ``task.reports`` evenly spaced reports, validate, and say how it went.

        Keys: ``report`` (1-based), ``step``, ``objective``, ``done``, ``lr``, ``train/*``, ``val/*``, ``time/*`` in
        seconds, and on a GPU ``memory/gpu_gib``, the most that tensors took at a time. A trial that was killed after
        its last step only validates again. Raises Diverged.
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
            "lr": self.optimizers[0].param_groups[0]["lr"],
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

        Raises ValueError if it belongs to another model, image size or hyperparameters. The random numbers of a GPU
        cannot be continued on a CPU, nor the other way round: there the trial goes on with fresh ones.
        """
        checkpoint.check_model(state, self.task.model, self.task.image_size)
        mine = dataclasses.asdict(self.model.config)
        changed = [key for key, value in mine.items() if state["hyperparameters"].get(key) != value]
        if changed:
            raise ValueError(f"the checkpoint has other hyperparameters ({', '.join(changed)}) than this trial")
        self.model.load_state_dict(state["weights"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        if state["device"] == self.device.type:
            self.noise.set_state(state["noise"].cpu())
        else:
            seed = np.random.SeedSequence([self.task.seed, self.number, state["step"]]).generate_state(1)[0]
            self.noise.manual_seed(int(seed))
        self.shuffle.load_state_dict(state["shuffle"])
        self.step = state["step"]

    def _images(self, rows: np.ndarray) -> Tensor:
        return image_tensor(self.train.gather(rows)[0], self.device)
