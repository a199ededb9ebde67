"""What a study would take on a cluster that is not here: time, devices' hours, memory, and what will limit it.

python study/plan.py --model iodine --trials 200 --gpus 64

One training step is measured on this machine; everything else is arithmetic and a simulation of early stopping.
"""

import sys
from pathlib import Path

if __name__ == "__main__":  # the checkout in place of study/, whose modules must not hide others
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields

import torch
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

import trainables
from study import config, dry_run, presets
from study.cluster import places
from study.display.durations import duration
from study.search import forecast
from trainables import noise
from trainables.model import SegmentationModel

DRIVER_SECONDS = 0.03
"""Processor time that the driver spends on a report of a study of many trials: docs/cluster.md, "The driver"."""

GATHER_BYTES = 1e9
"""Bytes per second that a process gathers from shards and turns into floats, at least."""

SUSTAINED_TFLOPS = 5.0
"""What a data-centre GPU does with small convolutions in float32, roughly; an assumption, not a measurement."""

HIGH = 0.5
"""A load above which a remedy is shown."""

STORE_SHARE = 0.3
"""Share of a node's memory that Ray gives to its object store."""

VALIDATION_SHARE = 1 / 3
"""Time of a validation image over that of a training image: forward without backward, and metrics."""


@dataclass(frozen=True)
class Machines:
    """The cluster to plan for."""

    gpus: int = 0
    """GPUs of the whole cluster; 0 = trials run on CPU cores"""
    cpus: int = 2
    """CPU cores of the whole cluster, when there are no GPUs"""
    per_node: int = 8
    """GPUs, or without them CPU cores, of a node"""
    node_memory: float = 256.0
    """memory of a node in GB"""
    network: float = 1.0
    """GB/s at which a node reads shards"""
    tflops: float | None = None
    """TFLOP/s that a GPU sustains in training, where none can be measured here [default: an assumed 5]"""
    seconds_per_step: float | None = None
    """seconds of a training step on one GPU or core of the cluster, if it is known; nothing is measured then"""
    price: float | None = None
    """price of an hour of a GPU (or core), in any currency"""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and not (value > 0 or (field.name == "gpus" and value == 0)):
                raise ValueError(f"--{field.name.replace('_', '-')} is {value}; it must be above zero")

    @property
    def devices(self) -> int:
        """GPUs of the whole cluster, or without them CPU cores."""
        return self.gpus or self.cpus

    def nodes(self) -> list[dict[str, float]]:
        """What Ray would say of each node, the last one with what is left; beside GPUs there are CPU cores enough."""
        sizes = [min(self.per_node, self.devices - first) for first in range(0, self.devices, self.per_node)]
        return [{"GPU": size, "CPU": sys.maxsize} if self.gpus else {"CPU": size} for size in sizes]


@dataclass(frozen=True)
class Step:
    """One training step of the study's model, on the device that the study will use."""

    seconds: float
    batch: int
    """images"""
    origin: str
    """where the figure comes from, for people"""


@dataclass(frozen=True)
class Plan:
    """What the study would take."""

    trial_hours: float
    """one full trial, validation included"""
    at_a_time: int
    share: float
    """steps that early stopping leaves, of those of all trials at full length"""
    hours: float
    """from the first trial's start to the last one's end"""
    device_hours: float
    """hours in which GPUs (or cores) train and validate"""
    cluster_hours: float
    """hours of all the cluster's GPUs (or cores), idle ones included: what it bills"""
    hours_without_stopping: float
    store_bytes: float
    """images and labels of train and val, once per node"""
    loads: dict[str, float]
    """what may limit the study -> its load, as a share of what it can bear; above 1 it waits for it"""


