"""Intervals over images: their width is that of theory, and the same call gives the same."""

import math

import numpy as np
import pyarrow as pa
import pytest

from study.scoring import bootstrap

METRICS = ("mIoU_fg", "MSE")


def table(entries: dict[str, dict[int | None, np.ndarray]], split: str = "test") -> pa.Table:
    """Scores by entry and seed, the images in an order of their own for each seed."""
    rows = []
    for entry, by_seed in entries.items():
        for seed, scores in by_seed.items():
            order = range(len(scores)) if seed is None or seed % 2 else reversed(range(len(scores)))
            rows += [
                {"entry": entry, "seed": seed, "split": split, "image": i, "mIoU_fg": float(scores[i])} for i in order
            ]
    return pa.Table.from_pylist(rows)


def test_the_interval_is_as_wide_as_theory_says() -> None:
    scores = np.random.default_rng(5).normal(0.4, 0.2, 400)
    means = bootstrap.all_resampled(table({"base": {None: scores}}), METRICS)["base", "test"]
    assert means.shape == (bootstrap.RESAMPLES, 2) and np.isnan(means[:, 1]).all(), "it has no MSE"
    low, high = bootstrap.interval(means[:, 0]) or (math.nan, math.nan)
    half = 1.96 * scores.std() / math.sqrt(400)
    assert low == pytest.approx(scores.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(scores.mean() + half, abs=0.1 * half)
    assert bootstrap.interval(means[:, 1]) is None


def test_it_is_over_images_not_over_seeds() -> None:
    """Two seeds whose scores differ by a constant have the interval of one, about their mean."""
    scores = np.random.default_rng(6).normal(0.4, 0.1, 50)
    both = table({"a": {1: scores, 2: scores + 0.2}, "b": {1: scores}})
    found = bootstrap.all_resampled(both, METRICS)
    shifted, alone = bootstrap.interval(found["a", "test"][:, 0]), bootstrap.interval(found["b", "test"][:, 0])
    assert shifted is not None and alone is not None
    assert np.array(shifted) == pytest.approx(np.array(alone) + 0.1), "images are matched by number, not by place"


def test_images_without_foreground_count_for_nothing() -> None:
    scores = np.array([0.2, math.nan, 0.4])
    means = bootstrap.all_resampled(table({"a": {None: scores}}), METRICS)["a", "test"][:, 0]
    known = means[~np.isnan(means)]
    assert known.min() >= 0.2 - 1e-9 and known.max() <= 0.4 + 1e-9 and len(known) > 900


def test_the_same_draws_for_all_entries_and_others_for_each_split() -> None:
    scores = np.random.default_rng(7).random(30)
    here = bootstrap.all_resampled(table({"a": {None: scores}, "b": {None: scores + 1}}), METRICS)
    assert here["b", "test"][:, 0] - here["a", "test"][:, 0] == pytest.approx(1)
    again = bootstrap.all_resampled(table({"a": {None: scores}}), METRICS)
    assert again["a", "test"][:, 0] == pytest.approx(here["a", "test"][:, 0]), "seeded"
    other = bootstrap.all_resampled(table({"a": {None: scores}}, split="outd"), METRICS)
    assert abs(np.corrcoef(other["a", "outd"][:, 0], here["a", "test"][:, 0])[0, 1]) < 0.2


def test_an_entry_that_is_not_scored_to_the_end_has_no_interval() -> None:
    scores = np.random.default_rng(8).random(9)
    assert bootstrap.per_image(table({"a": {1: scores, 2: scores[:5]}}), METRICS) == {}
