"""Values and ranges of hyperparameters as people read them, in the terminal."""

import re
from collections.abc import Mapping
from typing import Any


def range_text(record: Mapping[str, Any]) -> str:
    """A range of study.json as ``--space`` takes it: '1e-4 .. 0.01 log', '4 .. 12', '16, 32'."""
    if "choices" in record:
        return ", ".join(map(brief, record["choices"]))
    words = f"{brief(record['low'])} .. {brief(record['high'])}"
    return f"{words} log" if record.get("log") else words


def brief(value: Any) -> str:
    """``value`` with four significant digits at most, powers of ten where they are shorter: '1e-4'; 'none' for None."""
    if not isinstance(value, float):
        return "none" if value is None else str(value)
    plain, power = f"{value:.4g}", re.sub(r"\.?0*e([+-])0*", r"e\1", f"{value:.3e}").replace("e+", "e")
    return min(re.sub(r"e([+-])0", r"e\1", plain).replace("e+", "e"), power, key=len)
