"""Values that change with the training step: pure functions, so that a checkpoint needs only the step."""

import math


def linear(step: float, start: float, end: float, first: float, last: float) -> float:
    """``start`` up to step ``first``, ``end`` from step ``last`` on, and a straight line between them."""
    if step >= last:
        return end
    if step <= first:
        return start
    return start + (end - start) * (step - first) / (last - first)


def warm_up(step: int, steps: float, *, from_zero: bool = False) -> float:
    """Linear warm-up of a learning rate: its factor at training step ``step``, 1 from the end of ``steps`` steps on.

    The first step takes 1 / ``steps``, the last 1, so that none is wasted. With ``from_zero``, the convention of the
    published models that have a warm-up, the first step takes 0.
    """
    return min(1.0, (step + (not from_zero)) / steps) if steps else 1.0


def half_cosine(step: float, steps: float) -> float:
    """From 1 at step 0 along half a cosine to 0 at ``steps``, and 0 from there on."""
    return 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))
