"""This process's connection to Ray: to a cluster, or to a Ray of its own on this machine."""

import contextlib
import functools
import io
import logging
import os
import socket
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from data import machine, ray_node, stop_signals
from data.held_ports import held_ports

_ROOT = Path(__file__).resolve().parents[1]  # the checkout, or the folder of the installed packages

ATTEMPTS = 2
"""How often a Ray of our own is started before giving up."""

START_SECONDS = 300
"""How long a Ray of our own may take to start."""

WORKER_SECONDS = 15
"""How long Ray's first worker may take before the logs are asked whether workers die at their start."""

AGENTS = ("dashboard_agent_listen_port", "metrics_agent_port", "metrics_export_port", "runtime_env_agent_port")
"""What Ray calls the ports of the helpers of a node."""

_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""How a client of gRPC begins: HTTP/2's preface and empty settings (RFC 9113, 3.4); a server answers with its own."""

_paths: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
"""The node of a Ray of our own -> PYTHONPATH of its workers."""

NEEDS_TOKEN = "set RAY_AUTH_TOKEN to the token of the cluster (`ray get-auth-token` on its head prints it)"


def connect(address: str | None, **own: Any) -> None:
    """Connect to the Ray cluster at ``address``, else to the job's cluster, else to a new one on this machine.

    ``own`` are further arguments of ``ray.init`` for a new one, which has the cores that this process may use. Workers
    find our packages in the checkout, whatever the current directory is, and then what PYTHONPATH names. Raises
    ValueError if there is no cluster at ``address``, if it wants another token, or if Ray does not start.

    A Ray of our own listens on loopback only. Its servers are no members of this process's group, so that Ctrl-C, and
    a signal of ``timeout`` or of a terminal that closes, reach this process alone. Signals keep their handlers.
    """
    import ray  # not above: it takes seconds, and some only ask for a name here

    inside_job = is_inside_job()
    starts = address is None and not inside_job
    if address is not None:
        _knock(address)
    named = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    path = os.pathsep.join([str(_ROOT), *(str(Path(one).resolve()) for one in named if one)])
    given: dict[str, Any] = {
        "address": "local" if starts else address or "auto",
        # Workers of our own Ray inherit the path, and need not wait for the agent that makes environments. A job's
        # working directory is the checkout.
        "runtime_env": None if starts or inside_job else {"env_vars": {"PYTHONPATH": path}},
        "logging_level": logging.ERROR,
        "log_to_driver": False,
        **({"num_cpus": machine.usable_cores(), "include_dashboard": False, **own} if starts else {}),
        # Else ray.init waits for the first workers, for ever if they die at their start.
        **({"_system_config": {"prestart_worker_first_driver": False}} if starts else {}),
    }
    for attempt in range(1, ATTEMPTS + 1):
        try:
            # Workers look in the driver's directory first, and a person's own data.py or study.py may lie there.
            ours = _own(path) if starts else _of_others()
            with ours as held, contextlib.redirect_stderr(io.StringIO()), contextlib.chdir(_ROOT):
                ray.init(**given)
            break
        except ray.exceptions.AuthenticationError as error:
            raise ValueError(f"--address {address}: {_first_line(error)}; {NEEDS_TOKEN}") from error
        except ConnectionError as error:
            raise _no_cluster(address, "no Ray cluster answers there") from error
        except Exception as error:  # whatever Ray raises; a bare Exception when it takes too long
            ray.shutdown()
            if starts and attempt < ATTEMPTS:
                continue
            where = "on this machine" if starts else f"at {address or 'the address of this job'}"
            raise ValueError(
                f"Ray did not start {where}: {_first_line(error)}; look at the machine's load and free memory, and "
                "type the same command again"
            ) from error
    watch: Any = functools.partial(ray_node.end_without_servers, held=held) if starts else ray_node.end_without_head
    threading.Thread(target=watch, args=[ray_node.this()], daemon=True).start()
    if starts:
        _paths[ray_node.this()] = path
        _say_where_the_store_lies()
        _wait_for_a_worker()


def workers_path() -> list[str]:
    """The folders on PYTHONPATH that this process gave to its Ray's workers."""
    import ray

    node = ray_node.this()
    given = _paths.get(node) if node is not None else None  # None for a client of ray://
    return (given or ray.get_runtime_context().runtime_env.env_vars().get("PYTHONPATH", "")).split(os.pathsep)


