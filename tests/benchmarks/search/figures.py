"""What a replay shows: figures over all orders, as Markdown tables, and the picture."""

import math
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from data.machine import usable_cores
from tests.benchmarks.search.replay import OURS, STRATEGIES, Course, Replay
from tests.benchmarks.search.table import Table

BUDGETS = (1, 2, 3, 5, 8, 12.5, 25, 50)
"""Resources, in full trials, at which searches are compared."""

SLOW = {"GP": 10, "GP + promotion": 10, "prior + halving": 10}
"""Strategies that take minutes and are there to be compared with, and the most orders they are run in."""


@dataclass(frozen=True)
class Comparison:
    """All strategies on one table."""

    table: Table
    places: int
    base: int
    """The configuration that counts as the base."""
    courses: dict[str, list[Course]]

    def level(self, budget: float = 50) -> float:
        """What random search finds with ``budget`` full trials, times the table's sign: the median over orders."""
        return quantile([course.at(budget, course.best) for course in self.courses["random"]], 0.5)

    def until(self, strategy: str, share: float = 0.5, budget: float = 50) -> float:
        """Resources of ``strategy`` until :meth:`level`, in full trials: the quantile ``share`` over orders."""
        level = self.level(budget)
        return quantile([course.until(level) for course in self.courses[strategy]], share)


def compare(table: Table, places: int, orders: int, names: list[str], base: int = 0) -> Comparison:
    """Run the strategies ``names``, and random, in ``orders`` orders each, as many at a time as there are cores."""
    asked = [
        (name, seed)
        for name in dict.fromkeys(["random", *names])
        for seed in range(min(orders, SLOW.get(name, orders)))
    ]
    with ProcessPoolExecutor(usable_cores(), get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        found = pool.map(partial(_course, table, places, base), *zip(*asked, strict=True))
        courses: dict[str, list[Course]] = {}
        for (name, _), course in zip(asked, found, strict=True):
            courses.setdefault(name, []).append(course)
    return Comparison(table, places, base, courses)


def _course(table: Table, places: int, base: int, name: str, seed: int) -> Course:
    return Replay(table, STRATEGIES[name], seed, places, base).run(50)


def quantile(values: list[float], share: float) -> float:
    """The value at ``share`` of all, one of them; they may be infinite."""
    return float(np.quantile(values, share, method="inverted_cdf"))


def quartiles(values: list[float], digits: int) -> str:
    """Median and quartiles of ``values`` as a cell."""
    low, middle, high = (quantile(values, share) for share in (0.25, 0.5, 0.75))
    return f"{middle:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def report(comparison: Comparison) -> str:
    """The figures of ``comparison`` in Markdown."""
    table, courses = comparison.table, comparison.courses
    base = table.finals[comparison.base]
    better = int((table.finals > base).sum())

    def shown(budget: float) -> str:
        return f"{table.sign * comparison.level(budget):.3f}"

    lines = [
        f"### {table.name}: {len(table.configurations)} configurations, {table.reports} reports, "
        f"{comparison.places} trials at a time",
        "",
        f"Base {table.sign * base:.3f}, with {better} configurations above it; the best has "
        f"{table.sign * table.finals.max():.3f}.",
        "",
        "Final value of the trial in front after so many full trials, median (quartiles):",
        "",
        "| strategy | " + " | ".join(f"{budget:g}" for budget in BUDGETS) + " |",
        "|:--|" + "--:|" * len(BUDGETS),
    ]
    for name, found in courses.items():
        cells = []
        for budget in BUDGETS:
            cells.append(quartiles([table.sign * course.at(budget, course.leader) for course in found], 3))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += [
        "",
        f"Full trials until a complete trial has what random finds with 12.5 ({shown(12.5)}), 25 ({shown(25)}) and "
        f"50 ({shown(50)}), median (quartiles); the last one in relation to 50 and to the best other strategy:",
        "",
        "| strategy | as random's 12.5 | 25 | 50 | to 50 | to best other | never | orders | ends after |",
        "|:--|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, found in courses.items():
        cells = []
        for budget in (12.5, 25, 50):
            level = comparison.level(budget)
            cells.append(quartiles([course.until(level) for course in found], 1))
        middle = comparison.until(name)
        others = min((comparison.until(other) for other in courses if other != name), default=math.nan)
        ratio = middle / others if math.isfinite(others) else math.nan
        never = sum(math.isinf(course.until(comparison.level())) for course in found)
        end = quantile([course.spent[-1] for course in found], 0.5)
        lines.append(
            f"| {name} | {' | '.join(cells)} | {middle / 50:.2f} | {ratio:.2f} | {never} | {len(found)} | {end:.1f} |"
        )
    return "\n".join([*lines, ""])


def ranks(table: Table) -> str:
    """The rank correlations of ``table`` in Markdown."""
    lines = [
        f"### {table.name}: rank correlation of a report with the final value",
        "",
        "| report | all | best third |",
        "|--:|--:|--:|",
    ]
    lines += [
        f"| {report}/{table.reports} | {every:.2f} | {best:.2f} |" for report, every, best in table.rank_correlations()
    ]
    noise = table.noise()
    if noise is not None:
        lines += ["", f"A final value over seeds, of {noise[0]} configurations: standard deviation {noise[1]:.4f}."]
    return "\n".join([*lines, ""])


def draw(comparisons: list[Comparison], path: Path) -> None:
    """Draw best-so-far against resources to ``path``: medians, and the quartiles of random and ours."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        1, len(comparisons), figsize=(5.2 * len(comparisons), 3.8), layout="constrained", squeeze=False
    )
    budgets = np.geomspace(0.5, 50, 80)
    for axis, comparison in zip(axes[0], comparisons, strict=True):
        sign = comparison.table.sign
        for i, (name, found) in enumerate(comparison.courses.items()):
            values = sign * np.array([[course.at(budget, course.leader) for budget in budgets] for course in found])
            low, middle, high = np.quantile(values, (0.25, 0.5, 0.75), axis=0, method="inverted_cdf")
            style = {"linewidth": 2.2} if name == OURS else {"linewidth": 1.1}
            axis.plot(budgets, middle, label=name, color=f"C{i}", **style)
            if name in ("random", OURS):
                axis.fill_between(budgets, low, high, color=f"C{i}", alpha=0.15, linewidth=0)
        axis.axhline(sign * comparison.level(), color="0.5", linewidth=0.8, linestyle=":")
        best = sign * comparison.table.finals.max()
        base = sign * comparison.table.finals[comparison.base]
        axis.set_ylim(sorted((base - 0.15 * (best - base), best + 0.1 * (best - base))))
        axis.set(xscale="log", title=f"{comparison.table.name}, {comparison.places} at a time")
        axis.set(xlabel="resources (full trials)", ylabel=f"final {comparison.table.spec['metric']} of the best so far")
        axis.set_xticks([0.5, 1, 2, 5, 10, 20, 50], ["0.5", "1", "2", "5", "10", "20", "50"])
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].legend(frameon=False, fontsize=7)
    figure.savefig(path, dpi=100)
