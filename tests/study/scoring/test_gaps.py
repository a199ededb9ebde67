"""What is lost from test to other images."""

import numpy as np
import pytest

from study.scoring import bootstrap
from study.scoring.gaps import gaps
from study.scoring.leaderboard import METRICS, entry_name, leaderboard
from tests.study.results import SCORES, evaluation


def test_a_gap_is_test_minus_the_other_split_with_an_interval_over_both() -> None:
    table = evaluation(SCORES, images=40)
    drawn = {(entry_name(e), split): m for (e, split), m in bootstrap.all_resampled(table, METRICS).items()}
    rows = leaderboard(table, ["trial_0005", "trial_0002", "base"])
    found = {(gap.entry, gap.split, gap.metric): gap for gap in gaps(rows, drawn)}
    assert {split for _, split, _ in found} == {"OOD"}
    gap = found["trial 5", "OOD", "mIoU_fg"]
    ood = np.delete(np.arange(40), 2).mean()  # one image there has no foreground
    assert gap.difference == pytest.approx(0.1 + 0.01 * (19.5 - ood))
    assert gap.interval is not None and gap.interval[0] < gap.difference < gap.interval[1]
    deviation = np.arange(40).std() * 0.01 / np.sqrt(40)
    assert gap.interval[1] - gap.interval[0] == pytest.approx(2 * 1.96 * np.sqrt(2) * deviation, rel=0.15)
    assert found["trial 5", "OOD", "MSE"].difference == pytest.approx(0)
    assert not any(" - " in entry for entry, _, _ in found), "a gain has no gap"
