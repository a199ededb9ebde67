"""What a study asks: the preset's values and the ranges around them, and whether they are still the same.

Trials drawn from one space say little about another. So both belong to what a study is, as its flags do.
"""

import math
from collections.abc import Mapping
from typing import Any

from study.search import distributions


def refuse_another(name: str, stored: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise ValueError naming the keys in which the question ``now`` differs from the ``stored`` one.

    Both have ``base`` (key -> value), ``ranges`` (key -> what :func:`distributions.recorded` returns) and
    ``space_file`` (the content's hash, or None). What ``stored`` does not have is not compared.
    """
    changed = []
    if stored.get("base") is not None:
        changed += _changes(stored["base"], now["base"], "", "value", str)
    if stored.get("ranges") is not None:
        changed += _changes(stored["ranges"], now["ranges"], "the range of ", "range", distributions.text)
    if not changed and "ranges" in stored and stored.get("space_file") != now.get("space_file"):
        changed = ["the file of --space is another one, with the same ranges"]
    if changed:
        raise ValueError(
            f"study {name} began with other values or ranges: {'; '.join(changed)}. Undo the change, start over with "
            f"--fresh, or choose another --name, with --from to begin with the best trials of this study"
        )


def _changes(there: Mapping[str, Any], here: Mapping[str, Any], what: str, noun: str, text: Any) -> list[str]:
    def said(value: Any) -> str:
        return "none" if value is None else text(value)

    lines = []
    for key in [*there, *(key for key in here if key not in there)]:
        if key not in here:
            lines.append(f"{key} had the {noun} {said(there[key])} and has none now")
        elif key not in there:
            lines.append(f"{key} had no {noun} and has {said(here[key])} now")
        elif not _same(there[key], here[key]):
            lines.append(f"{what}{key} was {said(there[key])} and is {said(here[key])}")
    return lines


def _same(one: Any, other: Any) -> bool:
    """Whether two values of JSON are equal; floats to nine digits, since powers differ between C libraries."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, float) or isinstance(other, float):
        numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (one, other))
        return numbers and math.isclose(one, other, rel_tol=1e-9)
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)