def is_inside_job() -> bool:
    """Whether this process is the entrypoint of a Ray job."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


@contextlib.contextmanager
def _of_others() -> Iterator[list[socket.socket]]:
    """Let ``ray.init`` start no copy of uv's environment for workers: they have the driver's Python, or the job's.

    And let it leave the signals alone. The handlers of its library are set while it connects.
    """
    from ray._private import ray_constants, utils, worker

    real = worker.connect

    def connect(*of: Any, **options: Any) -> None:
        with stop_signals.kept():
            real(*of, **options)

    without_uv = _replaced(ray_constants, "RAY_ENABLE_UV_RUN_RUNTIME_ENV", False)
    with without_uv, _replaced(utils, "set_sigterm_handler", bool), _replaced(worker, "connect", connect):
        yield []


@contextlib.contextmanager
def _own(path: str) -> Iterator[list[socket.socket]]:
    """Let ``ray.init`` start servers that listen on loopback, each in a process group of its own, and wait for them.

    They and their workers have ``path`` as PYTHONPATH. What Ray starts beside them takes seconds of a start, and does
    nothing here: what reads the logs for the driver, what scales a cluster, and a dashboard without pages. Yields what
    holds the ports of Ray's agents, to be kept while they may start: an agent that finds its port taken ends, and its
    raylet with it. Ray's own half minute is too short on a busy machine, and no setting makes it longer. Nor are there
    settings for the 15 s that a raylet gives its agents to tell which ports they took; those that are named here it
    does not wait for.
    """
    from ray._private import parameter, ray_constants, services, worker

    start, make = services.ConsolePopen, parameter.RayParams
    numbers, held = held_ports(len(AGENTS))
    ports = dict(zip(AGENTS, numbers, strict=True))
    servers: list[Any] = []

    def apart(words: list[str], env: dict[str, str] | None = None, **options: Any) -> Any:
        if any(word.startswith("--raylet_socket_name=") for word in words):
            words = [*words, f"--{AGENTS[0]}={ports[AGENTS[0]]}"]  # the one that Ray does not hand on
        env = {**(os.environ if env is None else env), "PYTHONPATH": path}
        servers.append(start(words, process_group=0, env=env, **options))
        return servers[-1]

    def with_ports(**given: Any) -> Any:
        return make(**given | ports | {"include_log_monitor": False, "no_monitor": True})

    patient = functools.partial(_found, services.get_node, servers)
    with contextlib.ExitStack() as replaced:
        replaced.enter_context(_of_others())
        replaced.enter_context(_replaced(ray_constants, "ENABLE_RAY_CLUSTER", False))
        replaced.enter_context(_replaced(services, "ConsolePopen", apart))
        replaced.enter_context(_replaced(services, "start_api_server", _no_dashboard))
        replaced.enter_context(_replaced(services, "get_node", patient))
        replaced.enter_context(_replaced(parameter, "RayParams", with_ports))
        replaced.enter_context(_replaced(worker, "listen_error_messages", _hear_nothing))
        yield held


def _found(get_node: Callable[..., Any], servers: list[Any], *of: Any) -> Any:
    """What ``get_node`` says of a node that is starting.

    Raises RuntimeError if one of its ``servers`` has ended, or it takes longer than START_SECONDS.
    """
    begun = time.monotonic()
    while True:
        try:
            return get_node(*of)
        except RuntimeError:
            if time.monotonic() - begun > START_SECONDS or any(server.poll() for server in servers):
                raise
        time.sleep(0.1)


def _no_dashboard(*of: Any, **options: Any) -> tuple[str, None]:
    """In place of Ray's own, which ``include_dashboard=False`` leaves with statistics of usage, and waits for."""
    return "", None


def _hear_nothing(worker: Any, stopped: threading.Event) -> None:
    """In place of Ray's own listener, which prints pages of its logs where a line of ours follows."""
    stopped.wait()


@contextlib.contextmanager
def _replaced(module: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


def _say_where_the_store_lies() -> None:
    """Print a line if Ray's object store is no shared memory, because /dev/shm is small: Ray itself logs it."""
    words = ray_node.this().all_processes["raylet"][0].process.args
    (place,) = [word.partition("=")[2] for word in words if word.startswith("--plasma_directory=")]
    if place != "/dev/shm":
        print(
            f"note: /dev/shm is small, so Ray's object store lies in {place}, which is slower; enlarge it "
            "(`docker run --shm-size=8g`), or free it",
            file=sys.stderr,
        )


def _wait_for_a_worker() -> None:
    """Raise ValueError if the workers of a Ray of our own die at their start: Ray starts one after another for ever."""
    import ray

    look: Any = ray.remote(num_cpus=0, max_retries=0)(_hello)
    begun, answer = time.monotonic(), look.remote()
    while not ray.wait([answer], timeout=1)[0]:
        if time.monotonic() - begun > WORKER_SECONDS and (words := ray_node.last_words()):
            ray.shutdown()
            raise ValueError(
                f"Ray's workers end at their start; the last one said: {words}; mend what {sys.executable} imports "
                "there (PYTHONPATH, packages), and type the same command again"
            )
    try:
        ray.get(answer)
    except ray.exceptions.RayError as error:
        words = ray_node.last_words() or _first_line(error)
        ray.shutdown()
        raise ValueError(f"Ray's workers do not work: {words}; type the same command again") from error


def _hello() -> None:
    """What the first worker does."""


def _knock(address: str) -> None:
    """Raise ValueError unless a server of gRPC is at ``address``, if it is HOST:PORT: Ray itself waits for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not (colon and port.isdecimal()):
        return
    try:
        with socket.create_connection((host.strip("[]"), int(port)), ray_node.ANSWER_SECONDS) as connection:
            if os.environ.get("RAY_USE_TLS", "0") == "1":
                return  # it speaks first in TLS
            connection.sendall(_GREETING)
            greeted = connection.recv(9)  # the head of a frame: length, type 4 (settings), flags, stream 0
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise _no_cluster(address, f"nothing answers there ({why})") from error
    if greeted[3:4] != b"\x04":
        raise _no_cluster(address, "what answers there is no Ray")


def _no_cluster(address: str | None, why: str) -> ValueError:
    return ValueError(
        f"--address {address}: {why}; start a cluster with `ray start --head`, "
        "or leave --address out to use this machine"
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
