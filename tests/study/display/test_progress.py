"""Progress of a real Optuna study, called directly in the order in which Tune does."""

import io
import re
from pathlib import Path
from types import SimpleNamespace

import optuna
from rich.console import Console

from study.display.progress import ProgressCallback
from study.results_folder import StudyFolder
from study.search.proposal import Proposal
from study.search.rungs import Promotion
from study.search.searcher import StudySearcher
from tests.study.results import open_study, reopened
from tests.study.search.made_up import result


def progress_of(folder: Path, console: Console, noun: str = "trial") -> ProgressCallback:
    proposal = Proposal(lambda trial, base: {}, {"lr": 0.1}, {}, ("lr",))
    searcher = StudySearcher(reopened(folder), StudyFolder(folder), 12, proposal)
    return ProgressCallback(searcher, console, metric="mIoU_fg", reports=4, noun=noun)


def trial(number: int) -> SimpleNamespace:
    """What the callback uses of a Tune trial."""
    return SimpleNamespace(trial_id=f"id{number}", config={"number": number})


def test_lines_say_how_trials_ended(results_folder: Path) -> None:
    console = Console(file=io.StringIO(), width=200)
    progress = progress_of(results_folder, console)
    for number in (0, 4):  # trial 8, left running by an earlier process, waits for a place
        progress.on_trial_start(0, [], trial(number))
    progress.on_trial_complete(0, [], trial(0))
    progress.on_trial_error(0, [], trial(4))
    progress.on_experiment_end([])
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert lines[:3] == [
        "starting workers",
        "trial    0  complete  mIoU_fg 0.8454 at step 400",
        "trial    4  failed    loss is nan at step 120 </script>",
    ]
    counts = "8/12 trials: 5 complete, 2 pruned, 1 failed, 0 running; best mIoU_fg 0.8454 (trial 0), the base; "
    assert lines[3].startswith(counts) and len(lines) == 4


def test_runs_of_the_final_stage_are_called_reruns(results_folder: Path) -> None:
    console = Console(file=io.StringIO(), width=200)
    progress = progress_of(results_folder, console, noun="rerun")
    progress.on_trial_complete(0, [], trial(0))
    progress.on_experiment_end([])
    assert isinstance(console.file, io.StringIO)
    _, first, last = console.file.getvalue().splitlines()
    assert first.startswith("rerun    0  complete ") and last.startswith("8/12 reruns: ")


def test_paused_trials_are_counted_as_done_and_named_when_they_pause(results_folder: Path) -> None:
    console = Console(file=io.StringIO(), width=200)
    proposal = Proposal(lambda trial, base: {}, {"lr": 0.1}, {}, ("lr",))
    promotion = Promotion(9, maximize=True)
    searcher = StudySearcher(reopened(results_folder), StudyFolder(results_folder), 12, proposal, promotion)
    progress = ProgressCallback(searcher, console, metric="mIoU_fg", reports=9)
    assert searcher.suggest("tune's id")["number"] == 8  # type: ignore[index]
    progress.on_trial_start(0, [], trial(8))
    searcher.record("tune's id", result(1, 0.25))
    searcher.on_trial_complete("tune's id", result(1, 0.25, done=True))
    progress.on_trial_complete(0, [], trial(8))
    progress.on_experiment_end([])
    assert isinstance(console.file, io.StringIO)
    _, first, last = console.file.getvalue().splitlines()
    assert first == "trial    8  paused    mIoU_fg 0.2500 at step 10"
    assert last.startswith("9/12 trials: 5 complete, 2 pruned, 1 failed, 1 paused, 0 running; best mIoU_fg 0.8454")


def rows(text: str) -> list[list[str]]:
    """The cells of the last table that a terminal was shown."""
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    lines = [line.strip() for line in plain.rpartition("┡")[2].splitlines() if line.strip().startswith("│")]
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines]


def test_a_terminal_gets_a_table_of_running_trials_and_of_those_that_ended_last(results_folder: Path) -> None:
    console = Console(file=io.StringIO(), width=200, force_terminal=True)
    progress = progress_of(results_folder, console)
    assert isinstance(console.file, io.StringIO) and "starting workers ..." in console.file.getvalue()
    progress.on_trial_start(0, [], trial(8))
    report = {"report": 2, "step": 200, "objective": 0.4321, "train/loss": 12.5}
    progress.on_trial_result(0, [], trial(8), {**report, "time/train_s": 3.0, "time/validation_s": 0.5})
    console.file.truncate(0)
    progress._last_line -= 2  # the table was drawn two seconds ago
    progress.on_step_end(0, [])
    progress._live.refresh()  # type: ignore[union-attr]
    shown = console.file.getvalue()
    running, *ended = rows(shown)
    assert running == ["8", "running", "200", "2/4", "0.4321", "12.5", "3.5"]
    assert [row[0] for row in ended] == ["0", "3", "4", "5", "6", "7"], "the best, and the last five"
    assert ended[0][:5] == ["0", "complete, best", "400", "4/4", "0.8454"] and ended[2][1] == "failed"
    assert "starting workers" not in shown
    progress.on_experiment_end([])
    assert [row[0] for row in rows(console.file.getvalue())] == ["0", "3", "4", "5", "6", "7"], "they stay"


def test_no_line_of_the_summary_is_wider_than_a_terminal(results_folder: Path) -> None:
    proposal = Proposal(lambda trial, base: {}, {"lr": 0.1}, {}, ("lr",))
    searcher = StudySearcher(reopened(results_folder), StudyFolder(results_folder), 1200, proposal)
    for width in (80, 120):
        console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
        beside = "k-means 0.1733 on test, and words that do not fit a narrow terminal"
        progress = ProgressCallback(searcher, console, metric="mIoU_fg", reports=4, beside=beside, then=6)
        progress.close()
        console.file = io.StringIO()
        console.print(progress._view())
        above = console.file.getvalue().partition("┏")[0].splitlines()
        assert len(above) == 4 and max(map(len, above)) <= width
        assert above[0].startswith("8/1200 trials: 5 complete") and ", then about " in above[2]
        assert above[1].startswith("best mIoU_fg 0.8454 (trial 0), the base, k-means 0.1733 on test")


def test_of_two_goals_the_best_by_the_first_is_shown_and_how_many_the_front_has(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=200)
    study = open_study(tmp_path, ["maximize", "minimize"])
    for values in ((0.25, 9.0), (0.5, 8.0), (0.125, 2.0)):
        study.add_trial(optuna.trial.create_trial(values=values))
    proposal = Proposal(lambda trial, base: {}, {"lr": 0.1}, {}, ("lr",))
    searcher = StudySearcher(study, StudyFolder(tmp_path), 12, proposal, second="seconds")
    ProgressCallback(searcher, console, metric="mIoU_fg", reports=4).on_experiment_end([])
    assert isinstance(console.file, io.StringIO)
    assert "; best mIoU_fg 0.5000 (trial 1), 2 on the Pareto front, base 0.2500; " in console.file.getvalue()


def test_a_checkpoint_that_could_not_be_read_is_said(results_folder: Path) -> None:
    console = Console(file=io.StringIO(), width=200)
    progress = progress_of(results_folder, console)
    progress.on_trial_result(0, [], trial(8), {"passed_over": ["step_000000004.pt cannot be read: began again"]})
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == "starting workers\nnote: trial 8: step_000000004.pt cannot be read: began again\n"
