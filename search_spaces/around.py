"""Ranges around a preset, from which all search spaces are made. Every range holds the preset's own value."""

from dataclasses import dataclass
from typing import Any

from optuna import Trial


@dataclass(frozen=True)
class Around:
    """Suggests hyperparameters of ``trial`` around ``base``, the preset's full configuration.

    Each method suggests the hyperparameter ``key`` and returns its value. The methods ``within``, ``count`` and
    ``among`` ask Optuna; the others work out their bounds from ``base[key]`` and call one of these.
    """

    trial: Trial
    base: dict[str, Any]
    base_first: bool = True
    """Whether ``among`` puts the base's value before all others. If not, the choices keep the order in which they are
    written, and the base's value comes last where it is not written. Optuna does not continue a stored study whose
    choices changed their order, so a model keeps its setting."""

    def within(self, key: str, low: float, high: float, *, log: bool = False) -> float:
        """A float from ``low`` to ``high``; a base outside widens the range. ``log`` makes the scale logarithmic."""
        value = self.base[key]
        return self.trial.suggest_float(key, min(low, value), max(high, value), log=log)

    def near(self, key: str, below: float, above: float | None = None) -> float:
        """A float from base / ``below`` to base * ``above`` (default: ``below``), on a logarithmic scale."""
        value = self.base[key]
        return self.within(key, value / below, value * (below if above is None else above), log=True)

    def shifted(self, key: str, below: float, above: float | None = None) -> float:
        """A float from base - ``below`` to base + ``above`` (default: ``below``)."""
        value = self.base[key]
        return self.within(key, value - below, value + (below if above is None else above))

    def count(self, key: str, low: int, high: int, *, log: bool = False) -> int:
        """An integer from ``low`` to ``high``; a base outside widens the range. ``log`` makes the scale logarithmic."""
        value = self.base[key]
        return self.trial.suggest_int(key, min(low, value), max(high, value), log=log)

    def among(self, key: str, *values: Any) -> Any:
        """The base's value or one of ``values``; each choice counts once."""
        value = self.base[key]
        choices = [value, *values] if self.base_first else [*values, value]
        return self.trial.suggest_categorical(key, list(dict.fromkeys(choices)))

    def portion(self, key: str, *factors: float) -> int:
        """The base's value, an integer, or its product with one of ``factors``, rounded down and at least 1."""
        chosen: int = self.among(key, *(max(1, int(self.base[key] * factor)) for factor in factors))
        return chosen
