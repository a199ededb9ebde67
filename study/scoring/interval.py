"""How far two configurations differ that were each trained with a few seeds, and how sure that is."""

import math
from collections.abc import Collection

import numpy as np
import scipy


def difference(one: Collection[float], other: Collection[float]) -> tuple[float, float]:
    """Mean of the scores ``one`` minus that of ``other``, and half the width of its 95 % interval; NaN if unknown.

    Welch's t interval (Welch 1947; for trainings Colas et al. 2019, arXiv:1904.06979): each configuration has a noise
    of its own, since one may collapse with some seeds and the other with none. Only these two count. Scores are not
    paired by their seed: two configurations with the same seed are no more alike than with different ones.
    The noise of single images is within that of a seed: all entries are scored on the same ones.
    """
    scores = [np.array([*values], float) for values in (one, other)]
    means = [float(values.mean()) if len(values) else math.nan for values in scores]
    if min(map(len, scores)) < 2:
        return means[0] - means[1], math.nan
    errors = [values.var(ddof=1) / len(values) for values in scores]
    whole = sum(errors)
    if not whole:
        return means[0] - means[1], 0.0
    freedom = whole**2 / sum(error**2 / (len(values) - 1) for error, values in zip(errors, scores, strict=True))
    return means[0] - means[1], float(scipy.special.stdtrit(freedom, 0.975) * math.sqrt(whole))
