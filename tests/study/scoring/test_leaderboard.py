"""Means, their order and their text."""

import math
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from data import plugins
from study.scoring import leaderboard
from study.scoring.leaderboard import Row
from tests import own_folder
from tests.study.results import SCORES, evaluation, with_figures


def rows() -> list[Row]:
    return leaderboard.leaderboard(evaluation(SCORES), ["trial_0005", "trial_0007", "trial_0002", "base"])


def brief(values: dict[str, float]) -> dict[str, float]:
    """Those of the metrics that the scores of an earlier version have."""
    return {metric: values[metric] for metric in leaderboard.BRIEF}


def test_means_are_over_images_then_over_seeds() -> None:
    order = ["trial 5", "trial 2", "base", "trial 5 - base", "grid 4x4", "background"]
    assert [(row.split, row.entry) for row in rows()] == [(s, e) for s in ("test", "outd") for e in order]
    first, second, base, gain, grid, _ = rows()[:6]
    assert first.images == 6 and first.undefined == 0 and first.seeds == 2 and grid.seeds == 1
    assert first.means["mIoU_fg"] == pytest.approx(0.475) and first.stds["mIoU_fg"] == pytest.approx(0.05)
    assert brief(second.means) == pytest.approx({"mIoU_fg": 0.645, "ARI_FG": 0.645, "MSE": 76})
    assert brief(second.stds) == pytest.approx({"mIoU_fg": 0.02, "ARI_FG": 0.02, "MSE": 4}), "ddof 0, as published"
    assert base.kind == "base" and base.means["mIoU_fg"] == pytest.approx(0.405) and not grid.stds
    assert gain.kind == "gain" and brief(gain.means) == pytest.approx({"mIoU_fg": 0.07, "ARI_FG": 0.07, "MSE": -14})
    assert gain.stds["mIoU_fg"] == pytest.approx(0.312428, abs=1e-5), "of two seeds each: see test_interval.py"
    outd = rows()[6]
    assert outd.undefined == 1
    assert outd.means["mIoU_fg"] == pytest.approx(0.35 + 0.01 * (0 + 1 + 3 + 4 + 5) / 5)


def test_a_metric_of_ones_own_is_a_column_in_its_own_scale_and_direction(tmp_path: Path) -> None:
    scores = evaluation(SCORES)
    lower = pc.subtract(pa.scalar(0.5), scores["mIoU_fg"])
    with own_folder.kept_out():
        mine = own_folder.write(tmp_path, own_folder.METRIC)
        path = mine / own_folder.METRIC
        path.write_text(path.read_text().replace('DIRECTION = "max"', 'DIRECTION = "min"'))
        plugins.use(mine)
        found = leaderboard.leaderboard(scores.append_column("coverage", lower), ["trial_0005", "base"])
        assert found[0].means["coverage"] == pytest.approx(0.025) and found[0].stds["coverage"] == pytest.approx(0.05)
        shown = leaderboard.sections(found, 32, leaderboard.BRIEF, own=True)[0]
        cells = {row.entry: (cells[-1], bold[-1]) for row, cells, bold in shown.rows}
        assert shown.headings[-1] == "coverage" and cells["trial 5"] == ("0.025 ± 0.05", False)
        assert cells["trial 2"] == ("-0.145 ± 0.02", True), "the lowest is the best"
        assert [row.means.keys() for row in found] == [found[0].means.keys()] * len(found)
        without = leaderboard.sections(found, 32, leaderboard.BRIEF)[0]
        assert len(without.headings) == len(leaderboard.BRIEF)
        assert "coverage" not in rows()[0].means, "scores of before it was there"


@pytest.mark.parametrize(
    ("by_validation", "order"),
    [
        (["trial_0002", "base", "trial_0005", "trial_0001"], ["trial 2", "base", "trial 5", "trial 1"]),
        (["trial_0001", "trial_0005"], ["trial 1", "trial 5", "base", "trial 2"]),  # what the order lacks comes last
        ([], ["base", "trial 1", "trial 2", "trial 5"]),  # a folder without any order
    ],
)
def test_finalists_keep_the_order_of_validation_whatever_their_test_scores(by_validation: list, order: list) -> None:
    table = evaluation({"trial_0002": [0.1], "trial_0001": [0.2], "trial_0005": [0.3], "base": [0.25]})
    found = leaderboard.leaderboard(table, by_validation)
    for split in ("test", "outd"):
        assert [row.entry for row in found if row.split == split] == order, "with one seed there is no gain to show"


def test_the_finalists_of_a_folder_have_the_order_of_its_finalists_json(results_folder: Path) -> None:
    def order() -> list[str]:
        return [row.entry for row in leaderboard.read_leaderboard(results_folder)[:3]]

    assert leaderboard.read_leaderboard(results_folder.parent) == []
    assert order() == ["trial 5", "trial 2", "base"]
    (results_folder / "finalists.json").unlink()  # of an earlier version
    pa.parquet.write_table(pa.table({"number": [2, 5], "state": ["COMPLETE"] * 2}), results_folder / "trials.parquet")
    assert order() == ["trial 2", "trial 5", "base"]
    (results_folder / "trials.parquet").unlink()
    assert order() == ["base", "trial 2", "trial 5"]


def test_scores_of_an_earlier_version_have_no_seeds() -> None:
    table = evaluation({"trial_0001": [0.1], "trial_0002": [0.3], "baseline_grid_4x4": [0.2]}).drop_columns(["seed"])
    found = leaderboard.leaderboard(table, ["trial_0002", "trial_0001"])
    assert [row.entry for row in found[:3]] == ["trial 2", "trial 1", "grid 4x4"]
    assert found[0].seeds == 1 and found[0].means["mIoU_fg"] == pytest.approx(0.325) and not found[0].stds


