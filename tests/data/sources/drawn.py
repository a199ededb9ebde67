"""Embedded scenes, for tests that need some."""

from typing import Any

from data.scenes import Scenes, joined
from data.sources.synthetic import drawing


def generate(*arguments: Any, **keywords: Any) -> Scenes:
    """What :func:`data.sources.synthetic.drawing.batches` draws, in one piece."""
    return joined(list(drawing.batches(*arguments, **keywords)))
