"""The stages of a study: prepare, tune, retrain, score, report. :func:`run` calls them one after the other."""

import math
import shlex
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from study import presets
from study.cluster import ray_runtime
from study.config import StudyConfig
from study.display import comparison_page, dry_run_table, study_page, tables
from study.display.error_lines import first_line
from study.display.plain_lines import say
from study.presets import Resolved
from study.results_folder import release_locks
from study.scoring import comparison
from study.search import finished, known, storage
from study.search.stopping import StudyStopped
from study.stages.closing import close
from study.stages.preparing import Prepared, prepare, refuse_late_profile, refuse_without_compiler
from study.stages.training import score, tune


def run(asked: StudyConfig, console: Console) -> Path:
    """Run the study that is ``asked`` for, or continue it. Returns its folder.

    Raises ValueError for what a person can mend, StudyStopped if there is nothing to score, too many trials failed or
    the storage failed, and KeyboardInterrupt on a signal. The report is written in all these cases, once trials could
    have run.
    """
    try:
        return _run(asked, console)
    except (StudyStopped, ValueError):
        raise
    except Exception as error:
        if (reason := storage.failure(error)) is None:
            raise
        raise StudyStopped(reason) from error
    finally:
        release_locks()


def _run(asked: StudyConfig, console: Console) -> Path:
    if (done := finished.say_again(asked, console)) is not None:
        return done
    try:
        study = presets.resolve(asked, has_gpu=ray_runtime.has_gpu(asked.address))
        refuse_without_compiler(study)
        _announce(study, console)
        folder = study.folder.path
        if asked.dry_run:
            dry_run_table.show(study, console)
            return folder
        prepared = prepare(study, console)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the same command") from None  # with --fresh: nothing was replaced yet
    ends = time.monotonic() + 3600 * (asked.hours or math.inf)
    try:
        if prepared.searcher.pending():
            tune(prepared)
        patience = prepared.searcher.patience
        over = patience is not None and patience.over() and prepared.searcher.left()
        if patience is not None and over:
            say(console, patience.text())
        whole = score(prepared, ends)
    except BaseException:
        _report_all_the_same(prepared)
        raise
    close(prepared, asked, whole=whole, over=bool(over))
    return folder


def run_all(studies: Sequence[StudyConfig], console: Console) -> None:
    """Run one study after the other, each with the whole machine, then compare their best trials.

    Raises what :func:`run` raises. A study that stops does not keep the others from running; StudyStopped follows at
    the end.
    """
    for asked in studies:  # a mistake in the last study is named before the first one starts
        study = presets.resolve(asked, has_gpu=ray_runtime.has_gpu(asked.address))
        expected = study.expected_proposal()
        if not asked.fresh:
            study.folder.check_identity(study.identity)
        storage.check(asked, study.folder, study.identity)
        refuse_late_profile(asked, study.folder)
        refuse_without_compiler(study)
        if not asked.fresh:
            storage.check_question(study.folder, expected.question(), asked.storage)
        known.read(asked.from_, asked.model, study.folder, asked.storage, fresh=asked.fresh)
    finished: dict[str, Path] = {}
    for i, asked in enumerate(studies, start=1):
        say(console, f"\nstudy {i} of {len(studies)}")
        try:
            finished[asked.model] = run(asked, console)
        except StudyStopped as reason:
            say(console, f"stopped: {reason}")
        ray_runtime.leave()  # Tune keeps a study's parameters, its shards among them, while Ray runs
    if finished and not studies[0].dry_run:
        compared = comparison.compare(list(finished.values()))
        tables.print_comparison(console, compared)
        model, folder = next(iter(finished.items()))
        shared = folder.name.replace(model, "").strip("-")
        page = folder.with_name(f"comparison-{shared}.html")
        comparison_page.write(compared, page)
        say(console, f"page:   {page}")
        say(console, f"again:  {shlex.join(['python', 'study/compare.py', *map(str, finished.values())])}")
    missing = [asked.model for asked in studies if asked.model not in finished]
    if missing:
        raise StudyStopped(f"{', '.join(missing)} without a score; the lines above say why")


def _announce(study: Resolved, console: Console) -> None:
    asked = study.config
    per = "trial" if asked.workers_per_trial == 1 else f"worker, {asked.workers_per_trial} per trial"
    say(console, f"{asked.model} on {study.data}, {study.preset} preset, {study.gpus:g} GPUs per {per}")
    say(console, f"folder: {study.folder.path}")
    if len(asked.goals) > 1:
        say(console, f"two goals, {' and '.join(asked.goals)}: all trials run to the end (--pruner none)")
    if "seconds" in asked.goals:
        say(console, "note: seconds of training are comparable where all trials have the same machine and share of it")
    if "loss" in asked.goals:
        say(console, "note: losses are not comparable across sigma or KL weights; tune on mIoU_fg, ARI_FG or MSE")


def _report_all_the_same(prepared: Prepared) -> None:
    """Write the report of a study that ends by an error, which an error of the report does not hide."""
    folder, console = prepared.study.folder, prepared.console
    try:
        study_page.write(folder.path, console, prepared.study.config.storage)
    except Exception as error:
        say(console, f"no report: {first_line(error)}")
    if folder.aside.is_dir():
        say(console, f"the study before --fresh is kept in {folder.aside} until a trial of the new one reports")
