"""``--dry-run``: what a study would do and how long it would take, from one measured training step."""

import os
import time

import torch
from rich.console import Console
from rich.table import Table

import trainables
from study.presets import Resolved
from trainables import noise
from trainables.model import SegmentationModel
from trainables.training import autocast

ASHA_SHARE = 0.5
"""Steps that successive halving leaves of all trials at full length: 0.45 to 0.57 in the README's four studies."""


def show(study: Resolved, console: Console) -> None:
    """Print configuration, search space, parameter count and expected time after one training step on random images."""
    proposal = study.proposal(study.data.max_objects)
    hyperparameters = {key: proposal.base[key] for key in proposal.known}
    searched = proposal.searched()
    table = Table(title=f"{study.config.model}, {study.preset} preset, {study.image_size}x{study.image_size}")
    for column in ("hyperparameter", "first trial", "searched"):
        table.add_column(column)
    for key, value in hyperparameters.items():
        table.add_row(key, str(value), "fixed" if key in proposal.fixed else str(searched.get(key, "")))
    console.print(table)

    c = study.config
    model = trainables.build(c.model, hyperparameters, study.image_size)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    batch = hyperparameters["batch_size"]
    # A full batch of the published configuration takes minutes on a CPU: one image, scaled up.
    images = 1 if study.preset == "paper" and not torch.cuda.is_available() else c.micro_batch or batch
    seconds = _seconds_per_step(model, images, study.image_size, c.precision) * batch / images
    at_a_time = c.concurrent or max(1, min(c.trials, int((os.cpu_count() or 1) / c.cpus)))
    share = ASHA_SHARE if c.pruner == "asha" else 1.0
    total = seconds * study.steps * c.trials * share / at_a_time
    device = "GPU" if torch.cuda.is_available() else "CPU core"
    scaled = f", scaled up from {images}" if images != batch else ""
    lines = {
        "parameters": f"{parameters:,}",
        "one step": f"{seconds:.3g} s for a batch of {batch} on one {device}{scaled}",
        "one full trial": f"{study.steps:,} steps, {_duration(seconds * study.steps)} without validation",
        "the study": f"{c.trials} trials, about {_duration(total)} with {at_a_time} at a time, "
        f"if --pruner {c.pruner} leaves {share:.0%} of the steps",
        "folder": str(study.folder.path),
    }
    for name, text in lines.items():
        console.print(f"{name + ':':16}{text}", highlight=False, markup=False, soft_wrap=True)


def _seconds_per_step(model: SegmentationModel, images: int, size: int, precision: str) -> float:
    """Forward, backward and optimiser on random images; the second of two steps counts."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = model.to(device)
    optimizers = model.optimizers()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    seconds = 0.0
    with noise.drawn_from(torch.Generator(device).manual_seed(0)):
        image = noise.uniform((images, 3, size, size), torch.empty((), device=device))  # (B, 3, H, W)
        for _ in range(2):
            started = time.perf_counter()
            with autocast(device, precision):
                loss = model(image, 0).loss
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            float(loss.detach())  # waits for the device
            seconds = time.perf_counter() - started
    torch.set_num_threads(threads)
    return seconds


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:,.1f} h" if seconds > 5400 else f"{seconds / 60:.1f} min"
