"""Several studies in one leaderboard: what is taken from each, and what is refused."""

import json
import math
from pathlib import Path

import pytest

from study.scoring import ranking
from study.scoring.comparison import compare
from study.scoring.ranking import Finalist, Run
from tests.study.results import COMPARED_SPLITS, write_scored, write_three


def test_each_study_is_compared_by_its_best_trial_on_validation(tmp_path: Path) -> None:
    comparison = compare(write_three(tmp_path))
    for split in COMPARED_SPLITS:
        entries = [row.entry for row in comparison.rows if row.split == split]
        assert entries == ["gnm", "space", "grid 4x4"]  # not trial 3, which was not chosen on validation images
    level = {(row.entry, row.split): row.means["mIoU_fg"] for row in comparison.rows}
    assert level["space", "test"] == pytest.approx(0.4) and level["space", "camo"] == pytest.approx(0.2)
    assert comparison.notes == ["iodine: nothing to compare yet; run its study to the end"]
    assert list(comparison.folders) == ["gnm", "space", "iodine"]
    assert comparison.trials["space"] == "2 / 1 / 1"
    assert comparison.caption == (
        "mIoU_fg and ARI_FG in %; MSE: sum over 3x32x32; trials: complete / pruned / failed; best mIoU_fg on test first"
    )


def test_a_winner_has_its_base_below_it(tmp_path: Path) -> None:
    levels = {"trial_0001": 0.4, "base": 0.3, "trial_0003": 0.9, "baseline_grid_4x4": 0.3}
    first = write_scored(tmp_path, "space", levels, best="trial_0001")
    second = write_scored(tmp_path, "gnm", levels, best="base")
    runs = (Run(11, "", 0.5), Run(12, "", 0.6))
    ranking.write(first, [Finalist("trial_0001", 1, runs), Finalist("trial_0003", 3, runs), Finalist("base", 0, runs)])
    comparison = compare([second, first])
    for split in COMPARED_SPLITS:
        entries = [(row.entry, row.kind) for row in comparison.rows if row.split == split]
        assert entries == [("space", "trial"), ("space, base", "base"), ("gnm", "base"), ("grid 4x4", "baseline")]
    best = comparison.rows[0]
    assert best.means["mIoU_fg"] == pytest.approx(0.41) and best.stds["mIoU_fg"] == pytest.approx(0.01)
    assert comparison.best == {"gnm": "base", "space": "trial_0001"}
    assert comparison.notes[0].startswith("space, test: trial 1 beat the base: mIoU_fg +10.0 [")
    assert "±: standard deviation over 2 seeds" in comparison.notes


def test_two_studies_of_one_model_go_by_the_studies_names(tmp_path: Path) -> None:
    other = write_scored(tmp_path, "space", {"trial_0002": math.nan}, best=2, name="space-second")
    comparison = compare([*write_three(tmp_path), other])
    assert [row.entry for row in comparison.rows if row.split == "test"] == [
        *("gnm", "space-plain", "space-second", "grid 4x4"),
    ]


def test_converted_images_are_told_apart_by_their_fingerprint(tmp_path: Path) -> None:
    one, two = (
        write_scored(tmp_path, model, {"trial_0000": 0.5}, best=0, data="clevrtex:full", fingerprint=fingerprint)
        for model, fingerprint in (("space", "abc"), ("gnm", "def"))
    )
    with pytest.raises(ValueError, match="fingerprint def and abc"):
        compare([one, two])


def test_drawn_scenes_are_the_same_whatever_their_fingerprint(tmp_path: Path) -> None:
    folders = [
        write_scored(tmp_path, model, {"trial_0000": 0.5}, best=0, data="synthetic:plain", fingerprint=fingerprint)
        for model, fingerprint in (("space", "abc"), ("gnm", "def"))
    ]
    assert set(compare(folders).best) == {"space", "gnm"}


def test_scenes_of_another_version_are_told_apart(tmp_path: Path) -> None:
    """CAMO of plain scenes once was what its own name says today; the first version was not recorded."""
    folders = [write_scored(tmp_path, model, {"trial_0000": 0.5}, best=0) for model in ("space", "gnm")]
    record = json.loads((folders[0] / "study.json").read_text())
    record["data"]["version"] = 2
    (folders[0] / "study.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"version of the scenes None and 2.*own command scores it anew"):
        compare(folders)


def test_a_folder_without_a_study_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no study\.json"):
        compare([tmp_path])


def test_studies_of_one_name_in_two_places_stay_two(tmp_path: Path) -> None:
    folders = []
    for place, level in (("a", 0.4), ("b", 0.8)):
        (tmp_path / place).mkdir()
        folders.append(write_scored(tmp_path / place, "space", {"trial_0001": level}, best=1))
    comparison = compare(folders)
    assert list(comparison.folders.values()) == folders[::-1]
    means = [row.means["mIoU_fg"] for row in comparison.rows if row.split == "test"]
    assert means == pytest.approx([0.8, 0.4])


@pytest.mark.parametrize("where", ["final_splits", "added"])
def test_a_split_of_other_images_is_said(where: str, tmp_path: Path) -> None:
    folders = [write_scored(tmp_path, model, {"trial_0001": 0.4}, best=1) for model in ("space", "gnm")]
    for number, folder in enumerate(folders):
        record = json.loads((folder / "study.json").read_text())
        if where == "added":
            about = {"spec": "clevrtex:camo", "split": "camo", "fingerprint": f"f{number}", "incomplete": False}
            record["added"] = {"camo": about}
        else:
            record["data"] = {**(record.get("data") or {}), "final_splits": {"camo": f"some:{number} camo"}}
        (folder / "study.json").write_text(json.dumps(record))
    (note,) = [note for note in compare(folders).notes if "images differ" in note]
    assert note.startswith("CAMO: ")
    assert not [note for note in compare(folders[:1]).notes if "images differ" in note]
