"""Ray nodes on this machine that look like hosts: each has a name, an address and, if asked for, disks of its own.

A node is a raylet in its own namespaces (processes, mounts, host name), on an address of the loopback network. When its
first process is killed, the kernel kills all others at once, as a power cut does.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from data.held_ports import held_ports

ROOT = Path(__file__).resolve().parents[3]
START_ATTEMPTS = 3
"""Ray gives a node 30 s to start. That is too short on a machine that is busy with other work."""

NAMESPACES = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--uts"]
if os.getuid():
    NAMESPACES.append("--map-root-user")
ENVIRONMENT = {
    **{key: value for key, value in os.environ.items() if not key.startswith("RAY_")},
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    "RAY_worker_niceness": "0",  # as in tests/conftest.py
    "PYTHONPATH": str(ROOT),
    "RAY_AUTH_MODE": "disabled",
    "OMP_NUM_THREADS": "1",
    # Ray notices a lost node after a few seconds.
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_failure_threshold": "5",
    "RAY_PROFILING": "1",  # for ray.timeline()
}


def available() -> bool:
    """Whether this user may make namespaces here."""
    found = shutil.which("unshare")
    return found is not None and subprocess.run([*NAMESPACES, "true"], capture_output=True).returncode == 0


class VirtualCluster:
    """A head and nodes; ``node-1`` is the head."""

    def __init__(self, *, cpus: float = 1, store: int = 150 * 2**20):
        self.folder = Path(tempfile.mkdtemp(prefix="vn", dir="/tmp"))  # short, for the sockets in it
        self.nodes: dict[str, subprocess.Popen] = {}
        self._started = 0
        (port, client, dashboard), self._held = held_ports(3)
        self.address = f"127.0.0.1:{port}"
        self._start(
            cpus,
            store,
            *("--head", f"--port={port}", f"--ray-client-server-port={client}", f"--dashboard-port={dashboard}"),
            *("--include-dashboard=false", f"--temp-dir={self.folder}"),
        )

    def add(self, *, cpus: float = 1, store: int = 150 * 2**20, gpus: int = 0, before: str = "true") -> str:
        """Start another node and return its name. Its shell first runs ``before``, as root of its namespaces."""
        return self._start(cpus, store, f"--address={self.address}", f"--num-gpus={gpus}", before=before)

    def kill(self, name: str) -> None:
        """Kill a node as a power cut does."""
        process = self.nodes.pop(name)
        process.kill()
        process.wait()

    def close(self) -> None:
        """Kill all nodes."""
        for name in reversed(list(self.nodes)):
            self.kill(name)
        for holder in self._held:
            holder.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self, cpus: float, store: int, *flags: str, before: str = "true") -> str:
        self._started += 1
        name = f"node-{self._started}"
        shell = f'hostname {name} && {before} && exec "$@"'
        log = self.folder / f"{name}.log"
        for _ in range(START_ATTEMPTS):
            (agent, grpc, metrics), held = held_ports(3)
            self._held += held
            command = [
                *("ray", "start", "--block", "--disable-usage-stats", f"--num-cpus={cpus:g}"),
                *(f"--object-store-memory={store}", f"--node-ip-address=127.0.0.{self._started}"),
                *("--min-worker-port=0", "--max-worker-port=0"),
                *(f"--dashboard-agent-listen-port={agent}", f"--dashboard-agent-grpc-port={grpc}"),
                *(f"--metrics-export-port={metrics}", *flags),
            ]
            with log.open("w") as out:
                self.nodes[name] = subprocess.Popen(
                    [*NAMESPACES, "sh", "-c", shell, "sh", *command],
                    env=ENVIRONMENT,
                    cwd="/",
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            while self.nodes[name].poll() is None:
                if "Ray runtime started" in log.read_text():
                    return name
                time.sleep(0.1)
        raise RuntimeError(f"{name} did not start:\n{log.read_text()}")


@contextlib.contextmanager
def virtual_cluster(**head: int) -> Iterator[VirtualCluster]:
    """A VirtualCluster that is closed afterwards."""
    cluster = VirtualCluster(**head)
    try:
        yield cluster
    finally:
        cluster.close()