def test_cells_are_percent_and_the_best_of_each_column_is_marked() -> None:
    test, outd = leaderboard.sections(rows(), size=32)
    assert test.title == "test (6 images)" and outd.title == "OOD (6 images)"
    assert test.headings == ["mIoU_fg (%)", "ARI_FG (%)", "MSE (sum over 3x32x32)"], "all that this version scored"
    cells = {row.entry: (texts, bold) for row, texts, bold in test.rows}
    assert cells["trial 2"] == (["64.5 ± 2.0", "64.5 ± 2.0", "76.0 ± 4.0"], [True, True, True])
    assert cells["trial 5"] == (["47.5 ± 5.0", "47.5 ± 5.0", "110 ± 10"], [False] * 3)
    gain = ["+7.0 [-24.2, +38.2]", "+7.0 [-24.2, +38.2]", "-14.0 [-76.5, +48.5]"]
    assert cells["trial 5 - base"] == (gain, [False] * 3), "of MSE, less would be better"
    assert cells["grid 4x4"][0] == ["22.5", "22.5", "160"]


def test_all_metrics_are_on_pages_and_few_in_brief() -> None:
    found = leaderboard.leaderboard(with_figures(evaluation(SCORES)), ["trial_0002"])
    (row, cells, bold), *_ = leaderboard.sections(found, 32)[0].rows
    assert leaderboard.sections(found, 32)[0].headings == [
        *("mIoU_fg (%)", "ARI_FG (%)", "mBO_fg (%)", "mBO (%)", "ARI (%)", "MSE (sum over 3x32x32)"),
    ]
    assert row.entry == "trial 2" and cells[2:5] == ["30.0 ± 0.0", "40.0 ± 0.0", "50.0 ± 0.0"] and bold[2]
    (_, brief_cells, _), *_ = leaderboard.sections(found, 32, leaderboard.BRIEF)[0].rows
    assert brief_cells == [*cells[:2], cells[-1]]


def test_rows_are_diagnosed_by_the_means_of_their_figures() -> None:
    table = with_figures(evaluation(SCORES), trial_0002=0.9)
    every = leaderboard.leaderboard(table, ["trial_0002", "trial_0005"])
    verdicts = {row.entry: row.diagnosis.verdict if row.diagnosis else None for row in every if row.split == "test"}
    assert verdicts.pop("trial 2") == "finds objects" and verdicts.pop("trial 2 - base") is None
    assert set(verdicts.values()) == {"tiles the image"}
    first, second, *others = leaderboard.diagnoses(every)
    assert not any("OOD" in line for line in others), "a line per entry is enough"
    assert first == "trial 2 on test: finds objects (90% of the objects have a segment with IoU above 0.5)"
    assert second == "trial 5 on test: tiles the image (segmentations of successive images agree at 0.83 ARI)"


def test_figures_are_means_over_images_then_over_seeds() -> None:
    table = evaluation({"trial_0001": [0.1, 0.2]})
    figures = with_figures(table)
    largest = [0.2 * (seed == 12) + 0.1 * (image % 2) for seed, image in zip(*seeds_and_images(table), strict=True)]
    figures = figures.set_column(figures.column_names.index("seg_largest"), "seg_largest", pa.array(largest))
    (row, *_) = leaderboard.leaderboard(figures, [])
    assert row.figures["seg_largest"] == pytest.approx(0.15)


def seeds_and_images(table: pa.Table) -> tuple[list[int], list[int]]:
    return table["seed"].to_pylist(), table["image"].to_pylist()


def test_scores_of_an_earlier_version_have_no_diagnosis() -> None:
    assert leaderboard.diagnoses(rows()) == [] and leaderboard.diagnoses([]) == []
    assert all(row.diagnosis is None for row in rows())


def test_a_gain_and_its_interval_have_as_many_digits() -> None:
    assert leaderboard.cell("MSE", 14.0, 347.5, gain=True) == "+14 [-334, +362]"
    assert leaderboard.cell("MSE", 14.0, math.nan, gain=True) == "+14.0" and leaderboard.cell("MSE", 14.0) == "14.0"


def test_a_baseline_may_be_best_and_what_no_image_defines_is_a_dash() -> None:
    table = evaluation({"trial_0001": [0.1], "baseline_grid_4x4": [0.3]})
    table = table.set_column(table.column_names.index("MSE"), "MSE", pa.array([math.nan] * len(table)))
    found = leaderboard.leaderboard(table, ["trial_0001"])
    assert [row.kind for row in found] == ["trial", "baseline"] * 2
    (_, cells, bold), (_, _, baseline_bold) = leaderboard.sections(found, 32)[0].rows
    assert cells[2] == "-" and bold == [False] * 3 and baseline_bold == [True, True, False]


def test_footnotes_name_incomplete_data_what_follows_a_mean_and_undefined_images() -> None:
    assert leaderboard.footnotes(rows(), incomplete=True) == [
        "incomplete data: not comparable with published numbers",
        "±: standard deviation over 2 seeds",
        "the difference from the base has its 95 % interval over seeds (Welch)",
        "OOD: mIoU_fg, ARI_FG and mBO_fg leave out images without foreground, 1 of them",
    ]
    alone = leaderboard.leaderboard(evaluation({"trial_0001": [0.1]}), ["trial_0001"])
    assert len(leaderboard.footnotes(alone, incomplete=False)) == 1
    assert leaderboard.footnotes([], incomplete=False) == []
