"""What a trial's attributes ``progress`` and ``summary`` say.

The former is what its reports said besides the objective; the latter is for people who look at an ended trial with
Optuna's own tools, such as its dashboard.
"""

from collections.abc import Mapping
from typing import Any

from study.display.durations import duration

SUMMARISED = ("mIoU_fg", "ARI_FG", "MSE", "loss")
"""The validation scores that an ended trial's attribute ``summary`` names."""


def after(
    before: Mapping[str, Any], result: Mapping[str, Any], second: str | None = None, *, pruned: bool
) -> dict[str, Any]:
    """The ``progress`` after a report's ``result``, which was ``before``; ``second`` names the study's second goal."""
    hosts = dict.fromkeys([*before.get("hosts", []), result["hostname"]])
    progress = {
        "seconds": before.get("seconds", 0.0) + result["time/train_s"] + result["time/validation_s"],
        "step": result["step"],
        "validation": {name[4:]: value for name, value in result.items() if name.startswith("val/")},
        "hosts": list(hosts),
        "judged": max(result["report"], before.get("judged", 0)),  # the last report that the pruner has judged
    }
    if over := [*before.get("passed_over", []), *result.get("passed_over", [])]:
        progress["passed_over"] = over
    if pruned:
        progress["pruned"] = True
    if second is not None:
        progress["second_goal"] = _second_goal(second, before, result)
    if "memory/gpu_gib" in result:
        progress["gpu_gib"] = max(result["memory/gpu_gib"], before.get("gpu_gib", 0.0))
    return progress


def _second_goal(second: str, before: Mapping[str, Any], result: Mapping[str, Any]) -> float:
    """What a trial is worth so far by the second goal."""
    if second == "seconds":
        # A trial that continues from a checkpoint may repeat a report. That is no fault of its hyperparameters.
        new = result["report"] > before.get("judged", 0)
        return before.get("second_goal", 0.0) + (result["time/train_s"] if new else 0.0)
    return float(result["parameters" if second == "parameters" else f"val/{second}"])


def text(progress: Mapping[str, Any]) -> str:
    """What a trial's attribute ``progress`` says, for people who look at it with Optuna's tools."""
    scores = [f"{key} {progress['validation'][key]:.4g}" for key in SUMMARISED if key in progress["validation"]]
    return ", ".join([f"step {progress['step']}", duration(progress["seconds"]), *scores])
