"""What a study says about its search: the base is beaten, is not, or it is open."""

from pathlib import Path

import pytest

from study.scoring import leaderboard
from study.scoring.ranking import Finalist, Run
from study.scoring.verdict import read_verdict, verdict
from tests.study.results import evaluation


def finalist(entry: str, *values: float | None) -> Finalist:
    return Finalist(entry, 1, tuple(Run(s, "", v, None if v else "loss is nan") for s, v in enumerate(values)))


def said(finalists: list[Finalist], metric: str = "mIoU_fg", **levels: list[float]) -> list[str]:
    rows = leaderboard.leaderboard(evaluation(levels), [one.entry for one in finalists]) if levels else []
    return [line for line in verdict(finalists, rows, metric) if not line.startswith("OOD")]


@pytest.mark.parametrize(
    ("levels", "says"),
    [
        ([0.6, 0.61], "test: trial 7 beat the base: mIoU_fg +20.5 [+14.1, +26.9]"),
        ([0.41, 0.45], "test: trial 7 may or may not beat the base: mIoU_fg +3.0 [-22.4, +28.4]"),
        ([0.3, 0.3], "test: the search did not beat the base (trial 7 is its best): mIoU_fg -10.0 [-10.0, -10.0]"),
    ],
)
def test_each_split_has_its_sentence(levels: list[float], says: str) -> None:
    finalists = [finalist("trial_0007", 0.7, 0.72), finalist("base", 0.6, 0.6)]
    validation, test, more = said(finalists, trial_0007=levels, base=[0.4, 0.4])
    assert more == "more seeds tell more: the same command with --seeds 4 trains only those that are missing"
    assert validation == "validation: trial 7 may or may not beat the base: mIoU_fg +11.0 [-1.7, +23.7]"
    assert test == says


def test_where_the_base_wins_its_best_rival_is_named() -> None:
    finalists = [finalist("base", 0.6, 0.6), finalist("trial_0007", 0.5, 0.5)]
    validation, test = said(finalists, trial_0007=[0.5, 0.52], base=[0.4, 0.4])
    assert validation.startswith("validation: the search did not beat the base (trial 7 is its best): mIoU_fg -10.0")
    assert test.startswith("test: trial 7 "), "validation and test are judged apart"


def test_a_trial_with_a_failed_seed_is_behind_the_base_whatever_its_mean() -> None:
    finalists = [finalist("base", 0.5, 0.52), finalist("trial_0007", 0.6, None)]
    lines = said(finalists, trial_0007=[0.5], base=[0.4, 0.4])
    assert lines[0].startswith("trial 7 failed with 1 of 2 seeds")
    assert lines[1].startswith("validation: the search did not beat the base (trial 7 is its best)")
    assert lines[2].startswith("test: trial 7 may or may not beat the base"), "one seed in common tells no interval"
    assert len(lines) == 3


def test_less_is_better_where_the_metric_says_so() -> None:
    finalists = [finalist("trial_0007", 90.0, 90.0), finalist("base", 100.0, 100.0)]
    validation, test = said(finalists, "MSE", trial_0007=[0.6, 0.6], base=[0.5, 0.5])
    assert validation == "validation: trial 7 beat the base: MSE -10.0 [-10.0, -10.0]"
    assert test == "test: trial 7 beat the base: MSE -20.0 [-20.0, -20.0]"
    validation, test = said(finalists, "loss", trial_0007=[0.6, 0.6], base=[0.5, 0.5])
    assert "loss -10.0" in validation and "mIoU_fg +10.0" in test, "a loss is no column of the leaderboard"


def test_of_two_goals_the_first_one_judges(results_folder: Path) -> None:
    (one, *rest), two = read_verdict(results_folder, "mIoU_fg"), read_verdict(results_folder, "mIoU_fg,seconds")
    assert two == [one, *rest] and "trial 5" in one


def test_one_seed_is_said_to_say_little() -> None:
    finalists = [finalist("base", 0.6), finalist("trial_0007", 0.5)]
    validation, test, advice = said(finalists, trial_0007=[0.5], base=[0.4])
    assert validation.endswith("the search did not beat the base (trial 7 is its best): mIoU_fg -10.0")
    assert test == "test: trial 7 beat the base: mIoU_fg +10.0" and advice.startswith("one seed says little")


def test_failed_seeds_and_a_lonely_base_are_said(tmp_path: Path) -> None:
    finalists = [finalist("base", 0.6, 0.6), finalist("trial_0007", 0.5, None)]
    assert said(finalists)[0] == "trial 7 failed with 1 of 2 seeds: loss is nan"
    assert said(finalists[:1]) == ["the search found nothing better than the base, its best trial"]
    assert said([finalist("trial_0007", 0.5)]) == [
        "the base has no complete trial, so no trial can be compared with it"
    ]
    assert said([]) == [] == read_verdict(tmp_path, "mIoU_fg")
