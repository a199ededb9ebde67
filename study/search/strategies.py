"""Samplers and pruners by the names that the command line has for them: :data:`SAMPLERS` and :data:`PRUNERS`.

To add one, write the function that makes it and enter it in its table. Importing this file does not import Optuna,
because the command line needs the names only.
"""

import math
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import optuna


def sampler(name: str, seed: int) -> "optuna.samplers.BaseSampler":
    """The Optuna sampler ``name``. Raises ValueError if a package that it needs is missing."""
    from optuna.exceptions import ExperimentalWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return SAMPLERS[name](seed)


def pruner(name: str, reports: int) -> "optuna.pruners.BasePruner":
    """The Optuna pruner ``name`` for trials of ``reports`` reports; none stops a trial before 20 % of them."""
    return PRUNERS[name](math.ceil(0.2 * reports), reports)


def _tpe(seed: int) -> "optuna.samplers.BaseSampler":
    from optuna.samplers import TPESampler

    return TPESampler(seed=seed)


def _random(seed: int) -> "optuna.samplers.BaseSampler":
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=seed)


def _cmaes(seed: int) -> "optuna.samplers.BaseSampler":
    from optuna.samplers import CmaEsSampler

    try:
        import cmaes  # noqa: F401
    except ImportError as error:
        raise ValueError("--sampler cmaes needs a package: pip install 'clevrtune[cmaes]'") from error
    return CmaEsSampler(seed=seed, warn_independent_sampling=False)


def _gp(seed: int) -> "optuna.samplers.BaseSampler":
    from optuna.samplers import GPSampler

    return GPSampler(seed=seed)


SAMPLERS: dict[str, Callable[[int], "optuna.samplers.BaseSampler"]] = {
    "tpe": _tpe,
    "random": _random,
    "cmaes": _cmaes,
    "gp": _gp,
}
"""Name -> sampler with a seed; the first is the default."""


def _asha(first: int, reports: int) -> "optuna.pruners.BasePruner":
    from optuna.pruners import SuccessiveHalvingPruner

    return SuccessiveHalvingPruner(min_resource=first, reduction_factor=3, bootstrap_count=0)


def _hyperband(first: int, reports: int) -> "optuna.pruners.BasePruner":
    from optuna.pruners import HyperbandPruner

    return HyperbandPruner(min_resource=first, max_resource=reports, reduction_factor=3)


def _median(first: int, reports: int) -> "optuna.pruners.BasePruner":
    from optuna.pruners import MedianPruner

    return MedianPruner(n_startup_trials=5, n_warmup_steps=first)


def _none(first: int, reports: int) -> "optuna.pruners.BasePruner":
    from optuna.pruners import NopPruner

    return NopPruner()


PRUNERS: dict[str, Callable[[int, int], "optuna.pruners.BasePruner"]] = {
    "asha": _asha,
    "hyperband": _hyperband,
    "median": _median,
    "none": _none,
}
"""Name -> pruner of trials whose first rung and number of reports are given; the first is the default."""
