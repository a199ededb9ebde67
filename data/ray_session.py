"""This process's connection to Ray: to a cluster, or to a Ray of its own on this machine."""

import contextlib
import io
import logging
import os
import socket
from pathlib import Path
from typing import Any

from data import machine

_ROOT = Path(__file__).resolve().parents[1]  # the checkout, or the folder of the installed packages

ATTEMPTS = 2
"""How often a Ray of our own is started before giving up."""

ANSWER_SECONDS = 10
"""How long a cluster may take to accept a connection."""

NEEDS_TOKEN = "set RAY_AUTH_TOKEN to the token of the cluster (`ray get-auth-token` on its head prints it)"


def connect(address: str | None, **own: Any) -> None:
    """Connect to the Ray cluster at ``address``, else to the job's cluster, else to a new one on this machine.

    ``own`` are further arguments of ``ray.init`` for a new one, which has the cores that this process may use. Workers
    find our packages in the checkout, whatever the current directory is, and then what PYTHONPATH names. Raises
    ValueError if there is no cluster at ``address``, if it wants another token, or if Ray does not start.
    """
    import ray  # not above: it takes seconds, and some only ask for a name here

    inside_job = is_inside_job()
    starts = address is None and not inside_job
    if address is not None:
        _knock(address)
    named = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    paths = [str(_ROOT), *(str(Path(path).resolve()) for path in named if path)]
    given: dict[str, Any] = {
        "address": "local" if starts else address or "auto",
        # A job's working directory is the checkout; without a job the workers need its path.
        "runtime_env": None if inside_job else {"env_vars": {"PYTHONPATH": os.pathsep.join(paths)}},
        "logging_level": logging.ERROR,
        "log_to_driver": False,
        **({"num_cpus": machine.usable_cores(), "include_dashboard": False, **own} if starts else {}),
    }
    for attempt in range(1, ATTEMPTS + 1):
        try:
            # Workers look in the driver's directory first, and a person's own data.py or study.py may lie there.
            with contextlib.redirect_stderr(io.StringIO()), contextlib.chdir(_ROOT):
                ray.init(**given)
            return
        except ray.exceptions.AuthenticationError as error:
            raise ValueError(f"--address {address}: {_first_line(error)}; {NEEDS_TOKEN}") from error
        except ConnectionError as error:
            raise _no_cluster(address, "no Ray cluster answers there") from error
        except Exception as error:  # on a busy machine Ray gives up after its fixed half minute, with a bare Exception
            ray.shutdown()
            if starts and attempt < ATTEMPTS:
                continue
            where = "on this machine" if starts else f"at {address or 'the address of this job'}"
            raise ValueError(
                f"Ray did not start {where}: {_first_line(error)}; look at the machine's load and free memory, and "
                "type the same command again"
            ) from error


def is_inside_job() -> bool:
    """Whether this process is the entrypoint of a Ray job."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


def _knock(address: str) -> None:
    """Raise ValueError unless something listens at ``address``, if it is HOST:PORT: Ray itself waits for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not (colon and port.isdecimal()):
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise _no_cluster(address, f"nothing answers there ({why})") from error


def _no_cluster(address: str | None, why: str) -> ValueError:
    return ValueError(
        f"--address {address}: {why}; start a cluster with `ray start --head`, "
        "or leave --address out to use this machine"
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
