"""What travels to a cluster with a job: the code, and what its processes get besides their node's image."""

import configparser
import os
import re
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

from data import plugins
from study import results_folder
from study.cluster import ray_runtime
from study.results_folder import PACKAGES, ROOT

LARGEST_PACKAGE = 100 * 2**20
"""Bytes that Ray's job server accepts in one request (ray_constants.DASHBOARD_CLIENT_MAX_SIZE)."""

STOP_SECONDS = 120
"""Time that a stopped study gets to save its trials and write its report; Ray's own is 3 s."""


def files(root: Path = ROOT) -> Iterator[Path]:
    """The files that a job needs: those of our packages in folders with Python code, and what pip reads,
    where there is a checkout.

    Folders of data sets, shards and results hold no code, so they stay here, wherever in the checkout they are.
    """
    yield from (path for name in ("setup.cfg", "constraints.txt") if (path := root / name).is_file())
    for package in PACKAGES:
        for folder, _, names in os.walk(root / package):
            if any(name.endswith(".py") for name in names):
                found = (Path(folder, name) for name in sorted(names))
                yield from (path for path in found if path.is_file())  # an editor's lock file is a broken link


def write(target: Path, root: Path = ROOT, own: str | None = None) -> None:
    """Write the zip that becomes the job's working directory; what the folder ``own`` of --plugins adds is among ours.

    Raises ValueError if Ray would not take it.
    """
    sizes: dict[Path, int] = {}
    found = list(files(root))
    for path in found:
        folder = path.parent.relative_to(root)
        sizes[folder] = sizes.get(folder, 0) + path.stat().st_size
    if sum(sizes.values()) > LARGEST_PACKAGE:
        largest = sorted(sizes, key=lambda folder: -sizes[folder])[:3]
        named = ", ".join(f"{folder}/ {sizes[folder] / 2**20:.1f} MiB" for folder in largest)
        raise ValueError(
            f"the code that would travel takes {sum(sizes.values()) / 2**20:.1f} MiB, and Ray takes "
            f"{LARGEST_PACKAGE >> 20} MiB; move what is not code out of the largest folders: {named}"
        )
    with ZipFile(target, "w", ZIP_DEFLATED, strict_timestamps=False) as archive:  # Nix dates files to 1970
        for path in found:
            archive.write(path, path.relative_to(root))
        for path in plugins.everything(Path(own)) if own is not None else ():
            archive.write(path, path.relative_to(own))  # type: ignore[arg-type]


def requirements(root: Path = ROOT, log: Sequence[str] = ()) -> list[str]:
    """The direct dependencies of setup.cfg, and of the extras that --log names, at the versions of constraints.txt; not
    Ray, which the cluster has.

    Without a checkout those of the installed package, at the versions that are installed here; what --log names and is
    not installed here in any version that setup.cfg allows.
    """
    if not (root / "setup.cfg").is_file():  # of an installed clevrtune, as they are installed here
        wanted = [re.split(" *; *extra == ", line) for line in metadata.requires("clevrtune") or []]
        lines = [line for line, *extra in wanted if not extra or extra[0].strip("'\"") in log]
        pins = {name: version for line in lines if (version := _installed(name := _name(line)))}
    else:
        setup = configparser.ConfigParser(interpolation=None)
        setup.read(root / "setup.cfg")
        extras = setup["options.extras_require"]
        groups = [setup["options"]["install_requires"], *(extras[name] for name in ("report", "cmaes", *log))]
        lines = [line for group in groups for line in group.splitlines() if line and not line.startswith("#")]
        pinned = (root / "constraints.txt").read_text().splitlines()
        pins = dict(line.split("==") for line in pinned if "==" in line)
    return [
        f"{name}=={pins[name]}" if (name := _name(line)) in pins else line for line in lines if _name(line) != "ray"
    ]


def _name(requirement: str) -> str:
    return re.split(r"[\[<>=!~; ]", requirement)[0]


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def needed(log: Sequence[str] = ()) -> list[str]:
    """What a job cannot do without: Ray, and :func:`requirements` without the extras but those that --log names."""
    names = ["ray", *map(_name, requirements(log=log))]
    return [name for name in names if name not in ("plotly", "cmaes")]


def runtime_env(package: Path, *, pip: bool, own: str | None = None, log: Sequence[str] = ()) -> dict[str, Any]:
    """What the job's processes get besides their node's image; ``own`` is where the files of --plugins lie here, and
    ``log`` is what --log names.
    """
    environment = {
        **ray_runtime.QUIET,
        "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS),
        "COLUMNS": "120",  # tables in the log; there is no terminal to ask
    }
    if own is not None:
        environment[plugins.SENT_FROM] = own
    if revision := results_folder.git_revision():
        environment["CLEVRTUNE_GIT_REVISION"] = revision
    return {
        "working_dir": str(package),
        "env_vars": environment,
        **({"pip": {"packages": requirements(log=log), "pip_check": False}} if pip else {}),
    }
