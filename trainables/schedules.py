"""Values that change with the training step: pure functions, so that a checkpoint needs only the step."""


def linear(step: float, start: float, end: float, first: float, last: float) -> float:
    """``start`` up to step ``first``, ``end`` from step ``last`` on, and a straight line between them."""
    if step >= last:
        return end
    if step <= first:
        return start
    return start + (end - start) * (step - first) / (last - first)
