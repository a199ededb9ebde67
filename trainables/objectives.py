"""What a study may optimise; a file of its own, so that the command line needs no torch to know it."""

from trainables import own_metrics

OBJECTIVES = {"mIoU_fg": "max", "ARI_FG": "max", "MSE": "min", "loss": "min"}
"""Validation metric -> the direction in which it is better."""

OF_OBJECTS = ("mIoU_fg", "ARI_FG")
"""Those that images without objects, or without masks, do not define."""

COSTS = {"seconds": "min", "parameters": "min"}
"""What a trial costs, a second goal beside a validation metric -> the direction in which it is better.

``seconds`` is the wall time of training, without validation; ``parameters`` the number of trainable parameters.
"""

DIRECTIONS = OBJECTIVES | COSTS
"""Goal -> the direction in which it is better; those of one's own are found by :func:`direction`."""


def direction(goal: str) -> str:
    """``max`` or ``min``: where ``goal`` is better, a metric of one's own included. Raises ValueError."""
    if goal in DIRECTIONS:
        return DIRECTIONS[goal]
    if goal not in own_metrics.names():
        raise ValueError(f"metric {goal!r} is unknown here; name the folder that has it with --plugins, or PYTHONPATH")
    return own_metrics.direction(goal)


def goals(metric: str) -> tuple[str, ...]:
    """The goals that ``metric`` names, one or two, as ``mIoU_fg,seconds``.

    The first is a key of :data:`OBJECTIVES`, or a metric of one's own.

    Raises ValueError for what no study can have.
    """
    names = tuple(name.strip() for name in metric.split(","))
    if len(names) > 2:
        raise ValueError(f"--metric {metric} names {len(names)} goals; give one, or two such as mIoU_fg,seconds")
    if names[0] in COSTS:
        raise ValueError(f"--metric {metric}: {names[0]} is a second goal; put a score first, as in mIoU_fg,{names[0]}")
    own = [] if all(name in DIRECTIONS for name in names) else own_metrics.names()
    for name, ours in zip(names, (OBJECTIVES, DIRECTIONS), strict=False):
        choices = [*ours, *own]
        if name not in choices:
            raise ValueError(f"--metric {metric}: {name!r} is unknown; choose one of {', '.join(choices)}")
    if len(set(names)) < len(names):
        raise ValueError(f"--metric {metric} names {names[0]} twice; give it once, or with another goal")
    return names
