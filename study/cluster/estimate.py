"""What a study would take on a cluster that is not here: arithmetic from one training step, and simulated pruning."""

import sys
from dataclasses import dataclass, fields

from study.cluster import places
from study.config import StudyConfig
from study.search import forecast

DRIVER_SECONDS = 0.03
"""Processor time that the driver spends on a report of a study of many trials: docs/cluster.md, "The driver"."""

GATHER_BYTES = 1e9
"""Bytes per second that a process gathers from shards and turns into floats, at least."""

HIGH = 0.5
"""A load above which a remedy is shown."""

STORE_SHARE = 0.3
"""Share of a node's memory that Ray gives to its object store."""

VALIDATION_SHARE = 1 / 3
"""Time of a validation image over that of a training image: forward without backward, and metrics."""


@dataclass(frozen=True, kw_only=True)
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
    within: float = 1.25
    """the factor by which a plan from it may be wrong, in both directions; by experience, not by calculation"""


@dataclass(frozen=True)
class Plan:
    """What the study would take."""

    trial_hours: float
    """one full trial, validation included"""
    at_a_time: int
    share: float
    """share of the steps that is run, of those of all trials at full length"""
    hours: float
    """from the first trial's start to the last one's end, reruns of finalists included"""
    rerun_hours: float
    """of these, the hours in which the finalists and the base are trained anew"""
    device_hours: float
    """hours in which GPUs (or cores) train and validate"""
    cluster_hours: float
    """hours of all the cluster's GPUs (or cores), idle ones included: what it bills"""
    hours_without_pruning: float
    store_bytes: float
    """images and labels of train and val, once per node"""
    loads: dict[str, float]
    """what may limit the study -> its load, as a share of what it can bear; above 1 it waits for it"""


def estimate(
    step: Step,
    machines: Machines,
    task: StudyConfig,
    *,
    steps: int,
    reports: int,
    images: int,
    image_bytes: int,
    validation_images: int,
    reruns: int = 0,
) -> Plan:
    """The plan of a study of trials of ``steps`` steps and ``reports`` reports.

    Raises ValueError if not even one fits on the cluster.

    ``images`` is the number of images in the object store, ``image_bytes`` the size of one with its labels, and
    ``validation_images`` the number that a report looks at. The workers of a trial share its training, and rank 0
    validates; a share of a GPU below 1 is that share of its speed. ``reruns`` is the number of full trials that follow
    the search.
    """
    each = task.gpus or task.cpus
    fitting = places.fitting(task, task.gpus or 0.0, machines.nodes())
    at_a_time = min(task.trials, task.concurrent or task.trials, fitting)
    seconds = step.seconds / min(1.0, each)
    validation = validation_images / step.batch * seconds * VALIDATION_SHARE
    trial_seconds = steps * seconds / task.workers_per_trial + reports * validation
    share, length = forecast.pruning(task.trials, at_a_time, reports, task.pruner)
    rerun_length = places.rounds(reruns, min(task.concurrent or fitting, fitting))
    study_seconds = (length + rerun_length) * trial_seconds
    store = images * image_bytes
    loads = {
        "the length of a trial": 1 / length,
        "the driver": at_a_time * reports / trial_seconds * DRIVER_SECONDS,
        "memory for the data": store / (machines.node_memory * 1e9 * STORE_SHARE),
        "reading the data": store / (machines.network * 1e9) / study_seconds,
        "gathering batches": step.batch * image_bytes / seconds / GATHER_BYTES,  # of each worker: all have a share
    }
    return Plan(
        trial_hours=trial_seconds / 3600,
        at_a_time=at_a_time,
        share=share,
        hours=study_seconds / 3600,
        rerun_hours=rerun_length * trial_seconds / 3600,
        device_hours=(share * task.trials + reruns) * trial_seconds * each * task.workers_per_trial / 3600,
        cluster_hours=study_seconds * machines.devices / 3600,
        hours_without_pruning=(places.rounds(task.trials, at_a_time) + rerun_length) * trial_seconds / 3600,
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
