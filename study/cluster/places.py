"""How many trials a cluster has places for, while nodes come and go."""

import time
from collections.abc import Mapping, Sequence

from study.cluster import ray_runtime
from study.config import StudyConfig

LOOK_EVERY = 2.0
"""Seconds between two looks at the cluster."""

_ROUNDING = 1e-9


def fitting(config: StudyConfig, gpus: float, nodes: Sequence[Mapping[str, float]]) -> int:
    """Trials that fit on nodes with the resources ``nodes``. Raises ValueError if not even one does.

    A worker stays on one node, and a share of a GPU below 1 on one GPU; the workers of a trial may be on several nodes.
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


def _room(node: Mapping[str, float], cpus: float, gpus: float) -> int:
    """Workers that fit on one node."""
    found = int(node.get("CPU", 0.0) / cpus + _ROUNDING)
    if gpus > 0:
        there = node.get("GPU", 0.0)
        shares = there / gpus if gpus >= 1 else int(there) * int(1 / gpus + _ROUNDING)
        found = min(found, int(shares + _ROUNDING))
    return found


def _resources() -> list[dict[str, float]]:
    return [node["Resources"] for node in ray_runtime.alive()]


class Places:
    """The number of trials that a study shall have at a time, which follows the cluster's nodes.

    On a ``shared`` cluster one more trial than has a place is always waiting for one: a node that joins has work at
    once, and an autoscaler, which looks at what waits, starts nodes. With ``--concurrent`` as many wait as it says.
    """

    def __init__(self, config: StudyConfig, gpus: float, *, shared: bool):
        """Look at the cluster. Raises ValueError if not even one trial fits."""
        self._config, self._gpus, self._shared = config, gpus, shared
        self._started = self._looked = time.monotonic()
        self._summed = 0.0
        self._fitting = fitting(config, gpus, _resources())

    @property
    def number(self) -> int:
        """Trials that have a place at this moment."""
        now = time.monotonic()
        if now - self._looked > LOOK_EVERY:
            self._summed += self._usable() * (now - self._looked)
            self._looked = now
            try:
                self._fitting = fitting(self._config, self._gpus, _resources())
            except ValueError:
                self._fitting = 0  # the last node that could work is gone; another one may come
        return self._usable()

    def __call__(self) -> int:
        """Trials to have at a time, those included that wait for a place; at least one, since Tune needs one."""
        config, number = self._config, self.number
        if not self._shared:
            return max(1, number)
        return min(config.trials, config.concurrent or number + 1)

    def mean(self) -> float:
        """Places since the beginning, averaged over time."""
        now = time.monotonic()
        summed = self._summed + self._usable() * (now - self._looked)
        return summed / (now - self._started) if summed else self._usable()

    def _usable(self) -> int:
        config = self._config
        return min(config.trials, self._fitting, config.concurrent or self._fitting)
