"""What this process may use of its machine: fewer cores and less memory under ``taskset``, Slurm or in a container."""

import contextlib
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def usable_cores() -> int:
    """Cores by the process's affinity and the quota of its cgroup, at least one."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(allowed, int(quota(CGROUP) or allowed)))


def quota(cgroup: Path) -> float | None:
    """Cores that the control group mounted at ``cgroup`` grants, version 2 or 1; None without a limit."""
    for amount_file, period_file in (("cpu.max", None), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            amount, *rest = (cgroup / amount_file).read_text().split()
            period = rest[0] if period_file is None else (cgroup / period_file).read_text()
            if amount not in ("max", "-1"):
                return float(amount) / float(period)
        except (OSError, ValueError, IndexError):
            continue
    return None


def total_memory() -> int:
    """Bytes of memory that this machine, or its container, has."""
    total = _meminfo()["MemTotal"]
    with contextlib.suppress(OSError, ValueError):  # "max", or no such group
        total = min(total, int((CGROUP / "memory.max").read_text()))
    return total


def free_memory() -> int:
    """Bytes that processes on this machine, or in its container, can still take."""
    free = _meminfo()["MemAvailable"]
    with contextlib.suppress(OSError, ValueError, KeyError):  # "max", or no such group
        limit, used = (int((CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        cache = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
        free = min(free, limit - used + int(cache["inactive_file"]))
    return max(0, free)


def _meminfo() -> dict[str, int]:
    """The entries of /proc/meminfo in bytes."""
    with open("/proc/meminfo") as lines:
        return {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines)}
