"""``python -m tests.benchmarks.search.transfer [ORDERS]``: what ``--from`` brings, between two recorded tables.

A search with the default strategy runs on one table; its best complete trials are proposed first in a search on the
other, as ``--from`` does, and the same search is run without them. Both tables hold the same configurations.
"""

import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np
import torch
from optuna.trial import TrialState
from scipy.stats import spearmanr

from data.machine import usable_cores
from study.search.known import PER_STUDY
from tests.benchmarks.search.figures import quantile, quartiles
from tests.benchmarks.search.replay import OURS, STRATEGIES, Course, Replay
from tests.benchmarks.search.table import TABLES, Table, load

PLACES = 2
BUDGET = 50
"""Full trials of each search."""


class Order(NamedTuple):
    """One order of the searches."""

    proposed: list[float]
    """What the proposals reach on the second table, times its sign."""
    without: Course
    with_them: Course
    random: Course


def order(source: Table, target: Table, seed: int) -> Order:
    """Run all searches in the order ``seed``."""
    earlier = Replay(source, STRATEGIES[OURS], seed, PLACES)
    earlier.run(BUDGET)
    complete = earlier.searcher.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    ranked = sorted(complete, key=lambda trial: source.sign * trial.value, reverse=True)
    base = source.configurations[0].parameters
    best = [trial.params for trial in ranked if trial.params != base][:PER_STUDY]
    everywhere = list(range(len(target.configurations)))
    reached = [float(target.finals[target.nearest(parameters, everywhere)]) for parameters in best]
    # another seed than that of the search before, which has other numbers to draw from
    ours = partial(Replay, target, STRATEGIES[OURS], 1000 + seed, PLACES)
    random = Replay(target, STRATEGIES["random"], 1000 + seed, PLACES)
    return Order(reached, ours().run(BUDGET), ours(proposals=best).run(BUDGET), random.run(BUDGET))


def report(source: Table, target: Table, orders: Sequence[Order]) -> str:
    """The figures of all ``orders`` in Markdown."""
    here = {str(sorted(one.parameters.items())): place for place, one in enumerate(target.configurations)}
    places = [here.get(str(sorted(one.parameters.items()))) for one in source.configurations]
    both = [(source.finals[i], target.finals[place]) for i, place in enumerate(places) if place is not None]
    base = target.finals[0]
    above = np.mean([sum(value > base for value in one.proposed) for one in orders])
    fallen = np.mean([sum(value < base / 2 for value in one.proposed) for one in orders])
    lines = [
        f"### {source.name} -> {target.name}: {len(orders)} orders, {PLACES} trials at a time",
        "",
        f"Rank correlation of the final values of {len(both)} configurations: {spearmanr(*np.array(both).T)[0]:.2f}. "
        f"Of {PER_STUDY} proposals, {above:.1f} reach more than the base, {fallen:.1f} less than half of it.",
        "",
        "| full trials until a complete one has | without --from | with | never, without | with |",
        "|:--|--:|--:|--:|--:|",
    ]
    levels = {"more than the base": np.nextafter(base, np.inf)}
    for budget in (12.5, 25, 50):
        levels[f"what random finds with {budget:g}"] = quantile(
            [one.random.at(budget, one.random.best) for one in orders], 0.5
        )
    for name, level in levels.items():
        cells, never = [], []
        for courses in ([one.without for one in orders], [one.with_them for one in orders]):
            found = [course.until(level) for course in courses]
            cells.append(quartiles(found, 1))
            never.append(str(int(np.isinf(found).sum())))
        lines.append(f"| {name} ({target.sign * level:.3f}) | {' | '.join(cells + never)} |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Print the figures for SPACE, from plain to the default data and back."""
    orders = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    plain, default = (load(TABLES / f"{name}.parquet").coarser(6) for name in ("space", "space_default"))
    for source, target in ((plain, default), (default, plain)):
        with ProcessPoolExecutor(usable_cores(), get_context("spawn"), torch.set_num_threads, (1,)) as pool:
            found = list(pool.map(partial(order, source, target), range(orders)))
        print(report(source, target, found), flush=True)


if __name__ == "__main__":
    main()
