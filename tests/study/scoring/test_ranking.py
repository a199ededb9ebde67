"""Who wins, and what finalists.json keeps of it."""

import math
from pathlib import Path

import pytest

from study.scoring import ranking
from study.scoring.ranking import Finalist, Run


def finalist(entry: str, *values: float | None) -> Finalist:
    return Finalist(entry, 1, tuple(Run(seed, "where", value) for seed, value in enumerate(values)))


def order(direction: str, *finalists: Finalist) -> list[str]:
    return [one.entry for one in ranking.ranked(finalists, direction)]


def test_the_mean_over_seeds_decides_in_the_direction_of_the_metric() -> None:
    lucky, steady, base = finalist("lucky", 0.9, 0.1), finalist("steady", 0.6, 0.6), finalist("base", 0.5, 0.4)
    assert order("max", lucky, base, steady) == ["steady", "lucky", "base"]
    assert order("min", lucky, steady, base) == ["base", "lucky", "steady"]
    assert order("max", finalist("trial", 0.25, 0.75), finalist("base", 0.5, 0.5)) == ["base", "trial"], "of equals"


def test_a_failed_seed_counts_more_than_any_score() -> None:
    broken, dead = finalist("broken", 0.99, None), finalist("dead", None, None)
    assert order("max", broken, dead, finalist("whole", 0.1, 0.1)) == ["whole", "broken"]
    assert broken.mean == 0.99 and [run.seed for run in broken.complete] == [0] and math.isnan(dead.mean)


def test_a_file_is_read_back_and_a_damaged_one_is_none(tmp_path: Path) -> None:
    written = [finalist("trial_0003", 0.5, None), finalist("base", 0.2, 0.3)]
    assert ranking.read(tmp_path) == [] and ranking.read_asked(tmp_path) == {}
    ranking.write(tmp_path, written, metric="MSE", asked={"seeds": 2})
    assert ranking.read(tmp_path) == written and ranking.read_asked(tmp_path) == {"seeds": 2}
    for text in ("{", "{}", '{"finalists": [1]}'):
        (tmp_path / ranking.FILE).write_text(text)
        assert ranking.read(tmp_path) == []


@pytest.mark.parametrize("entry", ["base", "trial_0007"])
def test_the_base_is_no_baseline(entry: str) -> None:
    assert not entry.startswith("baseline_")
