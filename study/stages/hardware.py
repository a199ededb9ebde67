"""On what machines a session runs, in a line for its record."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

CPUINFO = Path("/proc/cpuinfo")


def hardware(nodes: Iterable[Mapping[str, Any]]) -> str:
    """``nodes`` are rows of ``ray.nodes()`` that are alive; the CPU's name is that of this machine."""
    kinds = Counter(_kind(node["Resources"]) for node in nodes)
    name = cpu()
    return ", ".join(f"{count} x {kind}" for kind, count in kinds.items()) + (f" ({name} here)" if name else "")


def cpu(file: Path = CPUINFO) -> str:
    """The name of this machine's CPU; empty where the system does not tell."""
    try:
        lines = file.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return next((" ".join(line.partition(":")[2].split()) for line in lines if line.startswith("model name")), "")


def _kind(resources: Mapping[str, float]) -> str:
    """A node as people read it: '8 CPUs', '16 CPUs and 1 H200 GPU'."""
    cpus, gpus = resources.get("CPU", 0), resources.get("GPU", 0)
    words = f"{cpus:g} CPU{'s' * (cpus != 1)}"
    types = [key.partition(":")[2] for key in resources if key.startswith("accelerator_type:")]
    return f"{words} and {gpus:g} {' '.join([*types, 'GPU'])}{'s' * (gpus != 1)}" if gpus else words
