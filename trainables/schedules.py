"""Values that change with the training step: pure functions, so that a checkpoint needs only the step."""

import math


def linear(step: float, start: float, end: float, first: float, last: float) -> float:
    """``start`` up to step ``first``, ``end`` from step ``last`` on, and a straight line between them."""
    if step >= last:
        return end
    if step <= first:
        return start
    return start + (end - start) * (step - first) / (last - first)


def half_cosine(step: float, steps: float) -> float:
    """From 1 at step 0 along half a cosine to 0 at ``steps``, and 0 from there on."""
    return 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))
