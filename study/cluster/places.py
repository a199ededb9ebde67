"""How many trials fit on the cluster, while nodes join and leave."""

import math
import time
from collections.abc import Mapping, Sequence

from study.cluster import ray_runtime
from study.config import StudyConfig

LOOK_EVERY = 2.0
"""Seconds between two looks at the cluster."""

_ROUNDING = 1e-9  # 1 / 0.1 counts as ten places, however it is rounded


def fitting(config: StudyConfig, gpus: float, nodes: Sequence[Mapping[str, float]]) -> int:
    """Count the trials that fit on nodes with the resources ``nodes``. Raises ValueError if not even one does.

    A worker needs one node, and a fraction of a GPU needs one GPU. The workers of a trial may be on several nodes.
    """
    workers = config.workers_per_trial
    of = f"for each of a trial's {workers} workers" if workers > 1 else "per trial"
    for flag, kind, each in (("--cpus", "CPU", config.cpus), ("--gpus", "GPU", gpus)):
        most = max((node.get(kind, 0.0) for node in nodes), default=0.0)
        if each > most:
            if most == 0:
                remedy = "ask for less" if kind == "GPU" else "wait for one"
                raise ValueError(f"{flag} {each:g} {of}, but no node that is up has {kind}s (`ray status`); {remedy}")
            where = "the cluster has" if len(nodes) == 1 else "no node of the cluster has more than"
            raise ValueError(f"{flag} {each:g} {of}, but {where} {most:g} {kind}s; ask for less")
    room = sum(_room(node, config.cpus, gpus) for node in nodes)
    if room < workers:
        raise ValueError(
            f"--cpus {config.cpus:g} and --gpus {gpus:g} {of}, but the cluster has places for {room}; ask for less"
        )
    return room // workers


def rounds(trials: int, at_a_time: int) -> int:
    """How many full trials one after the other ``trials`` take, ``at_a_time`` beside each other."""
    return math.ceil(trials / at_a_time)


def _room(node: Mapping[str, float], cpus: float, gpus: float) -> int:
    """How many workers fit on one node."""
    workers = int(node.get("CPU", 0.0) / cpus + _ROUNDING)
    if gpus > 0:
        there = node.get("GPU", 0.0)
        shares = there / gpus if gpus >= 1 else int(there) * int(1 / gpus + _ROUNDING)
        workers = min(workers, int(shares + _ROUNDING))
    return workers


def _resources() -> list[dict[str, float]]:
    return [node["Resources"] for node in ray_runtime.alive()]


class Places:
    """How many trials a study runs at a time; the number follows the cluster's nodes.

    On a ``shared`` cluster one trial more than fits waits for a place: a node that joins has work at once, and an
    autoscaler, which adds nodes for what waits, has a reason to. With ``--concurrent`` as many wait as it says.
    """

    def __init__(self, config: StudyConfig, gpus: float, *, shared: bool):
        """Look at the cluster. Raises ValueError if not even one trial fits."""
        self._config, self._gpus, self._shared = config, gpus, shared
        self._started = self._looked = time.monotonic()
        self._summed = 0.0  # places times seconds, up to the last look
        self._fitting = fitting(config, gpus, _resources())

    def count(self) -> int:
        """Count the trials that have a place now; asks the cluster if the last look is :data:`LOOK_EVERY` ago."""
        now = time.monotonic()
        if now - self._looked > LOOK_EVERY:
            self._summed += self._usable() * (now - self._looked)
            self._looked = now
            try:
                self._fitting = fitting(self._config, self._gpus, _resources())
            except ValueError:
                self._fitting = 0  # the last node with enough resources is gone; another may join
        return self._usable()

    def wanted(self) -> int:
        """How many trials Tune may have now, those that wait for a place included; Tune needs at least one."""
        config, count = self._config, self.count()
        if not self._shared:
            return max(1, count)
        return min(config.trials, config.concurrent or count + 1)

    def mean(self) -> float:
        """The number of places since the beginning, averaged over time."""
        now = time.monotonic()
        summed = self._summed + self._usable() * (now - self._looked)
        return summed / (now - self._started) if summed else self._usable()

    def _usable(self) -> int:
        config = self._config
        return min(config.trials, self._fitting, config.concurrent or self._fitting)
