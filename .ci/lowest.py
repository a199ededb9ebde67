"""Print constraints.txt with the lower bounds of setup.cfg in place of the pins of our direct dependencies.

`make test-lowest` installs with them. What our dependencies need in turn stays pinned, so that a failure comes from
a lower bound and not from a release of that day.
"""

import configparser
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def key(name: str) -> str:
    """One spelling for ``pre-commit`` and ``pre_commit``."""
    return re.sub(r"[-_.]+", "-", name).lower()


def lower_bounds(setup_cfg: str) -> dict[str, str]:
    """``{name: version}`` for each requirement ``name[extra]>=version,...`` of all extras.

    ValueError if a requirement has no lower bound, or a name two different ones.
    """
    setup = configparser.ConfigParser(interpolation=None)
    setup.read_string(setup_cfg)
    lists = [setup["options"]["install_requires"], *setup["options.extras_require"].values()]
    lowest: dict[str, str] = {}
    for requirement in "\n".join(lists).split():
        if requirement.startswith("%("):
            continue
        found = re.match(r"([\w.-]+)(?:\[[\w,-]+\])?>=([\w.]+)", requirement)
        if found is None:
            raise ValueError(f"setup.cfg: {requirement} has no lower bound; write it as name>=version")
        name, version = key(found[1]), found[2]
        if lowest.setdefault(name, version) != version:
            raise ValueError(f"setup.cfg: {name} has two lower bounds, {lowest[name]} and {version}; keep one")
    return lowest


def constraints(setup_cfg: str, pins: str) -> list[str]:
    """The lines of ``pins`` without those of direct dependencies, then one line ``name==lower bound`` for each."""
    lowest = lower_bounds(setup_cfg)
    kept = [line for line in pins.splitlines() if "==" in line and key(line.split("==")[0]) not in lowest]
    return [*kept, *(f"{name}=={version}" for name, version in lowest.items())]


if __name__ == "__main__":
    print("\n".join(constraints((ROOT / "setup.cfg").read_text(), (ROOT / "constraints.txt").read_text())))
