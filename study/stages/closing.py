"""The last stage: the report, what was found, and what to type next."""

import shlex

import pyarrow.parquet as pq

from study.config import StudyConfig
from study.display import closing_lines, found_section, study_page
from study.display.findings import gather
from study.display.plain_lines import show
from study.scoring.ranking import BASE
from study.search import finished
from study.search.patience import more_trials
from study.stages.preparing import Prepared


def close(prepared: Prepared, asked: StudyConfig, *, whole: bool, over: bool) -> None:
    """Write the report and say what was found.

    ``whole``: no finalist waits for its training or lacks a checkpoint. ``over``: a patience ended the search. A study
    to which the same command could add nothing, of data that lacks nothing, is recorded as finished.
    """
    study, console, searcher = prepared.study, prepared.console, prepared.searcher
    folder = study.folder.path
    base = found_section.read_best(folder)["entry"] == BASE
    longer = closing_lines.longer(asked, study.preset, study.steps, folder, base=base)
    study.folder.write(longer=longer)
    study_page.write(folder, console, asked.storage)
    how = "a larger --patience" if over else f"more than {asked.trials} --trials"
    outlook = f"; {more_trials(searcher.study)}" if searcher.patience is not None else ""
    trials = pq.read_table(folder / "trials.parquet").to_pylist()
    lines = [
        *closing_lines.found_lines(gather(folder, folder.name, trials, images=False)),
        (f"report: {folder / 'report.html'}", False),
        (f"curves: tensorboard --logdir {shlex.quote(str(folder))}", False),
        (f"longer: {longer}", False),
        (f"more:   {asked.again} with {how} goes on from here{outlook}", False),
    ]
    show(console, lines)
    if whole and not searcher.pending() and not searcher.counts()["RUNNING"] and not prepared.lacking:
        finished.write(folder, asked, lines)
