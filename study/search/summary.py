"""The attribute of an ended trial that people read with Optuna's own tools, such as its dashboard."""

from collections.abc import Mapping
from typing import Any

from study.display.durations import duration

SUMMARISED = ("mIoU_fg", "ARI_FG", "MSE", "loss")
"""The validation scores that an ended trial's attribute ``summary`` names."""


def text(progress: Mapping[str, Any]) -> str:
    """What a trial's attribute ``progress`` says, for people who look at it with Optuna's tools."""
    scores = [f"{key} {progress['validation'][key]:.4g}" for key in SUMMARISED if key in progress["validation"]]
    return ", ".join([f"step {progress['step']}", duration(progress["seconds"]), *scores])
