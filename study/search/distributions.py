"""What a search space suggests: all of its keys and ranges, found by asking it, without an Optuna study."""

import json
import math
import random
from collections.abc import Callable, Mapping
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

DRAWS = 64
"""Random trials after the systematic ones, for keys that depend on several others."""


class Recorder:
    """A trial that answers from ``wanted``, with the nearest value that a range has, and records what it was asked."""

    def __init__(self, wanted: Mapping[str, Any], draw: random.Random | None = None):
        """With ``draw``, keys that are not in ``wanted`` get random values."""
        self.params: dict[str, Any] = {}
        self.distributions: dict[str, BaseDistribution] = {}
        self._wanted = wanted
        self._draw = draw

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """As Optuna's."""
        answer: float = self._suggest(name, FloatDistribution(low, high, log=log, step=step))
        return answer

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """As Optuna's."""
        answer: int = self._suggest(name, IntDistribution(low, high, log=log, step=step))
        return answer

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """As Optuna's."""
        return self._suggest(name, CategoricalDistribution(choices))

    def _suggest(self, name: str, asked: BaseDistribution) -> Any:
        if self.distributions.setdefault(name, asked) != asked:
            raise ValueError(two_ranges(name, self.distributions[name], asked))
        if name not in self.params:
            drawn = name not in self._wanted and self._draw is not None
            self.params[name] = _drawn(asked, self._draw) if drawn else nearest(asked, self._wanted.get(name))
        return self.params[name]


def found(ask: Callable[[Any], Any], base: Mapping[str, Any]) -> dict[str, BaseDistribution]:
    """All keys that ``ask(trial)`` may suggest, with their ranges; first those that it suggests with ``base``.

    Each choice and both ends of each range are tried, one key after the other, for the keys that depend on them; then
    come random values. Raises ValueError for a key that has two ranges.
    """
    ranges: dict[str, BaseDistribution] = {}

    def run(recorder: Recorder) -> list[str]:
        ask(recorder)
        new = [key for key in recorder.distributions if key not in ranges]
        for key, distribution in recorder.distributions.items():
            if ranges.setdefault(key, distribution) != distribution:
                raise ValueError(two_ranges(key, ranges[key], distribution))
        return new

    to_try: list[dict[str, Any]] = [{}]
    while to_try:
        changed = to_try.pop(0)
        for key in run(Recorder({**base, **changed})):
            to_try += [{**changed, key: value} for value in ends(ranges[key])]
    draw = random.Random(0)
    for _ in range(DRAWS):
        run(Recorder({}, draw))
    return ranges


def two_ranges(key: str, first: BaseDistribution, second: BaseDistribution) -> str:
    """What is wrong with a space that suggests ``key`` from two ranges."""
    return (
        f"the search space has two ranges for {key}, {text(recorded(first))} and {text(recorded(second))}; give it one"
    )


def ends(distribution: BaseDistribution) -> list[Any]:
    """All choices, or both ends."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return [distribution.low, distribution.high]


def holds(distribution: BaseDistribution, value: Any) -> bool:
    """Whether ``value`` is one of the choices, or a number within the range and on one of its steps."""
    if isinstance(distribution, CategoricalDistribution):
        return any(_equal(value, choice) for choice in distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    if not _number(value) or not distribution.low <= value <= distribution.high:
        return False
    steps = (value - distribution.low) / distribution.step if distribution.step else 0.0
    return math.isclose(steps, round(steps), abs_tol=1e-9)


def nearest(distribution: BaseDistribution, value: Any) -> Any:
    """``value`` where the distribution holds it, else the nearest number that it does.

    Without a number to start from: the first choice, or the middle of the range.
    """
    if isinstance(distribution, CategoricalDistribution):
        choices = list(distribution.choices)
        if not holds(distribution, value):
            numbers = [choice for choice in choices if _number(choice)] if _number(value) else []
            return min(numbers, key=lambda number: abs(number - value)) if numbers else choices[0]
        return next(choice for choice in choices if _equal(value, choice))
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = distribution.low, distribution.high
    if not _number(value):
        value = math.exp((math.log(low) + math.log(high)) / 2) if distribution.log else (low + high) / 2
    within = min(max(value, low), high)
    if step := distribution.step:
        within = min(low + step * round((within - low) / step), high)
    return round(within) if isinstance(distribution, IntDistribution) else float(within)


def recorded(distribution: BaseDistribution) -> dict[str, Any]:
    """``distribution`` as study.json has it, ready for JSON: its choices, or low, high, log and integer."""
    if isinstance(distribution, CategoricalDistribution):
        return {"choices": json.loads(json.dumps(list(distribution.choices)))}
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    step = {} if distribution.step in (None, 1) else {"step": distribution.step}
    integer = isinstance(distribution, IntDistribution)
    return {"low": distribution.low, "high": distribution.high, "log": distribution.log, "integer": integer, **step}


def text(record: Mapping[str, Any]) -> str:
    """What :func:`recorded` returns, for people."""
    if "choices" in record:
        return f"one of {', '.join('none' if c is None else str(c) for c in record['choices'])}"
    scale = ", logarithmic" if record.get("log") else ""
    return f"{'integer ' if record.get('integer') else ''}{record['low']:.6g} to {record['high']:.6g}{scale}"


def _drawn(distribution: BaseDistribution, draw: Any) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return draw.choice(distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    if isinstance(distribution, IntDistribution):
        return nearest(distribution, draw.randint(distribution.low, distribution.high))
    if distribution.log:
        return nearest(distribution, math.exp(draw.uniform(math.log(distribution.low), math.log(distribution.high))))
    return nearest(distribution, draw.uniform(distribution.low, distribution.high))


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _equal(one: Any, other: Any) -> bool:
    """Equal, and both or neither a bool: True is not 1 here."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)
