"""Which trials are trained anew, with which seeds, and what a second call repeats: nothing."""

from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

import trainables
from study.config import StudyConfig
from study.presets import resolve
from study.results_folder import StudyFolder
from study.scoring.ranking import Run
from study.search import finalists, retries
from study.search.finalists import Configuration
from study.search.lost_workers import Death
from study.search.proposal import Proposal
from study.search.searcher import MAX_WORKER_DEATHS, StudySearcher
from tests.study.search.made_up import BASE, SEARCHED, result, space

PROPOSAL = Proposal(space, BASE, {}, SEARCHED)
MAXIMIZE = optuna.study.StudyDirection.MAXIMIZE
SEEDS = [5, 6]


def searched(*trials: tuple[float, float | TrialState, dict[int, float]]) -> optuna.Study:
    """A search with trials of (lr, value or state, reports)."""
    study = optuna.create_study(direction="maximize")
    for lr, end, reports in trials:
        study.enqueue_trial({"lr": lr, "optimizer": "adam"})
        trial = study.ask()
        PROPOSAL.hyperparameters(trial)
        for report, value in reports.items():
            trial.report(value, report)
        if not isinstance(end, TrialState):
            study.tell(trial, end)
        elif end != TrialState.RUNNING:
            study.tell(trial, state=end)
    return study


def names(study: optuna.Study, count: int, **more: bool) -> list[tuple[str, int | None]]:
    return [(one.entry, one.trial) for one in finalists.choose(study, PROPOSAL, count, **more)]


def test_the_best_trials_and_the_base_are_chosen() -> None:
    search = searched((0.02, 0.3, {}), (0.03, 0.9, {}), (0.04, 0.5, {}), (0.05, TrialState.PRUNED, {1: 0.99}))
    assert names(search, 2) == [("trial_0001", 1), ("trial_0002", 2), ("base", None)]
    assert names(search, 9) == [("trial_0001", 1), ("trial_0002", 2), ("trial_0000", 0), ("base", None)]
    chosen = finalists.choose(search, PROPOSAL, 1)
    assert chosen[0].hyperparameters == {"lr": 0.03, "optimizer": "adam", "momentum": 0.0}
    assert chosen[1].hyperparameters == PROPOSAL.base_hyperparameters()


def test_a_base_among_the_best_is_there_once_and_equal_trials_too() -> None:
    search = searched((0.01, 0.8, {}), (0.03, 0.9, {}), (0.03, 0.7, {}), (0.04, 0.5, {}))
    assert names(search, 1) == [("trial_0001", 1), ("base", 0)]
    assert names(search, 2) == [("trial_0001", 1), ("trial_0003", 3), ("base", 0)], "trial 2 is trial 1 again"


@pytest.mark.parametrize("model", trainables.names())
def test_the_first_trial_of_every_model_is_known_as_the_base(model: str) -> None:
    study = resolve(StudyConfig(model=model, preset="tiny"), has_gpu=False)
    proposal, search = study.proposal(max_objects=9), optuna.create_study(direction="maximize")
    search.enqueue_trial(proposal.base_parameters())
    trial = search.ask()
    proposal.hyperparameters(trial)
    search.tell(trial, 0.5)
    assert [(one.entry, one.trial) for one in finalists.choose(search, proposal, 3)] == [("base", 0)]


def test_without_complete_trials_those_that_got_furthest_take_their_place_if_they_may() -> None:
    pruned, running, failed = TrialState.PRUNED, TrialState.RUNNING, TrialState.FAIL
    search = searched(
        (0.02, pruned, {1: 0.9}), (0.03, pruned, {1: 0.1, 3: 0.2}), (0.04, running, {1: 0.1, 3: 0.3}),
        (0.05, failed, {1: 0.1, 3: 0.9, 9: 0.9}), (0.06, running, {}),
    )  # fmt: skip
    assert names(search, 9) == []
    found = [("trial_0002", 2), ("trial_0001", 1), ("trial_0000", 0), ("base", None)]
    assert names(search, 9, unfinished=True) == found
    assert names(searched(), 9, unfinished=True) == []


