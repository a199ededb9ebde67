"""The curve of a study as it is read from its folder."""

import json
import math
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from study.scoring import curve
from study.scoring.curve import Curve
from tests.study.results import LEVELS, write_curve


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "best.json").write_text(json.dumps({"entry": "trial_0005", "seed": 11}))
    return tmp_path


def test_means_by_entry_and_place(folder: Path) -> None:
    found = curve.read(folder, write_curve(folder, "trial_0005"))
    assert found == Curve(
        axis="strength of texture",
        labels=["0", "0.2", "1"],
        own="0.2",
        winner="trial 5",
        scores={
            "trial 5": pytest.approx(LEVELS),
            "grid 4x4": pytest.approx([level / 2 for level in LEVELS]),
            "kmeans": pytest.approx([level / 3 for level in LEVELS]),
        },
    )
    assert found is not None and found.line == "strength of texture 0 / 0.2 / 1: mIoU_fg of trial 5 61 49 15"
    assert found.places == [0.0, 0.2, 1.0]
    assert found.at(["1", "0"]) == pytest.approx([0.15, 0.61]) and math.isnan(found.at(["0.4"])[0])


def test_variants_without_an_order_keep_theirs(folder: Path) -> None:
    record = write_curve(folder, "trial_0005", labels=("full", "camo", "outd"))
    found = curve.read(folder, record)
    assert found is not None and found.places == ["full", "camo", "outd"]


def test_a_place_that_is_not_scored_yet_is_a_gap(folder: Path) -> None:
    record = write_curve(folder, "trial_0005")
    table = pq.read_table(folder / curve.FILE).to_pandas()
    pq.write_table(pq.read_table(folder / curve.FILE).filter((table["split"] != "0.2").tolist()), folder / curve.FILE)
    found = curve.read(folder, record)
    assert found is not None and math.isnan(found.scores["trial 5"][1])
    assert found.line.endswith("61 - 15")


def test_a_run_of_the_winner_that_is_exported_no_more_does_not_count(folder: Path) -> None:
    record = write_curve(folder, "trial_0005")
    (folder / "best.json").write_text(json.dumps({"entry": "trial_0005", "seed": 12}))
    assert curve.read(folder, record) is None


def test_what_is_no_curve_of_the_winner(folder: Path) -> None:
    assert curve.read(folder, {}) is None, "a study without one"
    record = write_curve(folder, "trial_0002")
    assert curve.read(folder, record) is None, "of an earlier winner"
    (folder / "best.json").write_text("{}")
    assert curve.read(folder, record) is None, "of an earlier version"
