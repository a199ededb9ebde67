"""``--dry-run``: what a study would do and how long it would take, from one measured training step."""

import io
import shutil

import torch
from rich.console import Console
from rich.table import Table

import trainables
from data import machine, subset
from study.cluster import places
from study.cluster.planning import time_step
from study.display.durations import duration
from study.display.plain_lines import say
from study.display.values import brief, range_text
from study.presets import Resolved
from study.search import distributions, forecast, known
from trainables.model import SegmentationModel


def show(study: Resolved, console: Console) -> None:
    """Print configuration, search space, parameter count and expected time after one training step on random images."""
    proposal = study.expected_proposal()
    hyperparameters = proposal.first_hyperparameters()
    found = {key: one for key, one in proposal.searched().items() if key not in proposal.fixed}
    table = Table(title=f"{study.config.model}, {study.preset} preset, {study.image_size}x{study.image_size}")
    for column in ("hyperparameter", "first trial", "searched"):
        table.add_column(column)
    for key in dict.fromkeys([*found, *proposal.fixed, *hyperparameters]):
        if key in hyperparameters:
            asked = (
                range_text(distributions.recorded(found[key])) if key in found else "fixed" * (key in proposal.fixed)
            )
            table.add_row(key, brief(hyperparameters[key]), asked)
    console.print(table)
    for note in proposal.notes:
        say(console, f"note: {note}")
    for source in known.read(study.config.from_, study.config.model, study.folder, fresh=study.config.fresh):
        say(console, f"from {source.path}: the best of {len(source.trials)} complete trials come first")

    c = study.config
    model = trainables.build(c.model, hyperparameters, study.image_size)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    batch = hyperparameters["batch_size"]
    on_gpu = torch.cuda.is_available() and (study.preset == "paper" if c.gpus is None else c.gpus > 0)
    timed = time_step(study, model, torch.device("cuda" if on_gpu else "cpu"), watched=True)
    workers = c.workers_per_trial
    gpus = float(on_gpu) if c.gpus is None else c.gpus
    try:
        room = places.fitting(c, gpus, [{"CPU": machine.usable_cores(), "GPU": torch.cuda.device_count()}])
    except ValueError:
        room = 1  # the study is meant for a larger machine
    at_a_time = min(c.trials, c.concurrent or room, room)
    share, length = forecast.pruning(c.trials, at_a_time, study.reports, c.pruner)
    trial = timed.seconds * study.steps / workers
    device = "GPU" if on_gpu else "CPU core"
    lines = {
        "images": subset.said(study.data.source.counts(study.data.variant), c.data_fraction),
        "parameters": f"{parameters:,}",
        "one step": f"{timed.seconds:.3g} s for a batch of {batch} on one {device}{timed.remarks(batch)}",
        "one full trial": f"{study.steps:,} steps, {duration(trial)} without validation"
        + (f", if {workers} workers are {workers} times as fast" if workers > 1 else ""),
        "the study": f"{c.trials} trials, about {duration(trial * length)} with {at_a_time} at a time, "
        f"if --pruner {c.pruner} leaves {share:.0%} of the steps",
    }
    if study.reruns:
        length = places.rounds(study.reruns, min(c.concurrent or room, room))
        lines["the final stage"] = (
            f"{study.reruns} full trials, {study.finalists} finalists and the base with {study.seeds} seeds each, "
            f"about {duration(trial * length)} more"
        )
    if timed.gpu is not None and gpus == 1 and workers == 1:
        lines["the GPU"] = timed.gpu.advice()
    lines["checkpoints"] = _checkpoints(study, checkpoint_bytes(model), at_a_time)
    for name, text in lines.items():
        say(console, f"{name + ':':17}{text}")


def checkpoint_bytes(model: SegmentationModel) -> int:
    """Bytes of a checkpoint: the weights and the optimisers' state, both changed here as by a training step."""
    optimizers = model.optimizers()
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for optimizer in optimizers:
        optimizer.step()
    written = io.BytesIO()
    torch.save([model.state_dict(), *(optimizer.state_dict() for optimizer in optimizers)], written)
    return len(written.getbuffer())


def _checkpoints(study: Resolved, each: int, at_a_time: int) -> str:
    """What the checkpoints of all trials that are kept, or run ``at_a_time``, take of the disk."""
    kept = study.config.keep_checkpoints or 1
    trials = study.config.trials + study.reruns
    most = each * (trials * kept + at_a_time * (max(2, kept) + 1 - kept))  # one more while it is written
    there = next(
        path for path in (study.folder.path.absolute(), *study.folder.path.absolute().parents) if path.exists()
    )
    free = shutil.disk_usage(there).free
    text = f"{_size(each)} each, {kept} kept per trial: at most {_size(most)} of the disk, which has {_size(free)} free"
    return text if most <= free else f"{text}: fewer --keep-checkpoints or --trials, or another --results"


def _size(number: int) -> str:
    return f"{number / 2**30:,.1f} GiB" if number >= 2**30 else f"{number / 2**20:,.1f} MiB"
