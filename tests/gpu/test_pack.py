"""Which wheels and files a pack holds, and a Python that sees them."""

import subprocess
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.gpu import pack


def wheel(folder: Path, name: str, needs: list[str], files: dict[str, str]) -> Path:
    path = folder / f"{name}-1.0-py3-none-any.whl"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.0", *(f"Requires-Dist: {need}" for need in needs)]
    with zipfile.ZipFile(path, "w") as content:
        content.writestr(f"{name}-1.0.dist-info/METADATA", "\n".join(lines) + "\n")
        for file, text in files.items():
            content.writestr(file, text)
    return path


@pytest.fixture
def index(tmp_path):
    """Four wheels: ray needs the machine's numpy, and with its extra tune a library that needs another."""
    folder = tmp_path / "index"
    folder.mkdir()
    ray = ["numpy", "board>=1; extra == 'tune'", "server; extra == 'serve'", "old; python_version < '3.12'"]
    files = {"ray/__init__.py": "", "ray/jars/x.jar": "", "ray/core/gcs": "", "ray/rllib/__init__.py": ""}
    return {
        "ray": wheel(folder, "ray", ray, files),
        "board": wheel(folder, "board", ["Deep_Er"], {"board.py": "name = 'packed'"}),
        "deep-er": wheel(folder, "deep_er", ["ray"], {"deep_er-1.0.data/purelib/deep.py": ""}),
    }


def collected(index, roots):
    return [path.name.split("-")[0] for path in pack.collect(roots, frozenset({"numpy"}), lambda r: found(index, r))]


def found(index, requirement):
    return index[requirement.name.lower().replace("_", "-")]


def test_all_that_is_needed_and_not_there_is_collected_once(index):
    assert collected(index, [Requirement("ray")]) == ["ray"]
    assert collected(index, [Requirement("ray[tune]"), Requirement("numpy>=2")]) == ["ray", "board", "deep_er"]
    assert collected(index, [Requirement("ray"), Requirement("ray[tune]")]) == ["ray", "board", "deep_er"]


def test_setup_cfg_asks_for_ray_with_tune_and_for_cmaes():
    wanted = {
        requirement.name: requirement.extras for requirement in pack.wanted((pack.ROOT / "setup.cfg").read_text())
    }
    assert wanted["ray"] == {"tune"}
    assert {"optuna", "cyclopts", "cmaes", "torch"} <= set(wanted)
    assert not {"pytest", "plotly", "ruff"} & set(wanted)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("ray/core/src/ray/gcs/gcs_server", "ray/core/src/ray/gcs/gcs_server"),
        ("ray/dashboard/agent.py", "ray/dashboard/agent.py"),
        ("ray/dashboard/client/build/index.html", None),
        ("ray/jars/ray_dist.jar", None),
        ("ray/rllib/", None),
        ("x-1.0.data/platlib/x.so", "x.so"),
        ("x-1.0.data/scripts/x", None),
    ],
)
def test_what_ray_tune_never_opens_is_left_out(name, place):
    assert pack.laid_out(name) == place


def test_an_unpacked_python_sees_the_pack_and_the_machine(index, tmp_path):
    wheels = list(pack.collect([Requirement("ray[tune]")], frozenset({"numpy"}), lambda r: found(index, r)))
    (tmp_path / "packed").mkdir()
    pack.archive(wheels, tmp_path / "packed" / pack.ARCHIVE)
    python = pack.unpack(tmp_path / "packed", tmp_path / "place")
    code = "import board, deep, numpy, sys; print(board.name, numpy.__file__, sys.executable)"
    said = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path).stdout.split()
    assert said[0] == "packed" and said[2] == str(python)
    assert not (tmp_path / "place" / "site" / "ray" / "jars").exists()


def test_needs_that_nobody_meets_are_named(tmp_path):
    place = tmp_path / "site"
    place.mkdir()
    with zipfile.ZipFile(wheel(tmp_path, "board", ["no-such-thing>=2", "numpy>=1", "numpy>999"], {})) as content:
        content.extractall(place)
    missing, old = pack.unmet(place)
    assert missing == "board needs no-such-thing>=2, found None"
    assert old.startswith("board needs numpy>999, found ")


def test_a_pack_that_is_too_large_is_refused(index, tmp_path, monkeypatch):
    monkeypatch.setattr(pack, "LARGEST", 10)
    monkeypatch.setattr(pack, "downloaded_to", lambda folder: lambda requirement: found(index, Requirement("ray")))
    with pytest.raises(ValueError, match=r"the pack would have .* MiB"):
        pack.build(tmp_path / "packed")
    assert not (tmp_path / "packed" / pack.ARCHIVE).exists()
