"""Which processes of Ray have ended: real ones, with and without the kernel's help."""

import errno
import os
import subprocess
import sys
import threading
import time

import pytest

from data import ray_node


@pytest.fixture
def processes():
    started = {name: subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) for name in "ab"}
    yield started
    for process in started.values():
        process.kill()
        process.communicate()


@pytest.mark.parametrize("kernel", ["tells", "lacks it", "refuses"])
def test_an_end_is_noticed(processes, kernel, monkeypatch):
    if kernel == "lacks it":
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    elif kernel == "refuses":
        monkeypatch.setattr(os, "pidfd_open", lambda pid: (_ for _ in ()).throw(OSError(errno.ENOSYS, "none")))
    descriptors = len(os.listdir("/proc/self/fd"))
    ends = ray_node._Ends()
    watched = {"a": processes["a"], "b": ray_node._Agent(processes["b"].pid)}
    assert ends.among(watched, seconds=0.1) == []
    threading.Timer(0.5, processes["a"].kill).start()
    begun = time.monotonic()
    while not (ended := ends.among(watched, seconds=60 if kernel == "tells" else 0.1)):
        assert time.monotonic() - begun < 60
    assert ended == ["a"]
    processes["b"].kill()
    processes["b"].wait()
    del watched["a"]
    while ends.among(watched, seconds=0.1) not in (["b"], ["a", "b"]):
        assert time.monotonic() - begun < 60
    ends.close()
    assert len(os.listdir("/proc/self/fd")) <= descriptors


def test_other_children_are_not_taken_for_agents(processes):
    assert ray_node._agents(os.getpid()) == {}
