"""Studies of one goal or two: what their trials are worth by the first goal, and the Pareto front of both.

The first goal is a validation metric. It is the goal of all that needs a single one: the best trials, the final stage,
the curves.
"""

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState


def first(trial: FrozenTrial) -> float | None:
    """The value of ``trial`` by the first goal; None if it is not complete."""
    return trial.values[0] if trial.values else None


def second(trial: FrozenTrial) -> float | None:
    """The value of ``trial`` by the second goal; None if there is none, or ``trial`` is not complete."""
    return trial.values[1] if trial.values and len(trial.values) > 1 else None


def maximizes(study: optuna.Study) -> bool:
    """Whether more is better by the first goal."""
    return bool(study.directions[0] == StudyDirection.MAXIMIZE)


def front(study: optuna.Study) -> list[int]:
    """Numbers of the complete trials that no other beats by both goals of ``study``, the best by the first goal first.

    Of trials that are equal by both the one with the lowest number is there. None for a study of one goal.
    """
    if len(study.directions) < 2:
        return []
    signs = [-1 if direction == StudyDirection.MAXIMIZE else 1 for direction in study.directions]
    losses = {
        trial.number: [sign * value for sign, value in zip(signs, trial.values, strict=True)]
        for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    }
    found: list[int] = []
    for number in sorted(losses, key=lambda number: (losses[number], number)):
        if not found or losses[number][1] < losses[found[-1]][1]:
            found.append(number)
    return found
