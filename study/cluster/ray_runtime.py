"""Ray itself: connect to a cluster or start one on this machine; its nodes and resources."""

import contextlib
import io
import logging
import os
import socket
from typing import Any

from data import cores
from study.display.error_lines import first_line
from study.results_folder import ROOT

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

ATTEMPTS = 2
"""How often a Ray of our own is started before giving up."""
ANSWER_SECONDS = 10
"""How long a cluster may take to accept a connection."""

NEEDS_TOKEN = "set RAY_AUTH_TOKEN to the token of the cluster (`ray get-auth-token` on its head prints it)"


def has_gpu(address: str | None) -> bool:
    """Whether a GPU is visible: on this machine, or on the cluster at ``address``. Raises ValueError."""
    if address is None and not _inside_job():
        import torch

        return torch.cuda.is_available()
    start(address)
    import ray

    return ray.cluster_resources().get("GPU", 0) > 0


def start(address: str | None) -> None:
    """Connect this process to Ray: to ``address``, else to the job's cluster, else to a new one on this machine.

    Does nothing if it is connected already. Workers find our packages in the checkout, whatever the current directory
    is, and then what PYTHONPATH names. A Ray of our own has the cores that this process may use. Raises ValueError if
    there is no cluster at ``address``, if it wants another token, or if Ray does not start.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        return
    inside_job = _inside_job()
    own = address is None and not inside_job
    if address is not None:
        _knock(address)
    paths = filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
    try:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with contextlib.redirect_stderr(io.StringIO()):
                    ray.init(
                        address="local" if own else address or "auto",
                        num_cpus=cores.usable() if own else None,
                        # A job's working directory is the checkout; without a job the workers need its path.
                        runtime_env=None if inside_job else {"env_vars": {"PYTHONPATH": os.pathsep.join(paths)}},
                        include_dashboard=False if own else None,
                        logging_level=logging.ERROR,
                        log_to_driver=False,
                    )
                return
            except Exception:  # on a busy machine Ray gives up after its fixed half minute, with a bare Exception
                ray.shutdown()
                if not own or attempt == ATTEMPTS:
                    raise
    except ray.exceptions.AuthenticationError as error:
        raise ValueError(f"--address {address}: {first_line(error)}; {NEEDS_TOKEN}") from error
    except ConnectionError as error:
        raise ValueError(
            f"--address {address}: no Ray cluster answers there; start one with `ray start --head`, "
            "or leave --address out to use this machine"
        ) from error
    except Exception as error:  # Ray raises bare Exceptions, RuntimeErrors and ValueErrors here
        where = "on this machine" if own else f"at {address or 'the address of this job'}"
        raise ValueError(
            f"Ray did not start {where}: {first_line(error)}; look at the machine's load and free memory, and "
            "type the same command again"
        ) from error


def _knock(address: str) -> None:
    """Raise ValueError unless something listens at ``address``, if it is HOST:PORT: Ray itself waits for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not (colon and port.isdecimal()):
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise ValueError(
            f"--address {address}: nothing answers there ({why}); start a cluster with `ray start --head`, "
            "or leave --address out to use this machine"
        ) from error


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
    return address is not None or _inside_job()


def _inside_job() -> bool:
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
