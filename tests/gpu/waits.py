"""Which lines of a training step make the CPU wait for the GPU, and how often.

torch says so itself (``torch.cuda.set_sync_debug_mode``): a value read on the host, a copy from memory that is not
pinned, a search for the places of a mask. The check of loss and gradient at every ``CHECK_EVERY``-th step is meant.
"""

import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import torch

import trainables
from tests.gpu.rows import Rows, Setting, each, setting
from tests.gpu.trials import trial
from trainables.training import CHECK_EVERY

ROOT = Path(__file__).resolve().parents[2]
BATCH = 4


def main() -> None:
    """Count the waits of each model; a row per line of code."""
    given = setting()
    rows = Rows(given.rows)

    def model(name: str) -> dict[str, Any]:
        found = waits(name, given)
        for line, count in found.most_common():
            rows.add(f"{name}: {line}", "ok", waits=count, each_step=count / CHECK_EVERY)
        return {"waits": sum(found.values()), "each_step": sum(found.values()) / CHECK_EVERY}

    each(trainables.names(), rows, given.until, model)


def waits(name: str, given: Setting) -> Counter[str]:
    """``file:line function`` of ours -> its waits in CHECK_EVERY steps."""
    trained = trial(name, given, batch=BATCH)
    trained.advance(2)
    found: Counter[str] = Counter()

    def show(message: Warning | str, *_: object, **__: object) -> None:
        if "called a synchronizing" in str(message):
            found[ours(traceback.extract_stack())] += 1

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = show  # type: ignore[assignment]  # put back by catch_warnings
        if given.device == "cuda":
            torch.cuda.set_sync_debug_mode("warn")
        try:
            trained.advance(CHECK_EVERY)
        finally:
            if given.device == "cuda":
                torch.cuda.set_sync_debug_mode("default")
    return found


def ours(stack: traceback.StackSummary) -> str:
    """The innermost line of the house in ``stack``, tests left out."""
    for frame in reversed(stack):
        path = Path(frame.filename)
        if path.is_relative_to(ROOT) and not path.is_relative_to(ROOT / "tests"):
            return f"{path.relative_to(ROOT)}:{frame.lineno} {frame.name}: {frame.line}"
    return "elsewhere"


if __name__ == "__main__":
    main()
