"""How far two configurations differ that were trained with the same seeds, and how sure that is."""

import math
from collections.abc import Mapping

import numpy as np

QUANTILES = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
"""97.5 % quantiles of Student's t distribution with 1 to 10 degrees of freedom."""

Scores = Mapping[str, Mapping[int, float]]
"""Entry -> seed -> score."""


def paired(scores: Scores, one: str, other: str) -> tuple[float, float]:
    """Mean of ``one`` minus mean of ``other``, and half the width of its 95 % interval; NaN if it is unknown.

    A score is the sum of what its configuration, its seed and chance add, and chance is the same for all
    configurations (a randomised block design, the seeds being the blocks). So all E entries that have the S seeds of
    both say how large it is, with (E - 1)(S - 1) degrees of freedom. With two entries it is the paired t interval.
    The noise of single images is within that of a seed: all entries are scored on the same ones.
    """
    seeds = sorted(scores[one].keys() & scores[other].keys())
    if len(seeds) < 2:
        return _mean(scores[one]) - _mean(scores[other]), math.nan
    table = np.array([[by_seed[s] for s in seeds] for by_seed in scores.values() if by_seed.keys() >= set(seeds)])
    E, S = table.shape
    residuals = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
    freedom = (E - 1) * (S - 1)
    error = math.sqrt(2 * (residuals**2).sum() / freedom / S)
    difference = np.mean([scores[one][s] - scores[other][s] for s in seeds])
    return float(difference), quantile(freedom) * error


def quantile(freedom: int) -> float:
    """The 97.5 % quantile of Student's t distribution (Abramowitz and Stegun 1964, equation 26.7.5 beyond 10)."""
    if freedom <= len(QUANTILES):
        return QUANTILES[freedom - 1]
    z = 1.959964
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


def _mean(by_seed: Mapping[int, float]) -> float:
    return float(np.mean(list(by_seed.values()))) if by_seed else math.nan
