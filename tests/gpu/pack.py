"""A pack: what the study needs and a bare GPU machine lacks, in one file that travels with the checkout.

``build`` runs where there is network. It reads what to take from the wheels' own METADATA, beginning with setup.cfg.
``unpack`` runs on the machine: it lays the files out beside a Python environment that sees them and all that the
machine has. So ``study/run.py``, pytest and Ray's workers need no PYTHONPATH.
"""

import configparser
import email
import importlib.metadata
import io
import re
import site
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
ARCHIVE = "site.tar.xz"
LARGEST = 60 * 2**20
"""Bytes that a pack may have; checkout and pack together travel in 64 MiB."""

PYTHON = "3.12"
PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014", "manylinux1")

MACHINE = frozenset(
    "absl-py attrs certifi charset-normalizer click cloudpickle coverage execnet filelock fsspec grpcio idna iniconfig "
    "jinja2 joblib markdown markdown-it-py markupsafe mdurl msgpack narwhals networkx numpy packaging pandas pillow "
    "pluggy prometheus-client protobuf psutil pyarrow pygments pytest pytest-timeout pytest-xdist python-dateutil "
    "pyyaml requests rich safetensors scikit-learn scipy setuptools six sympy tensorboard tensorboard-data-server "
    "threadpoolctl torch tqdm typer typing-extensions urllib3 werkzeug wrapt".split()
)
"""What the machine has of the packages that could be wanted, as read on such a machine on 2026-11-17."""

DROPPED = ("ray/jars/", "ray/rllib/", "ray/serve/", "ray/llm/", "ray/dashboard/client/", "ray/cpp/")
"""Folders that Ray Tune never opens: Java, C++, other libraries and the dashboard's page."""

Fetch = Callable[[Requirement], Path]
"""From a requirement to a wheel that meets it."""


def build(folder: Path, say: Callable[[str], None] = print) -> Path:
    """Write the pack into ``folder`` and say its size. Raises ValueError if it is too large or a wheel is not there."""
    with tempfile.TemporaryDirectory() as scratch:
        wheels = list(collect(wanted((ROOT / "setup.cfg").read_text()), MACHINE, downloaded_to(Path(scratch))))
        folder.mkdir(parents=True, exist_ok=True)
        path = archive(wheels, folder / ARCHIVE)
        for wheel in wheels:
            say(f"  {wheel.name}")
    size = path.stat().st_size
    if size > LARGEST:
        path.unlink()
        raise ValueError(f"the pack would have {size / 2**20:.1f} MiB, more than {LARGEST >> 20}; drop more of it")
    say(f"{path}: {len(wheels)} wheels, {size / 2**20:.1f} MiB of at most {LARGEST >> 20}")
    return path


def wanted(setup: str) -> list[Requirement]:
    """What the ``setup`` of a setup.cfg installs with its extra ``cmaes``."""
    parsed = configparser.ConfigParser(interpolation=None)
    parsed.read_string(setup)
    lines = parsed["options"]["install_requires"] + "\n" + parsed["options.extras_require"]["cmaes"]
    return [Requirement(line) for line in lines.splitlines() if line.strip() and not line.startswith("#")]


def collect(roots: Iterable[Requirement], has: frozenset[str], fetch: Fetch) -> Iterator[Path]:
    """The wheels of ``roots`` and of all that they need, but for the names that the machine ``has``."""
    queue, seen = list(roots), set()
    while queue:
        requirement = queue.pop(0)
        name = canonicalize_name(requirement.name)
        if name in has or (name, *sorted(requirement.extras)) in seen:
            continue
        known = any(name == other[0] for other in seen)
        seen.add((name, *sorted(requirement.extras)))
        wheel = fetch(requirement)
        queue += needs(metadata(wheel), requirement.extras)
        if not known:
            yield wheel


