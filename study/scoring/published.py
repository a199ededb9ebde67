"""The benchmark's published numbers beside a study's, where the two can be compared."""

import functools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data import spec
from data.spec import DataSpec
from study.scoring.leaderboard import BRIEF, FRACTIONS, Row

FILE = Path(__file__).with_name("published_results.json")

UNCONFIRMED = "recalled, unconfirmed"
"""The status of a number that nobody has compared with the paper yet."""


@dataclass(frozen=True)
class Published:
    """One published number and ours."""

    split: str
    """its name in files"""
    metric: str
    mean: float
    """published, in the unit of the tables: percent, or a sum"""
    std: float | None
    """published deviation over runs"""
    status: str
    """:data:`UNCONFIRMED` or confirmed"""
    ours: float
    """the mean of our entry, in the same unit"""

    @property
    def within(self) -> bool | None:
        """Whether ours is within two published deviations; None without a deviation."""
        return None if self.std is None else abs(self.ours - self.mean) <= 2 * self.std


@functools.cache
def _stored() -> dict[str, Any]:
    return json.loads(FILE.read_text())


def source() -> str:
    """Where the numbers come from."""
    return _stored()["source"]


def beside(record: Mapping[str, Any], rows: Sequence[Row], entry: str) -> tuple[list[Published], str]:
    """The published numbers of a study's model beside those of its ``entry``, or none and one line why not.

    ``record`` is study.json, ``rows`` the leaderboard, in which ``entry`` is named as people read it.
    """
    stored = _stored()
    config, data = record["config"], record.get("data") or {}
    try:
        found = spec.parse(data.get("spec") or config["data"])
    except ValueError:
        found = None
    tables = stored["tables"].get(_name(found)) if found else None
    on = " or ".join(f"{name}-crop-({stored['size'][0]},{stored['size'][1]})" for name in stored["tables"])
    here = data.get("spec") or config["data"]
    why = ""
    if found is None or tables is None or not found.crop or found.size != tuple(stored["size"]):
        why = f"published numbers are for {on}; this study is on {here}"
    elif data.get("incomplete"):
        why = "published numbers are for all images; some are missing here"
    if why or tables is None:
        return [], why
    by_key = {
        (table, metric): (mean, std, status)
        for table, model, metric, mean, std, status in stored["results"]
        if model == config["model"]
    }
    lines = []
    partly = {name for name, about in (record.get("added") or {}).items() if about.get("incomplete")}
    for row in rows:
        if row.split in partly:
            continue
        for metric in BRIEF if row.entry == entry and row.kind != "gain" else ():
            known = by_key.get((tables.get(row.split), metric))
            if known and not math.isnan(row.means[metric]):
                ours = row.means[metric] * (100 if metric in FRACTIONS else 1)
                lines.append(Published(row.split, metric, *known, ours))
    return lines, "" if lines else f"no published numbers of {config['model']} are known"


def _name(found: DataSpec) -> str:
    return f"{found.name}:{found.variant}" if found.variant else found.name