def estimate(
    step: Step,
    machines: Machines,
    task: config.StudyConfig,
    *,
    steps: int,
    images: int,
    image_bytes: int,
    validation_images: int,
) -> Plan:
    """The plan of a study of trials of ``steps`` steps. Raises ValueError if not even one fits on the cluster.

    ``images`` is the number of images in the object store, ``image_bytes`` the size of one with its labels, and
    ``validation_images`` the number that a report looks at. The workers of a trial share its training, and rank 0
    validates; a share of a GPU below 1 is that share of its speed.
    """
    each = task.gpus or task.cpus
    fitting = places.fitting(task, task.gpus or 0.0, machines.nodes())
    at_a_time = min(task.trials, task.concurrent or task.trials, fitting)
    seconds = step.seconds / min(1.0, each)
    validation = validation_images / step.batch * seconds * VALIDATION_SHARE
    trial_seconds = steps * seconds / task.workers_per_trial + task.reports * validation
    share, length = forecast.stopping(task.trials, at_a_time, task.reports, task.pruner)
    study_seconds = length * trial_seconds
    store = images * image_bytes
    loads = {
        "the length of a trial": 1 / length,
        "the driver": at_a_time * task.reports / trial_seconds * DRIVER_SECONDS,
        "memory for the data": store / (machines.node_memory * 1e9 * STORE_SHARE),
        "reading the data": store / (machines.network * 1e9) / study_seconds,
        "gathering batches": step.batch * image_bytes / seconds / GATHER_BYTES,  # of each worker: all have a share
    }
    return Plan(
        trial_hours=trial_seconds / 3600,
        at_a_time=at_a_time,
        share=share,
        hours=study_seconds / 3600,
        device_hours=share * task.trials * trial_seconds * each * task.workers_per_trial / 3600,
        cluster_hours=study_seconds * machines.devices / 3600,
        hours_without_stopping=math.ceil(task.trials / at_a_time) * trial_seconds / 3600,
        store_bytes=store,
        loads=loads,
    )


REMEDIES = {
    "the length of a trial": "more devices will not end it sooner; train each trial on several (--workers-per-trial)",
    "the driver": "fewer --reports, or longer trials; the driver is one process, whatever the cluster",
    "memory for the data": "Ray would spill to disk; take nodes with more memory, or smaller images",
    "reading the data": "bring the shards nearer to the nodes, or convert them ahead (data/convert.py)",
    "gathering batches": "more --cpus per trial will not help; larger models or smaller batches hide it",
}
"""What to do about a load that is too high."""


def measure(study: presets.Resolved, machines: Machines) -> Step:
    """One training step of the first trial: given by hand, timed on this machine, or derived from its operations."""
    proposal = study.proposal(study.data.max_objects)
    hyperparameters = {key: proposal.base[key] for key in proposal.known}
    batch = hyperparameters["batch_size"]
    if machines.seconds_per_step is not None:
        return Step(machines.seconds_per_step, batch, "given")
    model = trainables.build(study.config.model, hyperparameters, study.image_size)
    on_gpu = machines.gpus > 0 and torch.cuda.is_available()
    seconds, images = dry_run.seconds_per_step(study, model, torch.device("cuda" if on_gpu else "cpu"))
    if on_gpu or not machines.gpus:
        scaled = f", scaled up from {images}" if images != batch else ""
        return Step(seconds, batch, f"measured on one {'GPU' if on_gpu else 'CPU core'} of this machine{scaled}")
    operations = count_operations(model, study.image_size)
    tflops = machines.tflops or SUSTAINED_TFLOPS
    return Step(
        operations * batch / (tflops * 1e12),
        batch,
        f"{operations / 1e9:,.1f} GFLOP an image, in {seconds / batch:.2g} s on a core here; "
        f"at {tflops:g} TFLOP/s on a GPU"
        + ("" if machines.tflops else ", which is assumed: give --seconds-per-step if you can"),
    )


