"""95 % intervals over images: how far a mean would move with other images of the same kind (Efron 1979).

Images are drawn anew with replacement, with a fixed seed, and the same ones for all entries. The interval says nothing
about other seeds of training: that is what the deviation over seeds is for.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

RESAMPLES = 1000
"""Means of which the interval has the middle 95 %."""
AT_A_TIME = 50
"""Resamples whose counts are in memory together."""
PERCENTILES = (2.5, 97.5)

Floats = NDArray[np.float64]
Interval = tuple[float, float]
Key = tuple[str, str]
"""Entry and split."""


def per_image(evaluation: pa.Table, metrics: Sequence[str]) -> dict[Key, Floats]:
    """(entry, split) -> scores (images, metrics), the mean over the seeds of each image; NaN where one is undefined.

    ``evaluation`` has the columns of evaluation.parquet. A metric that it lacks is NaN. An entry whose seeds have not
    all the same images is left out: it is not scored to the end.
    """
    names = ["entry", "split", "seed", "image"]
    there = [name for name in names if name in evaluation.column_names]
    table = evaluation.select([*there, *(name for name in metrics if name in evaluation.column_names)])
    columns = {name: table[name].to_pylist() for name in ("entry", "split")}
    seeds = table["seed"].to_pylist() if "seed" in there else [None] * len(table)
    images = table["image"].to_numpy()
    scores = np.full((len(table), len(metrics)), np.nan)
    for i, name in enumerate(metrics):
        if name in table.column_names:
            scores[:, i] = table[name].cast(pa.float64()).to_numpy(zero_copy_only=False)
    runs: dict[Key, dict[int | None, list[int]]] = {}
    for row, (entry, split, seed) in enumerate(zip(columns["entry"], columns["split"], seeds, strict=True)):
        runs.setdefault((entry, split), {}).setdefault(seed, []).append(row)
    found = {}
    for key, by_seed in runs.items():
        ordered = [np.array(rows)[np.argsort(images[rows], kind="stable")] for rows in by_seed.values()]
        if all(np.array_equal(images[rows], images[ordered[0]]) for rows in ordered):
            found[key] = np.mean([scores[rows] for rows in ordered], axis=0)
    return found


def resampled(scores: Mapping[str, Floats], split: str) -> dict[str, Floats]:
    """Means of ``scores``, entry -> (images, metrics), over resampled images: entry -> (RESAMPLES, metrics).

    NaN counts for nothing. ``split`` has its own draws, so that two splits of one size are independent.
    """
    means: dict[str, Floats] = {}
    for n in {len(values) for values in scores.values()}:
        here = [entry for entry, values in scores.items() if len(values) == n]
        all_values = np.concatenate([scores[entry] for entry in here], 1)  # (n, entries * metrics)
        known = ~np.isnan(all_values)
        filled = np.where(known, all_values, 0.0)
        rng = np.random.default_rng([0, *split.encode()])
        parts = []
        for first in range(0, RESAMPLES, AT_A_TIME):
            draws = min(AT_A_TIME, RESAMPLES - first)
            counts = np.stack([np.bincount(rng.integers(0, n, n), minlength=n) for _ in range(draws)]).astype(float)
            with np.errstate(invalid="ignore", divide="ignore"):
                parts.append((counts @ filled) / (counts @ known))
        drawn = np.concatenate(parts)
        width = all_values.shape[1] // len(here)
        means |= {entry: drawn[:, i * width : (i + 1) * width] for i, entry in enumerate(here)}
    return means


def all_resampled(evaluation: pa.Table, metrics: Sequence[str]) -> dict[Key, Floats]:
    """(entry, split) -> means over resampled images, (RESAMPLES, metrics)."""
    scores = per_image(evaluation, metrics)
    found: dict[Key, Floats] = {}
    for split in dict.fromkeys(split for _, split in scores):
        here = {entry: values for (entry, where), values in scores.items() if where == split}
        found |= {(entry, split): means for entry, means in resampled(here, split).items()}
    return found


def interval(means: Floats) -> Interval | None:
    """The middle 95 % of ``means``, (RESAMPLES,); None where they are undefined."""
    known = means[~np.isnan(means)]
    if not len(known):
        return None
    low, high = np.percentile(known, PERCENTILES)
    return round(float(low), 12), round(float(high), 12)  # sums differ in their last bits from machine to machine
