"""Ray itself: joining a cluster or starting one of our own on this machine, and what it has."""

import contextlib
import io
import logging
import os
from pathlib import Path
from typing import Any

from study.results_folder import ROOT

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # study/display/event_files.py writes the events
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "600",  # Tune's own snapshots are never read; see study/search/searcher.py
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # StudyStopper has its own
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # trials without a GPU say so themselves
}
"""Environment that must be set before Ray is imported by its workers; what the user has set stays."""

NEEDS_TOKEN = "set RAY_AUTH_TOKEN to the token of the cluster (`ray get-auth-token` on its head prints it)"


def has_gpu(address: str | None) -> bool:
    """Whether a GPU is visible: on this machine, or on the cluster at ``address``. Raises ValueError."""
    if address is None and not _inside_job():
        import torch

        return torch.cuda.is_available()
    start(address, ROOT)
    return resources().get("GPU", 0) > 0


def start(address: str | None, root: Path) -> None:
    """Connect this process to Ray, unless it is already: to ``address``, to the job's cluster, or to one of our own.

    Workers find the packages in the checkout ``root``, whatever directory the command was typed in. Raises
    ValueError if there is no cluster at ``address``.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        return
    inside_job = _inside_job()
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            ray.init(
                address="auto" if inside_job and address is None else address or "local",
                # A job's working directory is the checkout already; elsewhere the workers have to be told.
                runtime_env=None if inside_job else {"env_vars": {"PYTHONPATH": str(root)}},
                include_dashboard=None if address or inside_job else False,
                logging_level=logging.ERROR,
                log_to_driver=False,
            )
    except ray.exceptions.AuthenticationError as error:
        raise ValueError(f"--address {address}: {str(error).splitlines()[0]}; {NEEDS_TOKEN}") from error
    except ConnectionError as error:
        raise ValueError(
            f"--address {address}: no Ray cluster answers there; start one with `ray start --head`, "
            "or leave --address out to use this machine"
        ) from error


def leave() -> None:
    """End this process's connection to Ray, and with it all that it keeps in the object store."""
    import ray

    ray.shutdown()


def resources() -> dict[str, float]:
    """CPUs, GPUs and so on of the cluster that this process is connected to."""
    import ray

    return ray.cluster_resources()


def alive() -> list[dict[str, Any]]:
    """The rows of ``ray.nodes()`` for the nodes that are up."""
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def is_shared(address: str | None) -> bool:
    """Whether a study with this ``--address`` runs on a cluster that others may grow and shrink."""
    return address is not None or _inside_job()


def _inside_job() -> bool:
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
