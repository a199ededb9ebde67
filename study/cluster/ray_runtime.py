"""Ray itself: connect to a cluster or start one on this machine; its nodes and resources."""

import os
from typing import Any

from data import ray_session
from data.ray_session import is_inside_job

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # study/display/event_files.py writes the events
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "600",  # nobody reads Tune's snapshots; see study/search/searcher.py
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # StudyStopper has its own
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # no warning: crew.Worker decides by what was asked for
}
"""Environment variables that are set before Ray starts; values that the user has set are kept."""


def has_gpu(address: str | None) -> bool:
    """Whether a GPU is visible: on this machine, or on the cluster at ``address``. Raises ValueError."""
    if address is None and not is_inside_job():
        import torch

        return torch.cuda.is_available()
    start(address)
    import ray

    return ray.cluster_resources().get("GPU", 0) > 0


def start(address: str | None) -> None:
    """Connect this process to Ray: to ``address``, else to the job's cluster, else to a new one on this machine.

    Does nothing if it is connected already. Raises ValueError as :func:`data.ray_session.connect` does.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    import ray

    if not ray.is_initialized():
        ray_session.connect(address)


def leave() -> None:
    """Disconnect this process from Ray; its objects leave the object store."""
    import ray

    ray.shutdown()


def alive() -> list[dict[str, Any]]:
    """The rows of ``ray.nodes()`` for the nodes that are up."""
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def is_shared(address: str | None) -> bool:
    """Whether a study with this ``--address`` runs on a cluster whose nodes may come and go."""
    return address is not None or is_inside_job()
