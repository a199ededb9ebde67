"""The toy data set of CONTRIBUTING.md: what is shown there is what the tests run."""

import re
import sys
from pathlib import Path

import pytest

from data import sources

NAME = "squares"


def code() -> str:
    """Its source file."""
    text = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text()
    (found,) = re.findall(rf"`data/sources/{NAME}\.py`.*?```python\n(.*?)```", text, re.DOTALL)
    return found


def add(folder: Path, monkeypatch: pytest.MonkeyPatch, code: str = code()) -> None:
    """Make the toy a data set for the length of a test; its file is in ``folder``, not in our tree."""
    (folder / f"{NAME}.py").write_text(code)
    monkeypatch.setattr(sources, "__path__", [*sources.__path__, str(folder)])
    monkeypatch.delitem(sys.modules, f"{sources.__name__}.{NAME}", raising=False)
    monkeypatch.delattr(sources, NAME, raising=False)
