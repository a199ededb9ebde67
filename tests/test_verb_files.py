"""One more rule of the house (see ``test_architecture.py``): what may lie at the top of study/."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_architecture import ROOT, modules, write

WHAT_A_STUDY_IS = {"config", "presets", "results_folder", "command_line"}
"""Files at the top of study/ that answer no verb."""


def the_hall_is_small(root: Path) -> Iterator[str]:
    """At the top of study/ lies a file per verb of ``clevrtune``, and what a study is; the rest is in rooms."""
    ours = modules(root)
    answer = {module for module, _ in verbs(root).values()}
    for module in ours.values():
        if module.path.parent == root / "study" and module.path.name != "__init__.py":
            if module.name not in answer and module.part not in WHAT_A_STUDY_IS:
                yield f"{module.name} answers no verb of clevrtune; put it into a room"
    yield from (f"{name}, named in VERBS, is not there" for name in sorted(answer - set(ours)))


def verbs(root: Path) -> dict[str, tuple[str, str]]:
    """VERBS of study/command_line.py, read from the source of the house at ``root``."""
    tree = ast.parse((root / "study" / "command_line.py").read_text())
    assigned = {ast.unparse(node.targets[0]): node.value for node in tree.body if isinstance(node, ast.Assign)}
    table: dict[str, tuple[str, str]] = ast.literal_eval(assigned["VERBS"])
    return table


def test_the_house_keeps():
    assert not "\n".join(the_hall_is_small(ROOT)), the_hall_is_small.__doc__


SOUND_HOUSE = {
    "study/__init__.py": "",
    "study/run.py": "",
    "study/config.py": "",
    "study/search/tune.py": "",
    "study/command_line.py": "VERBS = {'run': ('study.run', 'tune'), 'convert': ('data.convert', 'convert')}",
    "data/convert.py": "",
}


@pytest.mark.parametrize(
    "files",
    [
        {"study/timing.py": ""},
        {"study/timing/__init__.py": ""},
        {"study/command_line.py": "VERBS = {'run': ('study.run', 'a'), 'convert': ('data.a', 'b')}", "data/b.py": ""},
    ],
)
def test_a_planted_violation_is_caught(files, tmp_path):
    for path, text in SOUND_HOUSE.items():
        write(tmp_path / path, text)
    assert list(the_hall_is_small(tmp_path)) == []
    for path, text in files.items():
        write(tmp_path / path, text)
    caught = list(the_hall_is_small(tmp_path))
    assert bool(caught) == ("study/timing/__init__.py" not in files), "a package is a room"
