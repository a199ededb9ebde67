"""Means, their order and their text."""

import math
from pathlib import Path

import pyarrow as pa
import pytest

from study.scoring import leaderboard
from study.scoring.leaderboard import Row
from tests.study.results import SCORES, evaluation


def rows() -> list[Row]:
    return leaderboard.leaderboard(evaluation(SCORES), [0, 7, 1, 5, 2])


def test_means_are_over_images_then_over_trials() -> None:
    order = ["trial 5", "trial 2", "best 2 trials", "grid 4x4", "background"]
    assert [(row.split, row.entry) for row in rows()] == [(s, e) for s in ("test", "outd") for e in order]
    first, second, summary, *_ = rows()
    assert first.images == 6 and first.undefined == 0
    assert first.means["mIoU_fg"] == pytest.approx(0.425)
    assert second.means == pytest.approx({"mIoU_fg": 0.625, "ARI_FG": 0.625, "MSE": 80})
    assert summary.means["mIoU_fg"] == pytest.approx(0.525)
    assert summary.stds == pytest.approx({"mIoU_fg": 0.1, "ARI_FG": 0.1, "MSE": 20}), "ddof 0, as published"
    outd = rows()[5]
    assert outd.undefined == 1 and outd.means["mIoU_fg"] == pytest.approx(0.3 + 0.01 * (0 + 1 + 3 + 4 + 5) / 5)


@pytest.mark.parametrize(
    ("by_validation", "order"),
    [
        ([2, 9, 5, 1], ["trial 2", "trial 5", "trial 1"]),
        ([1, 5], ["trial 1", "trial 5", "trial 2"]),  # a trial that the order lacks comes last
        ([], ["trial 1", "trial 2", "trial 5"]),  # a folder without trials.parquet
    ],
)
def test_trials_keep_the_order_of_validation_whatever_their_test_scores(by_validation: list, order: list) -> None:
    table = evaluation({"trial_0002": 0.1, "trial_0001": 0.2, "trial_0005": 0.3})
    found = leaderboard.leaderboard(table, by_validation)
    for split in ("test", "outd"):
        assert [row.entry for row in found if row.split == split and row.kind == "trial"] == order


def test_the_trials_of_a_folder_have_the_order_of_its_trials_parquet(results_folder: Path) -> None:
    assert leaderboard.read_leaderboard(results_folder.parent) == []
    (results_folder / "trials.parquet").unlink(missing_ok=True)
    assert [row.entry for row in leaderboard.read_leaderboard(results_folder)[:2]] == ["trial 2", "trial 5"]
    pa.parquet.write_table(pa.table({"number": [5, 2], "state": ["COMPLETE"] * 2}), results_folder / "trials.parquet")
    assert [row.entry for row in leaderboard.read_leaderboard(results_folder)[:2]] == ["trial 5", "trial 2"]


def test_cells_are_percent_and_the_best_of_each_column_is_marked() -> None:
    test, outd = leaderboard.sections(rows(), size=32)
    assert test.title == "test (6 images)" and outd.title == "OOD (6 images)"
    assert test.headings == ["mIoU_fg (%)", "ARI_FG (%)", "MSE (sum over 3x32x32)"]
    cells = {row.entry: (texts, bold) for row, texts, bold in test.rows}
    assert cells["trial 2"] == (["62.5", "62.5", "80.0"], [True, True, True])
    assert cells["trial 5"] == (["42.5", "42.5", "120"], [False] * 3)
    assert cells["best 2 trials"] == (["52.5 ± 10.0", "52.5 ± 10.0", "100 ± 20"], [False] * 3)


def test_a_baseline_may_be_best_and_what_no_image_defines_is_a_dash() -> None:
    table = evaluation({"trial_0001": 0.1, "baseline_grid_4x4": 0.3})
    table = table.set_column(table.column_names.index("MSE"), "MSE", pa.array([math.nan] * len(table)))
    found = leaderboard.leaderboard(table, [1])
    assert [row.kind for row in found] == ["trial", "baseline"] * 2, "one trial needs no summary"
    (_, cells, bold), (_, _, baseline_bold) = leaderboard.sections(found, 32)[0].rows
    assert cells[2] == "-" and bold == [False] * 3 and baseline_bold == [True, True, False]


def test_footnotes_name_incomplete_data_the_order_and_undefined_images() -> None:
    assert leaderboard.footnotes(rows(), incomplete=True) == [
        "incomplete data: not comparable with published numbers",
        "trials are in the order of their validation scores, which chose them",
        "OOD: mIoU_fg and ARI_FG leave out images without foreground, 1 of them",
    ]
    assert len(leaderboard.footnotes(rows(), incomplete=False)) == 2
    alone = leaderboard.leaderboard(evaluation({"trial_0001": 0.1}), [1])
    assert len(leaderboard.footnotes(alone, incomplete=False)) == 1, "one trial has no order"
