"""The node of this process's Ray: its servers, without which this process ends too, and its logs."""

import contextlib
import os
import re
import select
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

ANSWER_SECONDS = 10
"""How long a cluster may take to accept a connection, and to greet."""

HEAD_SECONDS = 45
"""How long the head of a cluster may be away: Ray itself, which waits for 60 s, goes on after a shorter time."""

WANT_OF_MEMORY = ", which may be the kernel's for want of memory"
"""What SIGKILL often means."""

LOST = 1
"""The exit status of a process whose Ray has ended: stopped."""


def this() -> Any:
    """What this process knows of its Ray's processes and files."""
    from ray._private import worker

    return worker.global_worker.node


def end_without_servers(node: Any, held: list[socket.socket]) -> None:
    """End this process when a server of its own Ray has ended: every call would wait for a minute, and then abort.

    Where an agent of the raylet ends, the raylet does so too, and this process would abort within a fraction of a
    second, without a word. Nothing that is written needs Ray, and a study survives the end of its process at any time.
    """
    servers = {kind: info.process for kind in ("gcs_server", "raylet") for info in node.all_processes.get(kind, ())}
    agents: dict[str, Any] = {}
    with contextlib.closing(_Ends()) as ends:
        while this() is node:
            if len(agents) < 2:
                agents = _agents(servers["raylet"].pid)
            for name in ends.among(servers | agents, seconds=0.2):
                if this() is node:
                    _end(f"Ray's {name} has ended{_how(servers[name].wait()) if name in servers else _why(name)}")
    for holder in held:
        holder.close()


def _how(status: int) -> str:
    """How a server ended that has this exit status."""
    return f" with status {status}" if status >= 0 else f" by signal {-status}{WANT_OF_MEMORY if status == -9 else ''}"


def _why(agent: str) -> str:
    """Why an agent may have ended, and the last error that it wrote into its log."""
    words = last_words({"DashboardAgent": "dashboard_agent.log", "RuntimeEnvAgent": "runtime_env_agent.log"}[agent])
    return f"{WANT_OF_MEMORY}; the last error in its log: {words}" if words else WANT_OF_MEMORY


class _Ends:
    """Tells which processes have ended: at once where the kernel can (Linux), else when it looks again."""

    def __init__(self) -> None:
        self._tells = hasattr(os, "pidfd_open")
        self._poll = select.poll()
        self._watched: dict[int, tuple[int, str]] = {}

    def among(self, processes: Mapping[str, Any], seconds: float) -> list[str]:
        """Names of those of ``processes`` that have ended, or end within ``seconds``."""
        if not self._tells:
            time.sleep(seconds)
            return [name for name, process in processes.items() if process.poll() is not None]
        for name, process in processes.items():
            if (process.pid, name) not in self._watched.values():
                try:
                    descriptor = os.pidfd_open(process.pid)
                except ProcessLookupError:
                    return [name]
                except OSError:  # a kernel or a container that does not
                    self._tells = False
                    return []
                self._watched[descriptor] = (process.pid, name)
                self._poll.register(descriptor, select.POLLIN)
        return [self._watched[descriptor][1] for descriptor, _ in self._poll.poll(1000 * seconds)]

    def close(self) -> None:
        """Watch no more."""
        for descriptor in self._watched:
            os.close(descriptor)


def _agents(raylet: int) -> dict[str, Any]:
    """The agents that ``raylet`` has as child processes, by name; none where the system has no /proc."""
    found = {}
    for path in Path(f"/proc/{raylet}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # one that ends meanwhile
            for pid in path.read_text().split():
                name = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0 ").decode(errors="replace")
                if name in ("ray::DashboardAgent", "ray::RuntimeEnvAgent"):
                    found[name.removeprefix("ray::")] = _Agent(int(pid))
    return found


class _Agent(NamedTuple):
    """A process that is no child of this one."""

    pid: int

    def poll(self) -> int | None:
        """As Popen's: None while it runs."""
        return None if Path(f"/proc/{self.pid}").exists() else LOST


def end_without_head(node: Any) -> None:
    """End this process when the head of its cluster is gone, a little before Ray aborts it with a riddle."""
    host, _, port = node.gcs_address.rpartition(":")
    seen = time.monotonic()
    while this() is node:
        try:
            socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()
            seen = time.monotonic()
        except OSError as error:
            if time.monotonic() - seen > HEAD_SECONDS and this() is node:
                _end(f"the head of the cluster, {node.gcs_address}, is gone ({error.strerror or error})")
        time.sleep(2)


def _end(why: str) -> NoReturn:
    sys.stdout.flush()
    print(f"stopped: {why}; the same command goes on from here", file=sys.stderr, flush=True)
    os._exit(LOST)


def last_words(*names: str) -> str | None:
    """The last error in logs of this machine's Ray, None if there is none.

    ``names`` are patterns of files; without any they are those of the raylet and of workers, which tell what a worker
    printed as it ended.
    """
    logs = Path(this().get_logs_dir_path())
    said = [path for name in names or ("raylet.err", "worker-*.err") for path in logs.glob(name) if path.stat().st_size]
    for path in sorted(said, key=lambda path: path.stat().st_mtime, reverse=True):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        errors = [line for line in lines if re.match(r"[A-Za-z_][\w.]*(Error|Exception|Exit|Interrupt)\b", line)]
        if errors:
            return errors[-1]
    return None
