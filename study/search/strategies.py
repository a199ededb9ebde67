"""What the command line calls samplers and pruners, as Optuna's objects."""

import math
import warnings

import optuna


def sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    """The Optuna sampler ``name`` of the command line. Raises ValueError if its package is missing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match name:
            case "tpe":
                return optuna.samplers.TPESampler(seed=seed)
            case "random":
                return optuna.samplers.RandomSampler(seed=seed)
            case "cmaes":
                try:
                    import cmaes  # noqa: F401
                except ImportError as error:
                    raise ValueError("--sampler cmaes needs a package: pip install 'clevrtune[cmaes]'") from error
                return optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
            case "gp":
                return optuna.samplers.GPSampler(seed=seed)
    raise AssertionError(name)


def pruner(name: str, reports: int) -> optuna.pruners.BasePruner:
    """The Optuna pruner ``name`` of the command line; nothing is stopped before 20 % of ``reports``."""
    first = math.ceil(0.2 * reports)
    match name:
        case "asha":
            return optuna.pruners.SuccessiveHalvingPruner(min_resource=first, reduction_factor=3, bootstrap_count=0)
        case "hyperband":
            return optuna.pruners.HyperbandPruner(min_resource=first, max_resource=reports, reduction_factor=3)
        case "median":
            return optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=first)
        case "none":
            return optuna.pruners.NopPruner()
    raise AssertionError(name)