def count_operations(model: SegmentationModel, image_size: int) -> int:
    """Floating-point operations of a step on one image, in the middle of a trial: convolutions and matrix products."""
    counter = FlopCounterMode(display=False)
    # Its hooks on modules, which tell whose the operations are, break gradients that models take within forward.
    counter.mod_tracker = _NoModules()  # type: ignore[assignment]
    with counter, noise.drawn_from(torch.Generator().manual_seed(0)):
        image = noise.uniform((1, 3, image_size, image_size), torch.empty(()))
        model(image, model.config.steps // 2).loss.backward()
    return counter.get_total_flops()


class _NoModules(nullcontext[None]):
    """In place of torch's ModuleTracker: all operations count for the whole."""

    parents = frozenset({"Global"})

    def __exit__(self, *error: object) -> None:
        """Do nothing; torch calls it without arguments."""


def show(study: presets.Resolved, machines: Machines, console: Console) -> None:
    """Measure a step and print the plan. Raises ValueError for a study that the cluster has no places for."""
    c = study.config
    counts = study.data.official_counts()
    places.fitting(c, c.gpus or 0.0, machines.nodes())  # before the step, which may take a while
    step = measure(study, machines)
    plan = estimate(
        step,
        machines,
        c,
        steps=study.steps,
        images=counts["train"] + counts["val"],
        image_bytes=4 * study.image_size**2,
        validation_images=min(c.validation_images, counts["val"]),
    )
    device = "GPU" if machines.gpus else "core"
    each, workers = c.gpus or c.cpus, c.workers_per_trial
    whole_study = duration(3600 * plan.hours)
    lines = {
        "the study": f"{c.trials} trials of {c.model} on {study.data}, {study.preset} preset, {study.steps:,} steps",
        "the cluster": f"{_count(machines.devices, device)} on {_count(len(machines.nodes()), 'node')}; "
        f"{_count(plan.at_a_time, 'trial')} at a time, {_count(each * workers, device)} each",
        "one step": f"{step.seconds:.3g} s for a batch of {step.batch} ({step.origin})",
        "one full trial": duration(3600 * plan.trial_hours)
        + (f", if {workers} workers are {workers} times as fast" if workers > 1 else "")
        + (f", if {each:g} of a {device} is {each:g} times as fast as all of it" if each < 1 else ""),
    }
    if c.pruner == "asha":
        lines["with early stopping"] = (
            f"{whole_study}; {plan.share:.0%} of the steps are left (simulated; 45 to 57 % in the README's studies)"
        )
        lines["without"] = duration(3600 * plan.hours_without_stopping)
    else:
        lines["the whole study"] = whole_study
    price = f" {plan.cluster_hours * machines.price:,.2f} at {machines.price:g} an hour" if machines.price else ""
    lines |= {
        "it costs": f"{plan.cluster_hours:,.1f} {device} hours of the whole cluster,{price and price + ','} "
        f"of which trials use {plan.device_hours:,.1f}",
        "the object store": f"{plan.store_bytes / 1e9:.3g} GB of images and labels, once on each node",
        "assumed": "all steps take as long as one in the middle; an image in validation takes "
        f"{VALIDATION_SHARE:.0%} of one in training; the driver takes {DRIVER_SECONDS:g} s a report; "
        f"a process gathers {GATHER_BYTES / 1e9:g} GB/s",
        "not counted": "what it takes to start workers, to convert and load the data, and to score the best trials"
        + ("" if c.pruner in ("asha", "none") else f"; nor what --pruner {c.pruner} saves"),
    }
    for name, text in lines.items():
        console.print(f"{name + ':':21}{text}", highlight=False, markup=False, soft_wrap=True)
    table = Table("what may limit it", "load", "remedy")
    for name, load in sorted(plan.loads.items(), key=lambda item: -item[1]):
        table.add_row(name, f"{load:.1%}", REMEDIES[name] if load > HIGH else "")
    console.print(table)
    worst = max(plan.loads, key=lambda name: plan.loads[name])
    text = worst if plan.loads[worst] > HIGH else f"the {device}s themselves: more of them, or faster ones, help"
    console.print(f"bottleneck: {text}", highlight=False, markup=False, soft_wrap=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a plan; returns the exit status, 2 for bad input."""
    parser = config.OneLineParser(
        prog="python study/plan.py",
        description="Estimate time, cost and bottleneck of a study on a cluster, from one training step.",
        epilog="All flags of study/run.py say what the study is, but --gpus and --cpus, which are the cluster's here: "
        "its --gpus is called --gpus-per-trial, and its --cpus is 1.",
        allow_abbrev=False,
    )
    docs = config.field_docs(Machines)
    for field in fields(Machines):
        kind = int if field.type == "int" or field.type is int else float
        parser.add_argument(
            f"--{field.name.replace('_', '-')}", type=kind, default=field.default, help=docs[field.name]
        )
    parser.add_argument(
        "--gpus-per-trial", type=float, default=1.0, help="GPUs per worker of a trial; fractions allowed [default: 1]"
    )
    given, rest = parser.parse_known_args(arguments)
    console = Console()
    try:
        machines = Machines(**{field.name: getattr(given, field.name) for field in fields(Machines)})
        if given.gpus_per_trial <= 0:
            raise ValueError(f"--gpus-per-trial is {given.gpus_per_trial}; it must be above zero")
        gpus = given.gpus_per_trial if machines.gpus else 0.0
        try:
            for i, asked in enumerate(config.from_command_line([*rest, "--gpus", str(gpus)])):
                if i:
                    console.print()
                show(presets.resolve(asked, has_gpu=machines.gpus > 0), machines, console)
        except ValueError as error:  # in the words of study/run.py
            raise ValueError(str(error).replace("--gpus ", "--gpus-per-trial ")) from error
    except ValueError as error:
        Console(stderr=True, highlight=False, soft_wrap=True, markup=False).print(f"error: {error}")
        return 2
    return 0


def _count(number: float, noun: str) -> str:
    return f"{number:g} {noun}{'' if number == 1 else 's'}"


if __name__ == "__main__":
    sys.exit(main())
