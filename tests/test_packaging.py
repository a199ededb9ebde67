"""Requirements, Python versions and the workflow say the same in setup.cfg, constraints.txt, Makefile and .github."""

import configparser
import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from tests.test_architecture import imports, modules

ROOT = Path(__file__).resolve().parents[1]
WORKFLOW = ROOT / ".github" / "workflows" / "checks.yml"
IMPORTED_AS = {
    "pillow": "PIL",
    "pyyaml": "yaml",
    "scikit-learn": "sklearn",
    "flask": "moto",  # its server's, as the next one
    "flask-cors": "moto",
    "pytest-xdist": None,
    "pytest-timeout": None,
}
"""What a distribution is imported as, where that is not its name; None for one that is never imported."""
NAMED = re.compile(r"(?:^|\s)(\.?[\w.-]+(?:/[\w.-]*)+|Makefile|[\w.-]+\.(?:toml|yaml))")
"""A file or a folder (it ends in a slash) of the repository in a comment of setup.cfg."""


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("lowest", ROOT / ".ci" / "lowest.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


lowest = script()


def setup() -> configparser.ConfigParser:
    parsed = configparser.ConfigParser(interpolation=None)
    parsed.read(ROOT / "setup.cfg")
    return parsed


def numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdigit()]


def pythons() -> list[str]:
    """The versions of setup.cfg's classifiers, oldest first."""
    found = re.findall(r"Programming Language :: Python :: (3\.\d+)", setup()["metadata"]["classifiers"])
    return sorted(found, key=numbers)


def test_every_python_of_setup_cfg_is_tested_and_no_other():
    jobs = yaml.safe_load(WORKFLOW.read_text())["jobs"]
    assert jobs["pinned"]["strategy"]["matrix"]["python"] == pythons()
    oldest = pythons()[0]
    steps = jobs["lowest"]["steps"]
    assert [step["with"]["python-version"] for step in steps if "setup-python" in step.get("uses", "")] == [oldest]
    assert setup()["options"]["python_requires"] == f">={oldest}"
    tools = (ROOT / "pyproject.toml").read_text()
    assert f'target-version = "py{oldest.replace(".", "")}"' in tools
    assert f'python_version = "{oldest}"' in tools


def test_the_workflow_and_ci_run_call_targets_of_the_makefile():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    jobs = yaml.safe_load(WORKFLOW.read_text())["jobs"]
    called = {name: [step["run"] for step in job["steps"] if "run" in step] for name, job in jobs.items()}
    assert called == {"pinned": ["make lint", "make test"], "lowest": ["make test-lowest"]}
    assert {"lint", "test", "test-lowest"} <= targets
    assert re.search(r"^make .*\blint test\b", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert "://" not in WORKFLOW.read_text(), "the address of an index belongs in the repository variable TORCH_INDEX"


def test_lower_bounds_are_not_above_the_pins():
    pinned = [line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line]
    pins = {lowest.key(name): version for name, version in pinned}
    bounds = lowest.lower_bounds((ROOT / "setup.cfg").read_text())
    assert len(bounds) >= 15
    assert {name for name, bound in bounds.items() if numbers(bound) > numbers(pins[name])} == set()


def test_the_lowest_versions_replace_the_pins_and_nothing_else():
    text = "[options]\ninstall_requires =\n  # why\n  a-b[c]>=1.2,<2\n[options.extras_require]\nd =\n  %(e)s\n  f>=3\n"
    pins = "# note\nA_b==1.9\nf==3.4.1\nother==7\n"
    assert lowest.constraints(text, pins) == ["other==7", "a-b==1.2", "f==3"]
    with pytest.raises(ValueError, match="f has no lower bound"):
        lowest.lower_bounds(text.replace("f>=3", "f"))
    with pytest.raises(ValueError, match=r"a-b has two lower bounds, 1\.2 and 1\.1"):
        lowest.lower_bounds(text.replace("f>=3", "a_b>=1.1"))


def requirements() -> Iterator[tuple[str, str]]:
    """``(name, comment above it)`` for each requirement of setup.cfg."""
    section, comment, previous_was_comment = "", "", False
    for line in (ROOT / "setup.cfg").read_text().splitlines():
        text = line.strip()
        if text.startswith("#"):
            comment = f"{comment} {text[1:]}" if previous_was_comment else text[1:]
        elif text.startswith("["):
            section = text
        elif found := re.match(r"([\w.-]+)(\[[\w,-]+\])?>=\d", text):
            if section in ("[options]", "[options.extras_require]"):
                yield found[1], comment
        previous_was_comment = text.startswith("#") or (previous_was_comment and text.endswith("="))


def package(name: str) -> str | None:
    return IMPORTED_AS.get(name, name)


def brings_in(path: Path, name: str) -> bool:
    """Whether a file of Python imports ``name``, or torch's part of that name (``torch.utils.tensorboard``)."""
    return bool(re.search(rf"^\s*(from|import) (torch\.utils\.)?{name}\b", path.read_text(), re.MULTILINE))


@pytest.mark.parametrize(("name", "comment"), list(requirements()))
def test_the_comment_above_a_requirement_names_files_that_use_it(name, comment):
    named = NAMED.findall(comment.rpartition(";")[0] or comment)
    assert named, f"the comment above {name} names no file: {comment}"
    for place in named:
        path = ROOT / place
        assert path.exists(), f"{place}, named above {name}, is gone"
        if path.suffix == ".py" or path.is_dir():
            files = [path] if path.is_file() else path.rglob("*.py")
            assert any(brings_in(file, str(package(name))) for file in files), f"nothing in {place} imports {name}"


def test_what_the_house_imports_is_a_requirement():
    """A library that comes with another one (pandas, say) can leave with it."""
    ours = modules(ROOT)
    foreign = {name.split(".")[0] for module in ours.values() for name in imports(module, ours)}
    foreign -= {"study", "trainables", "search_spaces", "data"} | set(sys.stdlib_module_names)
    assert foreign >= {"ray", "torch", "numpy"}, "the check reads no imports"
    assert foreign - {package(name) for name, _ in requirements()} == set()
