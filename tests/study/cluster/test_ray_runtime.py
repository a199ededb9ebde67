"""Ray itself, started and looked for: each case in a process of its own, with a real Ray or none."""

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from data.held_ports import held_ports
from study.results_folder import ROOT

START = """
import os, signal, sys
from data import stop_signals
from study.cluster import ray_runtime
with stop_signals.calling():
    ours = signal.getsignal(signal.SIGTERM)
    ray_runtime.start(None)
    assert signal.getsignal(signal.SIGTERM) is ours
import ray
from tests.faults.session import below
listening = {line.split()[9]: line.split()[1].partition(":")[0]
             for table in ("tcp", "tcp6") for line in open(f"/proc/net/{table}") if line.split()[3] == "0A"}
mine = {os.getpid()} | below(os.getpid())
sockets = [os.readlink(entry) for pid in mine for entry in os.scandir(f"/proc/{pid}/fd")]
places = {listening[name[8:-1]] for name in sockets if name.startswith("socket:[") and name[8:-1] in listening}
assert places and all(place.endswith("0100007F") for place in places), places
assert os.getpgrp() not in map(os.getpgid, mine - {os.getpid()})

@ray.remote
def seen():
    import data, of_the_user
    return [data.__file__, of_the_user.WORD]

print(int(ray.cluster_resources()["CPU"]), *ray.get(seen.remote()))
"""


UV = """
import os, subprocess
raise SystemExit(subprocess.run([os.environ["REAL"], "-c", os.environ["SCRIPT"]]).returncode)
"""
"""For Ray this is ``uv run``: a parent with these words as its command line."""


@pytest.mark.ray
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_a_ray_of_our_own_takes_the_cores_and_the_python_path_that_it_was_given(tmp_path: Path) -> None:
    """A data.py on PYTHONPATH must not stand before ours; what else is there must be found.

    Ray listens on loopback, is in other process groups, leaves the signals alone, and copies no environment of uv's.
    """
    (tmp_path / "of_the_user.py").write_text("WORD = 'found'")
    (tmp_path / "data.py").write_text("raise SystemExit('the wrong data')")
    script = f"import os; os.sched_setaffinity(0, [{min(os.sched_getaffinity(0))}])\n{START}"
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "run").write_text(UV)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    environment |= {"REAL": sys.executable, "SCRIPT": script}
    here = {"cwd": tmp_path / "here", "env": environment}
    run = subprocess.run(["uv", "run"], executable=sys.executable, capture_output=True, text=True, **here)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == ["1", str(ROOT / "data" / "__init__.py"), "found"]


def refused(address: str) -> str:
    """What ``start`` says of an address, in a process of its own: here Ray may have been started by another test."""
    script = "import sys\nfrom study.cluster import ray_runtime\ntry:\n    ray_runtime.start(sys.argv[1])\n"
    script += "except ValueError as error:\n    print(error)"
    run = subprocess.run([sys.executable, "-c", script, address], cwd=ROOT, capture_output=True, text=True)
    assert run.stdout.count("\n") == 1 and address in run.stdout, run.stderr
    return run.stdout


@pytest.mark.parametrize(
    "address", ["127.0.0.1:{port}", "ray://127.0.0.1:{port}", "no.host.invalid:1", "127.0.0.1:99999"]
)
def test_an_address_where_nothing_listens_is_one_line_at_once(address: str) -> None:
    (port,), _held = held_ports(1)
    assert "nothing answers there" in refused(address.format(port=port))


@pytest.mark.parametrize("speaks", [b"", b"HTTP/1.0 400 Bad Request\r\n\r\n"])
def test_an_address_that_is_no_ray_is_one_line_within_seconds(speaks: bytes) -> None:
    """Ray itself waits for minutes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        if not speaks:
            assert "nothing answers there" in refused(address)
            return
        threading.Thread(target=lambda: server.accept()[0].sendall(speaks), daemon=True).start()
        assert "what answers there is no Ray" in refused(address)


@pytest.mark.parametrize("address", ["head", "http://head:8265"])
def test_an_address_that_is_none_is_one_line(address: str) -> None:
    refused(address)


def test_a_ray_that_does_not_start_is_tried_again_and_then_one_line(tmp_path: Path) -> None:
    """Its folder cannot be made: a file is in the way."""
    (tmp_path / "file").write_text("")
    script = """
import ray
from study.cluster import ray_runtime
real, tries = ray.init, []
ray.init = lambda **given: tries.append(1) or real(**given)
try:
    ray_runtime.start(None)
except ValueError as error:
    print(len(tries), error)
"""
    environment = {**os.environ, "RAY_TMPDIR": str(tmp_path / "file"), "PYTHONPATH": str(ROOT)}
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert run.stdout.startswith("2 Ray did not start on this machine: "), run.stderr
    assert run.stdout.count("\n") == 1