def needs(lines: Iterable[str], extras: Iterable[str]) -> Iterator[Requirement]:
    """The requirements among ``lines`` of Requires-Dist that hold on the machine, with these ``extras``."""
    machine = {**default_environment(), "python_version": PYTHON, "python_full_version": f"{PYTHON}.3"}
    machine |= {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64", "os_name": "posix"}
    for line in lines:
        requirement = Requirement(line)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({**machine, "extra": extra}) for extra in ("", *extras)):
            yield requirement


def metadata(wheel: Path) -> list[str]:
    """The lines of Requires-Dist of ``wheel``."""
    with zipfile.ZipFile(wheel) as content:
        (name,) = (name for name in content.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
        return email.message_from_bytes(content.read(name)).get_all("Requires-Dist") or []


def downloaded_to(folder: Path) -> Fetch:
    """A Fetch that downloads with pip, in the versions of constraints.txt. It raises ValueError."""

    def fetch(requirement: Requirement) -> Path:
        place = folder / canonicalize_name(requirement.name)
        if not place.exists():
            asked = f"{requirement.name}{requirement.specifier}"
            command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"]
            command += ["--python-version", PYTHON, "--implementation", "cp", "-c", str(ROOT / "constraints.txt")]
            command += [part for platform in PLATFORMS for part in ("--platform", f"{platform}_x86_64")]
            done = subprocess.run([*command, "-d", str(place), asked], capture_output=True, text=True)
            if done.returncode:
                raise ValueError(f"no wheel of {asked}: {done.stderr.strip().splitlines()[-1]}")
        (wheel,) = place.iterdir()
        return wheel

    return fetch


def archive(wheels: Iterable[Path], path: Path) -> Path:
    """Write the files of ``wheels`` that :func:`laid_out` keeps into the tar file ``path``."""
    with tarfile.open(path, "w:xz", preset=6) as packed:
        for wheel in wheels:
            with zipfile.ZipFile(wheel) as content:
                for info in content.infolist():
                    name = laid_out(info.filename)
                    if name is not None:
                        entry = tarfile.TarInfo(name)
                        entry.size, entry.mode = info.file_size, (info.external_attr >> 16) & 0o777 or 0o644
                        packed.addfile(entry, io.BytesIO(content.read(info)))
    return path


def laid_out(name: str) -> str | None:
    """Where the file ``name`` of a wheel belongs in site-packages; None for one that is left out."""
    if name.endswith("/") or name.startswith(DROPPED):
        return None
    data = re.fullmatch(r"[^/]+\.data/(\w+)/(.+)", name)
    if data is None:
        return name
    return data[2] if data[1] in ("purelib", "platlib") else None


def unpack(folder: Path, to: Path) -> Path:
    """Lay the pack in ``folder`` out in the folder ``to``; the Python to run with it. Raises ValueError."""
    path = folder / ARCHIVE
    if not path.is_file():
        raise ValueError(
            f"no pack in {folder}, and Ray is not installed here; make one where there is network: "
            f"python -m tests.gpu --pack {folder}"
        )
    files = to / "site"
    with tarfile.open(path) as packed:
        packed.extractall(files, filter="data")
    venv.create(to / "environment", symlinks=True)
    (own,) = (to / "environment" / "lib").glob("python*/site-packages")
    # addsitedir, unlike a plain line, reads the .pth files there, too
    places = [str(files.resolve()), *site.getsitepackages()]
    (own / "pack.pth").write_text("".join(f"import site; site.addsitedir({place!r})\n" for place in places))
    return to / "environment" / "bin" / "python"


def unmet(files: Path) -> list[str]:
    """What the packages in ``files`` need and neither have themselves nor find on this machine, one line each."""
    there = {
        canonicalize_name(d.name): d.version for d in importlib.metadata.distributions(path=[str(files), *sys.path])
    }
    lines = []
    for distribution in importlib.metadata.distributions(path=[str(files)]):
        for requirement in needs(distribution.requires or [], ["tune"] if distribution.name == "ray" else []):
            version = there.get(canonicalize_name(requirement.name))
            if version is None or not requirement.specifier.contains(version, prereleases=True):
                lines.append(f"{distribution.name} needs {requirement.name}{requirement.specifier}, found {version}")
    return lines
