"""Trials of the toy model (``toy_model/toy.py``), and what they must come to, worked out by hand in numpy."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

import search_spaces
import trainables
from data.loader import Shuffle, Split
from tests.trainables import scenes
from trainables.parallel import ALONE, Team
from trainables.training import Task, Training

SIZE = 32
IMAGES = 16
SEED = 5

TASK = Task("toy", SIZE, steps=10, reports=4, seed=SEED, metric="MSE", validation_images=7)


@contextmanager
def findable() -> Iterator[None]:
    """Within this context the toy is one of the models."""
    folder = str(Path(__file__).with_name("toy_model"))
    paths = (trainables.__path__, search_spaces.__path__)
    for path in paths:
        path.append(folder)
    try:
        yield
    finally:
        for path in paths:
            path.remove(folder)


def images() -> Split:
    """The scenes that the trials train on."""
    return scenes.split(IMAGES, SIZE)


def training(task: Task = TASK, number: int = 0, team: Team = ALONE, **hyperparameters: Any) -> Training:
    """A trial; the toy must be findable."""
    return Training(task, hyperparameters, number, images(), torch.device("cpu"), team)


def state(run: Training) -> dict[str, float]:
    """The four numbers of the model, and its buffers."""
    return {name: float(value) for name, value in run.model.state_dict().items()}


def by_hand(start: dict[str, float], steps: int, **config: Any) -> tuple[dict[str, float], dict[str, float]]:
    """The :func:`state` of trial 0 after ``steps`` steps from ``start``, and the means of its loss and residual."""
    config = {"lr": 0.1, "batch_size": 6, "grad_clip": None, **config}
    _, noise_seed, shuffle_seed = np.random.SeedSequence([SEED, 0]).generate_state(3)
    generator = torch.Generator().manual_seed(int(noise_seed))
    shuffle = Shuffle(IMAGES, config["batch_size"], int(shuffle_seed))
    pixels, _ = images().gather(np.arange(IMAGES))  # (n, H, W, 3)
    means = pixels.mean((1, 2, 3)) / 255  # (n,)

    def draw(count: int) -> np.ndarray:
        return torch.rand(count, generator=generator).double().numpy()

    now = dict(start)
    now["initial"] += means.mean() + draw(1)[0]
    losses, residuals = [], []
    momentum = {"c": 0.0, "d": 0.0}
    for step in range(steps):
        rows = shuffle.next()
        x = means[rows] * 2 * (draw(len(rows)) < 0.5)
        r, s = now["a"] * x + now["b"] - 0.5, now["c"] * x - now["d"] - 0.25
        slope = {"a": (2 * r * x).mean(), "b": (2 * r).mean(), "c": (2 * s * x).mean(), "d": (-2 * s).mean()}
        if config["grad_clip"] is not None:
            norm = np.sqrt(sum(value**2 for value in slope.values()))
            slope = {name: value * min(1, config["grad_clip"] / norm) for name, value in slope.items()}
        for name, rate in (("a", config["lr"]), ("b", config["lr"] / 8)):
            now[name] -= rate * 0.5**step * slope[name]
        for name, rate in (("c", config["lr"] * 3), ("d", config["lr"] / 2)):
            momentum[name] = 0.9 * momentum[name] + slope[name]
            now[name] -= rate * (1 + step / 4) * momentum[name]
        losses.append((r**2 + s**2).mean())
        residuals.append(r.mean())
        now["drawn"] += draw(1)[0]
    now["losses"], now["residuals"] = sum(losses), sum(residuals)
    return now, {"loss": float(np.mean(losses)), "residual": float(np.mean(residuals))}
