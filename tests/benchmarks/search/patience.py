"""``python -m tests.benchmarks.search.patience [ORDERS]``: when --patience and Optuna's terminators end a search.

A search by TPE and promotion runs 50 full trials on each table, two trials at a time. Each rule that would have ended
it says when; the trials that it would still have finished then do not count. ``optuna.terminator`` is deprecated: its
removal is announced for Optuna 6.
"""

import math
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import optuna
from optuna.terminator import (
    EMMREvaluator,
    MedianErrorEvaluator,
    RegretBoundEvaluator,
    StaticErrorEvaluator,
    Terminator,
)
from optuna.trial import TrialState

from study.search.patience import Patience, expected_gain, noise_of
from tests.benchmarks.search.figures import quartiles
from tests.benchmarks.search.replay import STRATEGIES, Replay
from tests.benchmarks.search.table import TABLES, Table, load

BUDGET = 50
"""Full trials of a search that nobody ends."""

LIMITS = (5, 10, 15)
"""Full trials without an improvement that are compared."""


def regret_bound(study: optuna.Study) -> bool:
    """Optuna's default evaluator of what is left to gain, below the noise of a score."""
    noise = noise_of(study.get_trials(deepcopy=False))
    return Terminator(RegretBoundEvaluator(seed=0), StaticErrorEvaluator(noise)).should_terminate(study)


def emmr(study: optuna.Study) -> bool:
    """The other evaluator, with the threshold that Optuna has for it."""
    evaluator = EMMREvaluator(seed=0)
    return Terminator(evaluator, MedianErrorEvaluator(evaluator)).should_terminate(study)


TERMINATORS: dict[str, Callable[[optuna.Study], bool]] = {"regret bound": regret_bound, "EMMR": emmr}
"""Optuna's terminators; they look at complete trials, 20 or more."""


@dataclass
class Endings:
    """When each rule ends one search, and what the search expected of more trials."""

    ends: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Rule -> full trials, best value times the table's sign"""
    expected: float | None = None
    """gain by as many trials again, estimated in the middle"""
    gained: float = 0.0
    """what the second half did gain"""


def endings(table: Table, seed: int) -> Endings:
    """Run one search and ask all rules."""
    replay = Replay(table, STRATEGIES["TPE + promotion"], seed, places=2)
    study = replay.searcher.study
    patience = replay.searcher.patience = Patience(study, table.reports)
    found, course, complete = Endings(), replay.course, 0

    def watch() -> None:
        nonlocal complete
        now = course.spent[-1], course.best[-1]
        for limit in LIMITS:
            if patience.since() >= limit:
                found.ends.setdefault(f"--patience {limit}", now)
        if found.expected is None and now[0] >= BUDGET / 2:
            found.expected = expected_gain(study)
        ended = len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))
        if ended > complete:
            complete = ended
            for name, ends in TERMINATORS.items():
                if name not in found.ends and ended >= 20 and ends(study):
                    found.ends[name] = now

    replay.run(BUDGET, watch)
    found.ends["none"] = course.spent[-1], course.best[-1]
    found.gained = course.best[-1] - course.at(BUDGET / 2, course.best)
    return found


def report(table: Table, found: list[Endings]) -> str:
    """The figures in Markdown."""
    noise = noise_of([_trial(table, place) for place in range(len(table.configurations))])
    lines = [
        f"### {table.name}: noise {noise:.4f}, base {table.sign * table.finals[0]:.3f}",
        "",
        "| ended by | full trials | best value | as good as without, within noise | orders that it ended |",
        "|:--|--:|--:|--:|--:|",
    ]
    for name in ["none", *(f"--patience {limit}" for limit in LIMITS), *TERMINATORS]:
        ends = [one.ends.get(name, one.ends["none"]) for one in found]
        cells = []
        for place, digits in ((0, 1), (1, 3)):
            values = [end[place] * (table.sign if place else 1) for end in ends]
            cells.append(quartiles(values, digits))
        kept = sum(one.ends["none"][1] - end[1] <= noise for one, end in zip(found, ends, strict=True))
        ended = sum(name in one.ends for one in found) if name != "none" else 0
        lines.append(f"| {name} | {' | '.join(cells)} | {kept} of {len(found)} | {ended} |")
    known = [one for one in found if one.expected is not None]
    if known:
        means = (
            math.fsum(values) / len(known) for values in zip(*((o.expected, o.gained) for o in known), strict=True)
        )
        lines += ["", "Gain by the second 25 full trials: expected {:.4f}, found {:.4f} (means).".format(*means)]
    return "\n".join([*lines, ""])


def _trial(table: Table, place: int) -> optuna.trial.FrozenTrial:
    curve = table.configurations[place].curve
    if table.configurations[place].failure:
        return optuna.trial.create_trial(state=TrialState.FAIL)
    return optuna.trial.create_trial(value=curve[-1], intermediate_values=dict(enumerate(curve, start=1)))


def main() -> None:
    """Print the figures of the project's tables."""
    warnings.simplefilter("ignore")  # that optuna.terminator is deprecated, at each call
    orders = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    for path in sorted(TABLES.glob("*.parquet")):
        table = load(path).coarser(6)
        print(report(table, [endings(table, seed) for seed in range(orders)]), flush=True)


if __name__ == "__main__":
    main()
