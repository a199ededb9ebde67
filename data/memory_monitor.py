"""Ray's memory monitor, which ends workers of a node whose memory is nearly all in use: its words and its limit.

What is in use counts whoever uses it, so another program on the node can be the reason.
"""

import os
import re

from data import machine

THRESHOLD = 0.95
"""Share of a node's memory above which workers are ended, unless RAY_memory_usage_threshold is another."""

_KILL = re.compile(r"node \(IP: (?P<ip>\S+), ID: (?P<node>\w+)\) was (?P<used>\S+) used / (?P<limit>\S+) limit")


def told(text: str) -> tuple[str, str]:
    """The node's id and a line for people, from Ray's ``text`` about a worker that the monitor has ended.

    Both are as short as can be where the text has changed: no id, no figures.
    """
    found = _KILL.search(text)
    if found is None:
        return "", "the node ran out of memory"
    used = f"{found['used']} of {found['limit']} were in use"
    return found["node"], f"the node {found['ip']} ran out of memory ({used})"


def room() -> int:
    """Bytes that can still be taken on this machine before the monitor of a Ray that runs here ends workers."""
    free = machine.free_memory()
    if os.environ.get("RAY_memory_monitor_refresh_ms") == "0":
        return free
    share = float(os.environ.get("RAY_memory_usage_threshold", THRESHOLD))
    return free - round((1 - share) * machine.total_memory())


def room_and_free() -> tuple[int, int]:
    """:func:`room`, and all the bytes that are free."""
    return room(), machine.free_memory()
