"""A folder of one's own with models, search spaces, data sets and metrics, which are found as if they were ours.

``use`` does for a folder that ``--plugins`` names what Python does for one on PYTHONPATH. Needs no torch.
"""

import importlib
import os
import pkgutil
import sys
from pathlib import Path

PLACES = ("trainables", "search_spaces", "data.sources", "trainables.own_metrics")
"""Packages whose files are found by their names. Each looks into folders of its name on the path."""

SENT_FROM = "CLEVRTUNE_PLUGINS"
"""Environment variable of a job with files from such a folder: where it lies at home."""

_ROOT = Path(__file__).resolve().parents[1]


def use(folder: str | Path) -> str:
    """Let this process, and those that it starts, find what lies in ``folder``; its absolute path.

    Raises ValueError if it holds nothing, or a file that one of ours hides.
    """
    path = Path(folder).expanduser().resolve()
    if not path.is_dir():
        raise ValueError(f"--plugins {folder}: there is no such folder")
    found = files(path)
    if not found:
        needed = ", ".join(f"{_inside(place)}/NAME.py" for place in PLACES)
        raise ValueError(f"--plugins {folder} holds no file of yours; give a folder with {needed}")
    for one in found:
        ours = _ROOT / one
        if ours != path / one and (ours.exists() or ours.with_suffix("").is_dir()):
            raise ValueError(f"--plugins {folder}: {one} has a name of ours, which would hide it; rename it")
    if str(path) not in sys.path:
        sys.path.append(str(path))
    for place in ("data", *PLACES):
        package = importlib.import_module(place)
        package.__path__[:] = pkgutil.extend_path(package.__path__, place)
    inherited = list(filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)))
    if str(path) not in inherited:
        os.environ["PYTHONPATH"] = os.pathsep.join([*inherited, str(path)])  # of Ray and its workers
    return str(path)


def use_if_given(folder: str | None) -> None:
    """:func:`use` the value of a flag --plugins, None where it is left out. Raises ValueError."""
    if folder is not None:
        use(folder)


def used() -> list[Path]:
    """The folders with files of one's own that processes started by this one find: those on PYTHONPATH."""
    named = [Path(one).resolve() for one in os.environ.get("PYTHONPATH", "").split(os.pathsep) if one]
    return [path for path in named if path != _ROOT and files(path)]


def files(folder: Path) -> list[Path]:
    """What ``folder`` adds to our packages, relative to it: files, and the ``__init__.py`` of packages."""
    found = []
    for place in PLACES:
        inside = folder / _inside(place)
        for path in sorted([*inside.glob("*.py"), *inside.glob("*/__init__.py")]):
            package = path.parent if path.name == "__init__.py" else path
            if package != inside and package != folder / _inside("trainables.own_metrics"):
                found.append(path.relative_to(folder))
    return found


def everything(folder: Path) -> list[Path]:
    """All that belongs to the :func:`files` of ``folder``: what a job takes along."""
    found = []
    for one in files(folder):
        parts = (folder / one).parent.rglob("*") if one.name == "__init__.py" else [folder / one]
        found += [path for path in sorted(parts) if path.is_file() and "__pycache__" not in path.parts]
    return found


def _inside(place: str) -> str:
    return place.replace(".", "/")
