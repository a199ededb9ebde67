"""A profile of a few training steps of a trial: where their time goes, by torch's own profiler.

Two files are left in a folder: ``steps_A_to_B.pt.trace.json.gz``, which https://ui.perfetto.dev and TensorBoard's
profiler plugin open, and ``operations.md``, the costliest operations as a table.
"""

from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity

FOLDER = "profile"
"""In the trial's folder."""

TABLE = "operations.md"

SKIPPED = 5
"""Steps before those that are recorded; the first ones are slower than the rest."""

RECORDED = 5
"""Steps that are recorded."""

SHOWN = 10
"""Operations in the table."""

STEP = "ProfilerStep*"
"""The profiler's name for a whole step; what is its own is in no operation."""


class StepProfile:
    """Records some of the first steps of a trial of ``steps`` steps on ``device``; a short trial's as far as it goes.

    :meth:`step` is called after each training step.
    """

    def __init__(self, folder: Path, steps: int, device: torch.device):
        self._folder, self._on_gpu = folder, device.type == "cuda"
        warm = min(1, steps - 1)  # the profiler's own first step costs more than the rest
        skipped = min(SKIPPED - warm, max(0, steps - RECORDED - warm))
        recorded = min(RECORDED, steps - skipped - warm)
        self._first, self._recorded = skipped + warm + 1, recorded
        self._left = skipped + warm + recorded
        activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * self._on_gpu
        self._profiler = torch.profiler.profile(
            activities=activities,
            schedule=torch.profiler.schedule(skip_first=skipped, wait=0, warmup=warm, active=recorded, repeat=1),
            on_trace_ready=self._write,
        )
        self._profiler.start()

    def step(self) -> bool:
        """A training step has ended. Returns whether more are to come."""
        self._profiler.step()
        self._left -= 1
        if not self._left:
            self._profiler.stop()
        return self._left > 0

    def close(self) -> None:
        """Record no more: the trial has failed, and the next one of this process is not profiled."""
        self._profiler.on_trace_ready = None
        self._profiler.stop()

    def _write(self, profiler: Any) -> None:
        last = self._first + self._recorded - 1
        self._folder.mkdir(parents=True, exist_ok=True)
        profiler.export_chrome_trace(str(self._folder / f"steps_{self._first}_to_{last}.pt.trace.json.gz"))
        table = self._table(profiler.key_averages(), f"steps {self._first} to {last}")
        (self._folder / TABLE).write_text(table, encoding="utf-8")

    def _table(self, operations: Any, which: str) -> str:
        """The costliest of ``operations`` in Markdown, by the time in them alone, without those that they call."""
        key = "self_device_time_total" if self._on_gpu else "self_cpu_time_total"  # microseconds
        costs = [
            (getattr(one, key), one.count, one.key) for one in operations if not (self._on_gpu and one.key == STEP)
        ]
        total = sum(cost for cost, _, _ in costs) or 1.0
        lines = [
            f"{SHOWN} costliest operations of {which}, on {'the GPU' if self._on_gpu else 'a CPU'}:",
            "",
            "| operation | calls a step | ms a step | share |",
            "|---|---:|---:|---:|",
        ]
        for cost, count, name in sorted(costs, reverse=True)[:SHOWN]:
            per_step = cost / self._recorded / 1000
            name = "Python, between operations" if name == STEP else name
            lines.append(f"| {name} | {count / self._recorded:.0f} | {per_step:.2f} | {100 * cost / total:.1f} % |")
        return "\n".join(lines) + "\n"
