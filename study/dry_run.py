"""``--dry-run``: what a study would do and how long it would take, from one measured training step."""

import time

import torch
from rich.console import Console
from rich.table import Table

import trainables
from study.presets import Resolved
from trainables import noise
from trainables.model import SegmentationModel

FULL_TRIALS = {"asha": 0.35, "hyperband": 0.5, "median": 0.6, "none": 1.0}
"""Training that a pruner leaves, as a share of all trials at full length: an estimate, shown as one."""


def show(study: Resolved, max_objects: int, console: Console) -> None:
    """Print configuration, search space, parameter count and expected time after one training step."""
    proposal = study.proposal(max_objects)
    hyperparameters = {key: proposal.base[key] for key in proposal.known}
    searched = proposal.searched()
    table = Table(title=f"{study.config.model}, {study.preset} preset, {study.image_size}x{study.image_size}")
    for column in ("hyperparameter", "first trial", "searched"):
        table.add_column(column)
    for key, value in hyperparameters.items():
        range_ = "fixed" if key in proposal.fixed else str(searched.get(key, ""))
        table.add_row(key, str(value), range_)
    console.print(table)

    model = trainables.build(study.config.model, hyperparameters, study.image_size)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    batch = hyperparameters["batch_size"]
    # A full batch of the published configuration takes minutes on a CPU: one image, scaled up.
    images = 1 if study.preset == "paper" and not torch.cuda.is_available() else batch
    seconds = _seconds_per_step(model, images, study.image_size) * batch / images
    c = study.config
    share = FULL_TRIALS[c.pruner]
    total = seconds * study.steps * c.trials * share / (c.concurrent or 1)
    device = "GPU" if torch.cuda.is_available() else "CPU core"
    console.print(
        f"parameters:     {parameters:,}\n"
        f"one step:       {seconds:.3g} s for a batch of {batch} on one {device}"
        f"{' (scaled up from one image)' if images != batch else ''}\n"
        f"one full trial: {study.steps:,} steps, {_hours(seconds * study.steps)} without validation\n"
        f"the study:      {c.trials} trials, about {_hours(total)} with {c.concurrent or 1} at a time, if {c.pruner} "
        f"leaves about {share:.0%} of the steps\n"
        f"folder:         {study.folder.path}",
        highlight=False,
        soft_wrap=True,
    )


def _seconds_per_step(model: SegmentationModel, images: int, size: int) -> float:
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
            loss = model(image, 0).loss
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            float(loss)  # waits for the device
            seconds = time.perf_counter() - started
    torch.set_num_threads(threads)
    return seconds


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:,.1f} h" if seconds > 5400 else f"{seconds / 60:.1f} min"
