"""A folder of one's own with models and metrics, as ``--plugins`` finds it; and everything as before afterwards."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from data import plugins

ROOT = Path(__file__).resolve().parents[1]
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
MODEL = ("trainables/colour_field.py", "search_spaces/colour_field.py")
METRIC = "trainables/own_metrics/coverage.py"


def example(path: str) -> str:
    """The Python code that CONTRIBUTING.md shows for the file ``path``."""
    text = CONTRIBUTING.read_text(encoding="utf-8")
    code = re.search(rf"^`{path}`.*?```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert code, f"CONTRIBUTING.md shows no {path}"
    return code[1]


def write(folder: Path, *paths: str) -> Path:
    """Write the examples of CONTRIBUTING.md for ``paths`` below ``folder``, which is returned."""
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(example(path))
    return folder


@contextmanager
def kept_out() -> Iterator[None]:
    """Within this context folders may be used; afterwards this process knows nothing of them."""
    packages = [import_module(name) for name in ("data", *plugins.PLACES)]
    before = [list(package.__path__) for package in packages], list(sys.path), os.environ.get("PYTHONPATH")
    try:
        yield
    finally:
        paths, sys.path[:], variable = before
        for package, path in zip(packages, paths, strict=True):
            package.__path__[:] = path
        for name, module in list(sys.modules.items()):
            package, _, last = name.rpartition(".")
            if package in plugins.PLACES and not Path(module.__file__ or "").is_relative_to(ROOT):
                del sys.modules[name]
                delattr(sys.modules[package], last)
        if variable is None:
            os.environ.pop("PYTHONPATH", None)
        else:
            os.environ["PYTHONPATH"] = variable
