"""One more rule of the house (see ``test_architecture.py``): only its source file names a data set."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_architecture import ROOT, imports, modules, write

HOME = "data.sources."
ALSO_WORDS = {"images"}
"""Names for data sets that mean something else, too: only imports of these are looked at."""


def data_sets_are_named_elsewhere(root: Path) -> Iterator[str]:
    """What differs between data sets is said in ``data/sources``; docstrings and help texts may give examples.

    A source imports no other one.
    """
    ours = modules(root)
    sources = {name.split(".")[2] for name in ours if name.startswith(HOME)}
    for module in ours.values():
        own = module.name.split(".")[2] if module.name.startswith(HOME) else None
        for name in imports(module, ours):
            if name.startswith(HOME) and name.split(".")[2] != own:
                yield f"{module.name} imports {name}"
        if own:
            continue
        statements = [node for node in module.tree.body if not (module.name == "data.source" and is_default(node))]
        for line, text in spoken(ast.Module(statements, [])):
            for name in sources - ALSO_WORDS:
                if re.search(rf"(?<![a-z0-9]){name}(?![a-z0-9])", text.lower()):
                    yield f"{module.name}:{line} names {name}"


def is_default(node: ast.stmt) -> bool:
    """Whether ``node`` is ``DEFAULT = ...``: the data set of a study that names none."""
    return isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "DEFAULT"


def spoken(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and text of each name and string under ``tree``, without docstrings and help texts."""
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.Expr(value=ast.Constant()) | ast.keyword(arg="help" | "description" | "epilog"):
                continue
            case ast.Constant(value=str(text)) | ast.Name(id=text) | ast.Attribute(attr=text):
                yield node.lineno, text
            case ast.FunctionDef(name=text) | ast.ClassDef(name=text) | ast.arg(arg=text) | ast.keyword(arg=str(text)):
                yield node.lineno, text
        yield from spoken(node)


def test_the_house_keeps():
    assert not "\n".join(data_sets_are_named_elsewhere(ROOT)), data_sets_are_named_elsewhere.__doc__


SOUND_HOUSE = {
    "data/source.py": '"""What toy and others say."""\nDEFAULT = "toy"\nclass Toys: ...',
    "data/spec.py": "def f(images): parser.add_argument('data', help='such as toy:full')",
    "data/sources/__init__.py": "",
    "data/sources/images.py": "NAME = 'images'",
    "data/sources/toy/__init__.py": "from data.sources.toy import drawing\nFOLDER = 'toy_full'",
    "data/sources/toy/drawing.py": "def toy(): ...",
}
PLANTED = [
    {"study/a.py": "from data.sources import toy"},
    {"data/a.py": "from data.sources.images import Source"},
    {"data/sources/b.py": "import data.sources.toy.drawing"},
    {"study/a.py": "def f(spec): return spec.name == 'toy'"},
    {"study/a.py": "def f(v): raise ValueError(f'{v}: use toy:full')"},
    {"data/a.py": "def prepare_toy(): ..."},
    {"data/a.py": "def f(data): return data.toy"},
    {"trainables/a.py": "FOLDER = 'Toy_full'"},
    {"data/source.py": "SECOND = 'toy'"},
]


@pytest.mark.parametrize("files", PLANTED, ids=[next(iter(files.values())) for files in PLANTED])
def test_a_planted_violation_is_caught(files: dict[str, str], tmp_path: Path) -> None:
    for path, text in SOUND_HOUSE.items():
        write(tmp_path / path, text)
    assert list(data_sets_are_named_elsewhere(tmp_path)) == []
    for path, text in files.items():
        write(tmp_path / path, text)
    assert list(data_sets_are_named_elsewhere(tmp_path)) != []
