"""Recorded learning curves: the table in a Parquet file, and what it was made of in the JSON beside it."""

import json
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution, json_to_distribution
from scipy.stats import spearmanr

TABLES = Path(__file__).with_name("tables")
"""The folder of the tables that come with the project."""


@dataclass(frozen=True)
class Configuration:
    """One configuration and its learning curve."""

    number: int
    parameters: dict[str, Any]
    curve: list[float]
    """The objective at each report; shorter where the trial failed."""
    failure: str | None
    """Why the trial failed, or None."""


@dataclass(frozen=True)
class Table:
    """The configurations of one search space. The first is the base."""

    name: str
    spec: dict[str, Any]
    """Model, data, steps, reports, base, ranges, conditions, direction, versions and command."""
    configurations: list[Configuration]
    reseeded: list[tuple[int, float]]
    """What the other seeds of a configuration reached: its place in the table, final value."""
    reports: int

    @cached_property
    def ranges(self) -> dict[str, BaseDistribution]:
        """The searched parameters; those that depend on another one come last."""
        return {name: json_to_distribution(text) for name, text in self.spec["ranges"].items()}

    @property
    def sign(self) -> int:
        """1 if larger is better, else -1."""
        return 1 if self.spec["direction"] == "maximize" else -1

    @cached_property
    def finals(self) -> np.ndarray:
        """(N,): the final values times ``sign``; -inf for failed trials."""
        return np.array([-math.inf if c.failure else self.sign * c.curve[-1] for c in self.configurations])

    def space(self, trial: Any, base: dict[str, Any]) -> dict[str, Any]:
        """The search space as recorded; ``base`` does not matter, because the ranges are fixed."""
        chosen: dict[str, Any] = {}
        for name, distribution in self.ranges.items():
            key, values = self.spec["conditions"].get(name, (None, []))
            if key is None or chosen[key] in values:
                chosen[name] = suggest(trial, name, distribution)
        return chosen

    def nearest(self, parameters: dict[str, Any], unused: list[int]) -> int:
        """The configuration in ``unused`` that is nearest to ``parameters``."""
        squares = (self._units[unused] - self._unit(parameters)) ** 2  # (U, P); nan where one lacks the parameter
        either = np.isnan(squares)
        return unused[int(np.where(either, 0.0, squares).sum(axis=1).argmin())]

    def bad_base(self) -> int:
        """The configuration in the middle of the worst third of those that did not fail."""
        order = [int(i) for i in np.argsort(self.finals) if np.isfinite(self.finals[i])]
        return order[len(order) // 6]

    def coarser(self, reports: int) -> "Table":
        """The same table with fewer ``reports``, which are evenly spaced up to the last; times are rounded up."""
        assert reports <= self.reports
        kept = [math.ceil(self.reports * report / reports) - 1 for report in range(1, reports + 1)]
        shorter = [
            Configuration(c.number, c.parameters, [c.curve[i] for i in kept if i < len(c.curve)], c.failure)
            for c in self.configurations
        ]
        return Table(self.name, self.spec, shorter, self.reseeded, reports)

    def rank_correlations(self) -> list[tuple[int, float, float]]:
        """Per report: Spearman's correlation with the final values of all that ended, and of their best third."""
        ended = [i for i, c in enumerate(self.configurations) if c.failure is None]
        curves = np.array([self.configurations[i].curve for i in ended])  # (N, R)
        best = np.argsort(-self.finals[ended], kind="stable")[: len(ended) // 3]
        return [
            (report + 1, *(float(spearmanr(c[:, report], c[:, -1]).statistic) for c in (curves, curves[best])))
            for report in range(self.reports)
        ]

    def noise(self) -> tuple[int, float] | None:
        """Configurations with other seeds, and the standard deviation of a final value over seeds; None without."""
        values: dict[int, list[float]] = {}
        for index, value in self.reseeded:
            values.setdefault(index, [self.configurations[index].curve[-1]]).append(value)
        if not values:
            return None
        return len(values), float(np.sqrt(np.mean([np.var(v, ddof=1) for v in values.values()])))

    @cached_property
    def _units(self) -> np.ndarray:
        return np.array([self._unit(c.parameters) for c in self.configurations])

    def _unit(self, parameters: dict[str, Any]) -> np.ndarray:
        """(P,): the parameters scaled to the unit interval; choices lie at a distance of 1 from each other."""
        unit: list[float] = []
        for name, distribution in self.ranges.items():
            if isinstance(distribution, CategoricalDistribution):
                chosen = parameters.get(name, math.nan)
                half = math.sqrt(0.5)  # two choices differ in two places
                unit += [
                    half * (chosen == choice) if name in parameters else math.nan for choice in distribution.choices
                ]
                continue
            scale = math.log if distribution.log else float
            low, high = scale(distribution.low), scale(distribution.high)
            value = parameters.get(name)
            unit.append(math.nan if value is None else (scale(value) - low) / max(high - low, 1e-12))
        return np.array(unit)


def suggest(trial: Any, name: str, distribution: Any) -> Any:
    """What ``trial`` suggests for the parameter ``name`` in the range ``distribution``."""
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    ask = trial.suggest_int if isinstance(distribution, IntDistribution) else trial.suggest_float
    return ask(name, distribution.low, distribution.high, step=distribution.step, log=distribution.log)


def load(path: Path) -> Table:
    """The table in the Parquet file ``path``. Rows that repeat a configuration are other seeds of it."""
    spec = json.loads(path.with_suffix(".json").read_text())
    configurations: list[Configuration] = []
    places: dict[str, int] = {}
    reseeded = []
    for row in pyarrow.parquet.read_table(path).to_pylist():
        place = places.setdefault(row["parameters"], len(configurations))
        if place < len(configurations):
            if row["failure"] is None:
                reseeded.append((place, row["curve"][-1]))
            continue
        parameters = json.loads(row["parameters"])
        configurations.append(Configuration(row["number"], parameters, row["curve"], row["failure"]))
    return Table(path.stem, spec, configurations, reseeded, spec["reports"])