def test_with_one_seed_the_searchs_own_trials_are_the_runs(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    search = searched((0.01, 0.1, {}), (0.03, 0.9, {}), (0.04, 0.5, {}))
    found = finalists.own_runs(search, finalists.choose(search, PROPOSAL, 1), folder, 3)
    assert [(one.entry, one.runs) for one in found] == [
        ("trial_0001", (Run(3, "trials/trial_0001", 0.9),)),
        ("base", (Run(3, "trials/trial_0000", 0.1),)),
    ]
    without = searched((0.01, TrialState.FAIL, {}), (0.03, 0.9, {}))
    assert len(finalists.own_runs(without, finalists.choose(without, PROPOSAL, 1), folder, 3)) == 1


def test_seeds_are_fresh_distinct_and_the_same_each_time() -> None:
    seeds = finalists.fresh_seeds(0, 5)
    assert len(set(seeds)) == 5 and 0 not in seeds
    assert finalists.fresh_seeds(0, 2) == seeds[:2], "more seeds add to those that are trained"
    assert not set(seeds) & set(finalists.fresh_seeds(1, 5))


@pytest.fixture
def again(tmp_path: Path) -> Callable[[list[Configuration]], tuple[StudySearcher, optuna.Study]]:
    """The final stage of a new process, with other finalists each time."""

    def start(chosen: list[Configuration]) -> tuple[StudySearcher, optuna.Study]:
        folder = StudyFolder(tmp_path)
        reruns = finalists.open_reruns(StudyConfig(model="space"), folder, MAXIMIZE)
        finalists.enqueue(reruns, chosen, SEEDS, folder)
        count = len(reruns.get_trials())
        proposal = finalists.rerun_proposal(PROPOSAL)
        return StudySearcher(reruns, folder.finalists, count, proposal), reruns

    return start


def configuration(entry: str, lr: float) -> Configuration:
    return Configuration(entry, None, {"lr": lr, "optimizer": "adam", "momentum": 0.0})


BOTH = [configuration("trial_0003", 0.3), configuration("base", 0.01)]


def test_every_finalist_is_trained_with_every_seed_in_a_folder_of_its_own(again: Callable, tmp_path: Path) -> None:
    searcher, reruns = again(BOTH)
    handed = [searcher.suggest(str(i)) for i in range(4)]
    assert [(one["hyperparameters"]["lr"], one["seed"]) for one in handed] == [
        *((0.3, 5), (0.01, 5), (0.3, 6), (0.01, 6)),
    ], "seed by seed, so that what is there can be compared early"
    assert handed[0]["folder"] == str(tmp_path / "finalists" / "trials" / "trial_0000")
    assert finalists.runs(reruns, BOTH, SEEDS, StudyFolder(tmp_path)) is None and finalists.left(reruns) == 4
    for i in range(3):
        searcher.on_trial_complete(str(i), result(10, 0.1 * i, done=True))
    searcher.on_trial_complete("3", {"failure": "loss is nan", "done": True})
    assert not searcher.pending() and finalists.left(reruns) == 0
    first, base = finalists.runs(reruns, BOTH, SEEDS, StudyFolder(tmp_path))
    assert first.runs == (Run(5, "finalists/trials/trial_0000", 0.0), Run(6, "finalists/trials/trial_0002", 0.2))
    assert base.runs[1] == Run(6, "finalists/trials/trial_0003", None, "loss is nan")


def test_after_a_kill_nothing_is_repeated_and_what_ran_goes_on(again: Callable) -> None:
    searcher, _ = again(BOTH)
    searcher.suggest("a")
    searcher.suggest("b")
    searcher.on_trial_complete("a", result(10, 0.5, done=True))
    searcher, reruns = again(BOTH)
    handed = [searcher.suggest(str(i)) for i in range(3)]
    assert [(one["number"], one["seed"]) for one in handed] == [(1, 5), (2, 6), (3, 6)]
    assert not searcher.pending() and len(reruns.get_trials()) == 4


def test_a_run_that_lost_its_worker_is_tried_again_by_the_same_command(
    again: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "PAUSES", (0,))
    searcher, reruns = again(BOTH)
    for i in range(4):
        searcher.suggest(str(i))
        if i:
            searcher.on_trial_complete(str(i), result(10, 0.5, done=True))
    for _ in range(MAX_WORKER_DEATHS + 1):
        searcher.worker_died("0", Death("solid", "segmentation fault"), set())
    assert finalists.runs(reruns, BOTH, SEEDS, StudyFolder(tmp_path)) is None, "no fault of its hyperparameters"
    searcher, reruns = again(BOTH)
    handed = searcher.suggest("x")
    assert (handed["number"], handed["hyperparameters"]["lr"], handed["seed"]) == (4, 0.3, 5) and not searcher.pending()
    searcher.on_trial_complete("x", result(10, 0.5, done=True))
    assert finalists.runs(reruns, BOTH, SEEDS, StudyFolder(tmp_path)) is not None


def test_other_finalists_add_only_what_is_missing(again: Callable, tmp_path: Path) -> None:
    searcher, _ = again(BOTH)
    for i in range(3):
        searcher.suggest(str(i))
    searcher.on_trial_complete("0", result(10, 0.5, done=True))
    searcher.on_trial_complete("1", result(10, 0.6, done=True))
    checkpoint = tmp_path / "finalists" / "trials" / "trial_0002" / "checkpoint_000001"
    checkpoint.mkdir(parents=True)
    changed = [configuration("trial_0009", 0.9), BOTH[1]]
    searcher, reruns = again(changed)  # trial 3 of the search is no finalist any more, and its second run had begun
    states = [trial.state for trial in reruns.get_trials()]
    assert states[:3] == [TrialState.COMPLETE, TrialState.COMPLETE, TrialState.PRUNED] and not checkpoint.exists()
    handed = [searcher.suggest(str(i)) for i in range(3)]
    assert {(one["hyperparameters"]["lr"], one["seed"]) for one in handed} == {(0.01, 6), (0.9, 5), (0.9, 6)}
    assert not searcher.pending()
    for i in range(3):
        searcher.on_trial_complete(str(i), result(10, 0.7, done=True))
    assert finalists.runs(reruns, changed, SEEDS, StudyFolder(tmp_path)) is not None
    searcher, reruns = again(BOTH)  # and back: its first run is there, the second one starts anew
    assert [(one["hyperparameters"]["lr"], one["seed"]) for one in [searcher.suggest("x")]] == [(0.3, 6)]
    assert not searcher.pending()
