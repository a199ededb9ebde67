"""Several studies in one leaderboard: what is taken from each, and what is refused."""

import io
import json
import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from study import compare, report
from trainables.pictures import encode_png

SPLITS = ("test", "outd", "camo")


def scores(levels):
    """Two images per entry and split; ``levels`` is entry -> mIoU_fg on test, 0.1 less on each further split."""
    rows = []
    for entry, level in levels.items():
        trial = int(entry[6:]) if entry.startswith("trial") else None
        for i, split in enumerate(SPLITS):
            for image in range(2):
                value = level - 0.1 * i + (0.02 if image else -0.02)
                rows.append({"entry": entry, "trial": trial, "split": split, "image": image})
                rows[-1] |= {"mIoU_fg": value, "ARI_FG": 1 - value, "MSE": 10 * value}
    return pa.Table.from_pylist(rows)


def make(results, model, levels=None, best=None, data="synthetic:plain", fingerprint="abc", name=None):
    """A results folder with ``levels`` scored."""
    folder = results / (name or f"{model}-plain")
    folder.mkdir()
    record = {"config": {"model": model, "data": data, "size": 32}, "data": {"fingerprint": fingerprint}}
    (folder / "study.json").write_text(json.dumps(record))
    pq.write_table(pa.table({"state": ["COMPLETE", "COMPLETE", "PRUNED", "FAIL"]}), folder / "trials.parquet")
    if levels is not None:
        pq.write_table(scores(levels), folder / "evaluation.parquet")
        (folder / "best.json").write_text(json.dumps({"trial": best}))
        (folder / "pictures").mkdir()
        for split in SPLITS:
            png = encode_png(pa.array([len(model)] * 48, pa.uint8()).to_numpy().reshape(4, 4, 3))
            (folder / "pictures" / f"trial_{best:04d}_{split}.png").write_bytes(png)
    return folder


@pytest.fixture
def folders(tmp_path):
    baseline = {"baseline_grid_4x4": 0.3}
    return [
        make(tmp_path, "space", {"trial_0001": 0.4, "trial_0003": 0.9, **baseline}, best=1),
        make(tmp_path, "gnm", {"trial_0000": 0.5, **baseline}, best=0),
        make(tmp_path, "iodine"),
    ]


def test_each_study_sends_its_best_trial_by_validation(folders):
    comparison = compare.compare(folders)
    for split in SPLITS:
        entries = [row.entry for row in comparison.rows if row.split == split]
        assert entries == ["gnm", "space", "grid 4x4"]  # not trial 3, which was not chosen on validation images
    level = {(row.entry, row.split): row.means["mIoU_fg"] for row in comparison.rows}
    assert level["space", "test"] == pytest.approx(0.4) and level["space", "camo"] == pytest.approx(0.2)
    assert comparison.notes == ["iodine: nothing to compare yet; run its study to the end"]
    assert list(comparison.folders) == ["gnm", "space", "iodine"]
    assert comparison.trials["space"] == "2 / 1 / 1"


@pytest.mark.parametrize(
    ("width", "cells"),
    [
        (120, "2 / 1 / 1 40.0 60.0 4.0 30.0 70.0 3.0 20.0 80.0 2.0"),
        (80, "40.0 60.0 30.0 70.0 20.0 80.0"),
    ],
)
def test_one_table_holds_all_splits_on_any_terminal(folders, width, cells):
    console = Console(width=width, file=io.StringIO(), record=True)
    compare.print_comparison(console, compare.compare(folders))
    text = console.export_text()
    (line,) = [line for line in text.splitlines() if line.lstrip().startswith("space")]
    assert line.split() == ["space", *cells.split()]
    assert "test" in text and "OOD" in text and "CAMO" in text


def test_markdown_marks_the_best_of_each_column(folders):
    text = compare.markdown(compare.compare(folders))
    assert "| gnm | 2 / 1 / 1 | **50.0** | 50.0 | 5.0 |" in text
    assert "| *grid 4x4* |  | 30.0 | **70.0** | **3.0** |" in text


def test_the_page_shows_pictures_and_links_to_the_reports(folders, tmp_path):
    compare.write(compare.compare(folders), tmp_path / "all.html")
    page = (tmp_path / "all.html").read_text()
    assert page.count("<img") == 2 * len(SPLITS)
    assert 'href="space-plain/report.html"' in page and 'href="iodine-plain/report.html"' in page


def test_two_studies_of_one_model_go_by_the_studies_names(folders, tmp_path):
    other = make(tmp_path, "space", {"trial_0002": math.nan}, best=2, name="space-second")
    comparison = compare.compare([*folders, other])
    assert [row.entry for row in comparison.rows if row.split == "test"] == [
        *("gnm", "space-plain", "space-second", "grid 4x4"),
    ]


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"data": "synthetic:textured"}, "data synthetic:textured and synthetic:plain"),
        ({"data": "clevrtex:full", "fingerprint": "def"}, "data clevrtex:full"),
    ],
)
def test_scores_on_other_images_do_not_compare(folders, tmp_path, other, says, capsys):
    folder = make(tmp_path, "monet", {"trial_0000": 0.5}, best=0, **other)
    assert compare.main([str(folders[0]), str(folder)]) == 2
    printed = capsys.readouterr().err
    assert says in printed and printed.count("\n") == 1


def test_converted_images_are_told_apart_by_their_fingerprint(tmp_path):
    one = make(tmp_path, "space", {"trial_0000": 0.5}, best=0, data="clevrtex:full", fingerprint="abc")
    two = make(tmp_path, "gnm", {"trial_0000": 0.5}, best=0, data="clevrtex:full", fingerprint="def")
    with pytest.raises(ValueError, match="fingerprint def and abc"):
        compare.compare([one, two])


def test_a_folder_without_a_study_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"holds no study\.json"):
        report.read_record(tmp_path)
