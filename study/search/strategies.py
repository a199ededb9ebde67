"""What the command line calls samplers and pruners, as Optuna's objects: :data:`SAMPLERS` and :data:`PRUNERS`.

To add one, enter it in its table and in the field of :class:`study.config.StudyConfig` that names it.
"""

import warnings
from collections.abc import Callable
from typing import Any

from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, CmaEsSampler, NSGAIISampler, RandomSampler, TPESampler

from study.search.gaussian_process import StoppedGPSampler
from study.search.prior import PriorSampler
from study.search.rungs import FACTOR, Promotion, positions

POPULATION = 10
"""Complete trials of a generation of nsga2; its first generation is random, so Optuna's 50 would be whole studies."""


def sampler(name: str, seed: int, base: dict[str, Any] | None = None) -> BaseSampler:
    """The sampler ``name``; ``base`` are the hyperparameters around which it may begin.

    Raises ValueError if a package that it needs is missing.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return SAMPLERS[name](seed, base or {})


def pruner(name: str, reports: int | None) -> BasePruner:
    """The Optuna pruner ``name`` for trials of ``reports`` reports; it stops no trial before the first rung."""
    first = min(positions(reports or 1), default=1)
    return PRUNERS[name](first, reports or 1)


def promotion(name: str, reports: int, *, maximize: bool) -> Promotion | None:
    """Which paused trials go on where ``name`` lets trials pause, else None: then :func:`pruner` stops them."""
    return Promotion(reports, maximize) if name == "asha" else None


def _cmaes(seed: int, _: dict[str, Any]) -> BaseSampler:
    try:
        import cmaes  # noqa: F401
    except ImportError as error:
        raise ValueError("--sampler cmaes needs a package: pip install 'clevrtune[cmaes]'") from error
    return CmaEsSampler(seed=seed, warn_independent_sampling=False)


SAMPLERS: dict[str, Callable[[int, dict[str, Any]], BaseSampler]] = {
    "prior": lambda seed, base: PriorSampler(base, seed),
    "tpe": lambda seed, _: TPESampler(seed=seed),
    "random": lambda seed, _: RandomSampler(seed=seed),
    "cmaes": _cmaes,
    "gp": lambda seed, _: StoppedGPSampler.quiet(seed),
    "nsga2": lambda seed, _: NSGAIISampler(population_size=POPULATION, seed=seed),
}
"""Name -> sampler with a seed, for a study with that base."""

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
