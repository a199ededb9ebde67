"""What the command line calls samplers and pruners, as Optuna's objects: :data:`SAMPLERS` and :data:`PRUNERS`.

To add one, enter it in its table and in the field of :class:`study.config.StudyConfig` that names it.
"""

import warnings
from collections.abc import Callable

from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, RandomSampler, TPESampler

from study.search.rungs import FACTOR, Promotion, positions


def sampler(name: str, seed: int) -> BaseSampler:
    """The Optuna sampler ``name``. Raises ValueError if a package that it needs is missing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return SAMPLERS[name](seed)


def pruner(name: str, reports: int | None) -> BasePruner:
    """The Optuna pruner ``name`` for trials of ``reports`` reports; it stops no trial before the first rung."""
    first = min(positions(reports or 1), default=1)
    return PRUNERS[name](first, reports or 1)


def promotion(name: str, reports: int, *, maximize: bool) -> Promotion | None:
    """Which paused trials go on where ``name`` lets trials pause, else None: then :func:`pruner` stops them."""
    return Promotion(reports, maximize) if name == "asha" else None


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
    "asha": lambda *_: NopPruner(),  # its trials pause: see promotion()
    "halving": lambda first, _: SuccessiveHalvingPruner(min_resource=first, reduction_factor=FACTOR, bootstrap_count=0),
    "hyperband": lambda first, reports: HyperbandPruner(
        min_resource=first, max_resource=reports, reduction_factor=FACTOR
    ),
    "median": lambda first, _: MedianPruner(n_startup_trials=5, n_warmup_steps=first),
    "none": lambda *_: NopPruner(),
}
"""Name -> pruner of trials whose first rung and number of reports are given."""
