"""Generalisation gaps: what an entry loses from test to images of another kind, with intervals over images."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from study.scoring import bootstrap
from study.scoring.bootstrap import Floats, Interval, Key
from study.scoring.leaderboard import BRIEF, METRICS, TITLES, Row

REFERENCE = "test"
"""The split that the others are compared with."""


@dataclass(frozen=True)
class Gap:
    """Test minus another split, for one entry."""

    entry: str
    """as people read it"""
    split: str
    """the other split, as people read it"""
    metric: str
    difference: float
    """mean on test minus mean on the split; above zero is a loss, of MSE below zero"""
    interval: Interval | None
    """95 %, over the images of both splits"""


def gaps(rows: Sequence[Row], drawn: Mapping[Key, Floats], metrics: Sequence[str] = BRIEF) -> list[Gap]:
    """The gaps of ``rows``, a leaderboard, for each of its splits but test; ``drawn`` as ``bootstrap.all_resampled``
    has it for :data:`METRICS`, with entries as people read them."""
    means = {(row.entry, row.split): row.means for row in rows if row.kind != "gain"}
    found = []
    for (entry, split), here in means.items():
        there = means.get((entry, REFERENCE))
        if split == REFERENCE or there is None:
            continue
        for metric in metrics:
            difference = there[metric] - here[metric]
            if math.isnan(difference):
                continue
            both = [drawn.get((entry, where)) for where in (REFERENCE, split)]
            one, other = both
            column = METRICS.index(metric)
            around = None
            if one is not None and other is not None:
                around = bootstrap.interval(one[:, column] - other[:, column])
            found.append(Gap(entry, TITLES.get(split, split), metric, difference, around))
    return found
