"""What the command line calls samplers and pruners, as Optuna's objects: :data:`SAMPLERS` and :data:`PRUNERS`.

To add one, enter it in its table and in the field of :class:`study.config.StudyConfig` that names it.
"""

import math
import warnings
from collections.abc import Callable

from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, RandomSampler, TPESampler


def sampler(name: str, seed: int) -> BaseSampler:
    """The Optuna sampler ``name``. Raises ValueError if a package that it needs is missing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return SAMPLERS[name](seed)


def pruner(name: str, reports: int) -> BasePruner:
    """The Optuna pruner ``name`` for trials of ``reports`` reports; none stops a trial before 20 % of them."""
    return PRUNERS[name](math.ceil(0.2 * reports), reports)


def _cmaes(seed: int) -> BaseSampler:
    try:
        import cmaes  # noqa: F401
    except ImportError as error:
        raise ValueError("--sampler cmaes needs a package: pip install 'clevrtune[cmaes]'") from error
    return CmaEsSampler(seed=seed, warn_independent_sampling=False)


SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: TPESampler(seed=seed),
    "random": lambda seed: RandomSampler(seed=seed),
    "cmaes": _cmaes,
    "gp": lambda seed: GPSampler(seed=seed),
}
"""Name -> sampler with a seed."""

PRUNERS: dict[str, Callable[[int, int], BasePruner]] = {
    "asha": lambda first, _: SuccessiveHalvingPruner(min_resource=first, reduction_factor=3, bootstrap_count=0),
    "hyperband": lambda first, reports: HyperbandPruner(min_resource=first, max_resource=reports, reduction_factor=3),
    "median": lambda first, _: MedianPruner(n_startup_trials=5, n_warmup_steps=first),
    "none": lambda *_: NopPruner(),
}
"""Name -> pruner of trials whose first rung and number of reports are given."""
