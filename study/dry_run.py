"""``--dry-run``: what a study would do and how long it would take, from one measured training step."""

import os
import time

import torch
from rich.console import Console
from rich.table import Table

import trainables
from study.cluster import places
from study.display.durations import duration
from study.presets import Resolved
from study.search import forecast
from trainables import noise
from trainables.model import SegmentationModel
from trainables.precision import autocast


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
    on_gpu = torch.cuda.is_available() and (study.preset == "paper" if c.gpus is None else c.gpus > 0)
    seconds, images = seconds_per_step(study, model, torch.device("cuda" if on_gpu else "cpu"))
    workers = c.workers_per_trial
    gpus = float(on_gpu) if c.gpus is None else c.gpus
    try:
        room = places.fitting(c, gpus, [{"CPU": os.cpu_count() or 1, "GPU": torch.cuda.device_count()}])
    except ValueError:
        room = 1  # it is meant for a larger machine than this one
    at_a_time = min(c.trials, c.concurrent or room, room)
    share, length = forecast.stopping(c.trials, at_a_time, c.reports, c.pruner)
    trial = seconds * study.steps / workers
    device = "GPU" if on_gpu else "CPU core"
    scaled = f", scaled up from {images}" if images != batch else ""
    lines = {
        "parameters": f"{parameters:,}",
        "one step": f"{seconds:.3g} s for a batch of {batch} on one {device}{scaled}",
        "one full trial": f"{study.steps:,} steps, {duration(trial)} without validation"
        + (f", if {workers} workers are {workers} times as fast" if workers > 1 else ""),
        "the study": f"{c.trials} trials, about {duration(trial * length)} with {at_a_time} at a time, "
        f"if --pruner {c.pruner} leaves {share:.0%} of the steps",
        "folder": str(study.folder.path),
    }
    for name, text in lines.items():
        console.print(f"{name + ':':16}{text}", highlight=False, markup=False, soft_wrap=True)


def seconds_per_step(study: Resolved, model: SegmentationModel, device: torch.device) -> tuple[float, int]:
    """Seconds of a training step on one batch, and the images that were timed and scaled up to it.

    Forward, backward and optimiser on random images in the middle of a trial, since some models begin with more work
    than they go on with; the second of two steps counts.
    """
    batch, size, precision = model.config.batch_size, study.image_size, study.config.precision
    # A full batch of the published configuration takes minutes on a CPU: one image, scaled up.
    one = study.preset == "paper" and device.type == "cpu"
    images = 1 if one else min(batch, study.config.micro_batch or batch)
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
                loss = model(image, model.config.steps // 2).loss
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            float(loss.detach())  # waits for the device
            seconds = time.perf_counter() - started
    torch.set_num_threads(threads)
    return seconds * batch / images, images
