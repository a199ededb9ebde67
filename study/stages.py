"""The stages of a study: prepare, tune, retrain, score, report. :func:`run` calls them one after the other."""

import math
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from data import convert, store
from data.final_splits import Splits, final_splits
from data.shards import ShardIndex
from study import presets, results_folder
from study.cluster import ray_runtime
from study.cluster.places import Places
from study.cluster.preflight import Newcomers, Preflight
from study.config import StudyConfig
from study.display import comparison_page, dry_run_table, study_page, tables
from study.display.error_lines import first_line
from study.display.event_files import TensorBoardCallback
from study.display.plain_lines import say
from study.display.progress import ProgressCallback
from study.presets import Resolved
from study.results_folder import LOST, StudyFolder
from study.scoring import comparison, curve, evaluation, ranking
from study.scoring.leaderboard import entry_name
from study.scoring.ranking import Finalist
from study.search import finalists, journal, known, starting_over, storage, strategies
from study.search.finalists import Configuration
from study.search.patience import Patience, more_trials
from study.search.proposal import Proposal
from study.search.searcher import StudySearcher
from study.search.stopping import StudyStopped
from study.search.tune import tune_study
from trainables.crew import Shards
from trainables.objectives import OBJECTIVES


@dataclass(frozen=True)
class Prepared:
    """What the stages after :func:`prepare` need: Ray runs, the data is in its object store, the storage is open."""

    study: Resolved
    max_objects: int
    """most objects in a scene of the data"""
    splits: Splits
    """the final splits"""
    curve: Splits
    """the places on the curve"""
    shards: Shards
    """train and val in the object store"""
    places: Places
    """how many trials can run at a time"""
    preflight: Preflight
    """checks the nodes that join later"""
    searcher: StudySearcher
    """Optuna's side of the study"""
    proposal: Proposal
    """what makes hyperparameters of its trials"""
    console: Console


def run(asked: StudyConfig, console: Console) -> Path:
    """Run the study that is ``asked`` for, or continue it. Returns its folder.

    Raises ValueError for what a person can mend, StudyStopped if there is nothing to score, too many trials failed or
    the storage failed, and KeyboardInterrupt on Ctrl-C. The report is written in all these cases, once trials could
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


def _run(asked: StudyConfig, console: Console) -> Path:
    study = presets.resolve(asked, has_gpu=ray_runtime.has_gpu(asked.address))
    _announce(study, console)
    folder = study.folder.path
    if asked.dry_run:
        dry_run_table.show(study, console)
        return folder
    prepared = prepare(study, console)
    ends = time.monotonic() + 3600 * (asked.hours or math.inf)
    try:
        if prepared.searcher.pending():
            tune(prepared)
        patience = prepared.searcher.patience
        over = patience is not None and patience.over() and prepared.searcher.left()
        if patience is not None and over:
            say(console, patience.text())
        score(prepared, ends)
    except BaseException:
        _report_all_the_same(prepared)
        raise
    study_page.write(folder, console, asked.storage)
    say(console, f"report: {folder / 'report.html'}")
    say(console, f"curves: tensorboard --logdir {folder}")
    how = "a larger --patience" if over else f"more than {asked.trials} --trials"
    outlook = f"; {more_trials(prepared.searcher.study)}" if patience is not None else ""
    say(console, f"more:   {asked.again} with {how} goes on from here{outlook}")
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
        if not asked.fresh:
            storage.check_question(study.folder, expected.question(), asked.storage)
        known.read(asked.from_, asked.model, study.folder.path, asked.storage)
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


def prepare(study: Resolved, console: Console) -> Prepared:
    """Check all that can be wrong with ``study``, start Ray, load the data, and open the study. Raises ValueError.

    The order is a contract: nothing of an old study is touched before all checks have passed, and the quick checks
    come first. What fails leaves no folder behind.
    """
    made = study.folder.claim(study.identity, fresh=study.config.fresh)
    try:
        return _prepare(study, console)
    except BaseException:
        study.folder.leave(made)
        raise


def _prepare(study: Resolved, console: Console) -> Prepared:
    asked, folder = study.config, study.folder
    storage.check(asked, folder, study.identity)
    if not asked.fresh:
        for line in filter(None, (journal.mend(folder.path / journal.FILE), storage.restore_record(asked, folder))):
            say(console, f"note: {line}")
    expected = study.expected_proposal()
    if not asked.fresh:
        storage.check_question(folder, expected.question(), asked.storage)
    sources = known.read(asked.from_, asked.model, folder.path, asked.storage)
    for note in expected.notes:
        say(console, f"note: {note}")
    root, cache = asked.data_root, asked.cache
    index = convert.prepare(study.data, root=root, cache=cache, console=console)
    splits, notices = final_splits(study.data, index, root=root, cache=cache, console=console)
    for notice in notices:
        say(console, f"note: {notice}")
    if not study.data.source.drawn and not asked.fresh:
        folder.check_data(index.fingerprint)
    on_curve, left_out = curve.splits(study, index, console)
    for notice in left_out:
        say(console, f"note: curve: {notice}")
    proposal = study.proposal(index.max_objects)
    if not asked.fresh:  # the data has a say in it
        storage.check_question(folder, proposal.question(), asked.storage)

    ray_runtime.start(asked.address)
    shared = ray_runtime.is_shared(asked.address)
    if shared and study.preset == "paper" and asked.gpus is None and not study.gpus:
        raise ValueError(
            "the paper preset is meant for GPUs, and no node that is up has one; wait for one (`ray status`), "
            "or say --gpus 0 to train on CPUs"
        )
    places = Places(asked, study.gpus, shared=shared)
    read = [(index, ["train", "val"]), *((part, [split]) for part, split in [*splits.values(), *on_curve.values()])]
    preflight = Preflight(folder, read, study.gpus)
    preflight.check(console)
    shards = store.load(index, ["train", "val"], console=console)

    replaces = starting_over.set_aside(asked, folder) if asked.fresh else None
    try:
        optuna_study = storage.open_study(asked, folder, study.identity, proposal.first_hyperparameters())
        said = [*notices, *(f"curve: {notice}" for notice in left_out)]
        _record(study, optuna_study, proposal, index, splits, said, replaces)
        searcher = _searcher(study, optuna_study, proposal)
        for line in [*_lost_trials(folder, optuna_study), *known.propose(optuna_study, folder, proposal, sources)]:
            say(console, line)
    except BaseException:
        if replaces is not None:
            starting_over.bring_back(asked, folder, replaces)
        raise
    return Prepared(study, index.max_objects, splits, on_curve, shards, places, preflight, searcher, proposal, console)


def _searcher(study: Resolved, optuna_study: Any, proposal: Proposal) -> StudySearcher:
    asked, folder = study.config, study.folder
    promotion = strategies.promotion(asked.pruner, study.reports, maximize=OBJECTIVES[asked.goals[0]] == "max")
    second = asked.goals[1] if len(asked.goals) > 1 else None
    patience = None if second else Patience(optuna_study, study.reports, asked.patience, finalists.noise(asked, folder))
    wanted = study.finalists + 1
    return StudySearcher(optuna_study, folder, asked.trials, proposal, promotion, wanted, second, patience)


def _lost_trials(folder: StudyFolder, optuna_study: Any) -> list[str]:
    """Move the folders of trials that the storage does not know, as after records were lost; a line about them."""
    moved = folder.put_away(len(optuna_study.get_trials(deepcopy=False)))
    where = folder.path / LOST
    return [f"note: {', '.join(moved)}: no trial of the storage, moved to {where}"] if moved else []


def tune(prepared: Prepared) -> None:
    """Run the trials that are missing. Raises what tune_study raises."""
    study, console = prepared.study, prepared.console
    say(console, f"watch: tensorboard --logdir {study.folder.path}  ({prepared.places.count()} trials at a time)")
    _train(prepared, study, prepared.searcher, prepared.places, "trial")


def score(prepared: Prepared, ends: float = math.inf) -> None:
    """Retrain the finalists, score them on the final splits, and export the winner.

    At ``ends``, by time.monotonic, training stops: then the search's own checkpoints are scored, as with one seed.
    Raises StudyStopped if there is nothing to score, and what tune_study raises.
    """
    study, console = prepared.study, prepared.console
    optuna_study, proposal = prepared.searcher.study, prepared.proposal
    chosen = finalists.choose(optuna_study, proposal, study.finalists, unfinished=study.seeds > 1)
    if chosen and not storage.best_trials(optuna_study, 1):
        say(console, "no trial is complete: the finalists are those that got furthest")
    found = retrain(prepared, chosen, ends) if chosen and study.seeds > 1 else None
    damage: list[str] = []
    if found is None:
        chosen = finalists.choose(optuna_study, proposal, len(optuna_study.get_trials(deepcopy=False)))
        own = finalists.own_runs(optuna_study, chosen, study.folder, study.config.seed)
        found, damage = evaluation.readable(study.folder, own, study.finalists)
    lost = "no finalist has a checkpoint that can be read; restore them, or start over with --fresh"
    if not found:
        raise StudyStopped(
            lost
            if damage
            else "no trial is complete yet, so there is nothing to score; see the report for reasons, "
            "or give the same command more --trials or --hours"
        )
    metric = study.config.goals[0]
    order = ranking.ranked(found, OBJECTIVES[metric])
    if not order:
        raise StudyStopped(f"no finalist could be trained anew: {found[0].runs[0].reason}")
    order, more = evaluation.readable(study.folder, order)
    for line in dict.fromkeys([*damage, *more]):
        say(console, f"note: {line}")
    study.folder.write(damage=list(dict.fromkeys([*damage, *more])))
    if not order:
        raise StudyStopped(lost)
    ranking.write(study.folder.path, order, metric=metric, asked={"finalists": study.finalists, "seeds": study.seeds})
    grid = evaluation.choose_grid(study, prepared.shards["val"])
    entries = evaluation.entries(study.folder, order, grid)
    evaluation.evaluate_study(study, entries, prepared.splits, prepared.max_objects, console)
    evaluation.export_best(study.folder, study.task, order[0], {"metric": metric, "data": str(study.data)})
    curve.score(study, entries, order[0].entry, prepared.curve, prepared.max_objects, console)


def retrain(prepared: Prepared, chosen: Sequence[Configuration], ends: float) -> list[Finalist] | None:
    """Train each of ``chosen`` with fresh seeds; what an earlier call has trained is not trained again.

    None if that takes longer than until ``ends``. Raises what tune_study raises.
    """
    study, console = prepared.study, prepared.console
    asked, folder = study.config, study.folder
    seeds = finalists.fresh_seeds(asked.seed, study.seeds)
    reruns = finalists.open_reruns(asked, folder, prepared.searcher.study.directions[0])
    for line in _lost_trials(folder.finalists, reruns):
        say(console, line)
    found = finalists.runs(reruns, chosen, seeds, folder)
    left = (ends - time.monotonic()) / 3600
    if found is None and left > 0:
        finalists.enqueue(reruns, chosen, seeds, folder)
        count = len(reruns.get_trials(deepcopy=False))
        names = ", ".join(entry_name(one.entry) for one in chosen)
        say(console, f"retraining {names} with {len(seeds)} fresh seeds each: {finalists.left(reruns)} reruns to go")
        searcher = StudySearcher(reruns, folder.finalists, count, finalists.rerun_proposal(prepared.proposal))
        hours = None if asked.hours is None else left
        again = replace(study, config=replace(asked, trials=count, hours=hours), folder=folder.finalists)
        places = Places(again.config, study.gpus, shared=ray_runtime.is_shared(asked.address))
        _train(prepared, again, searcher, places, "rerun")
        found = finalists.runs(reruns, chosen, seeds, folder)
    if found is None:
        say(console, f"not all finalists are trained anew, so their own scores count; {asked.again} goes on")
    return found


def _train(prepared: Prepared, study: Resolved, searcher: StudySearcher, places: Places, noun: str) -> None:
    """Run the trials of ``searcher``, and add the time that they took to study.json. Raises what tune_study raises."""
    asked, console = study.config, prepared.console
    progress = ProgressCallback(searcher, console, metric=asked.goals[0], reports=study.reports, noun=noun)
    callbacks = [TensorBoardCallback(asked.goals[0]), progress, Newcomers(prepared.preflight, searcher.stop)]
    callbacks.append(starting_over.RemoveOld(prepared.study.config, prepared.study.folder))
    started = time.monotonic()
    try:
        tune_study(study, searcher, prepared.shards, places.wanted, callbacks)
    finally:
        progress.close()
        prepared.study.folder.add_session(time.monotonic() - started, searcher.busy_seconds, places.mean())


def _announce(study: Resolved, console: Console) -> None:
    asked = study.config
    per = "trial" if asked.workers_per_trial == 1 else f"worker, {asked.workers_per_trial} per trial"
    what = f"{asked.model} on {study.data}, {study.preset} preset"
    say(console, f"{study.folder.name}: {what}, {study.gpus:g} GPUs per {per}")
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


def _record(
    study: Resolved,
    optuna_study: Any,
    proposal: Proposal,
    index: ShardIndex,
    splits: Splits,
    notices: Sequence[str],
    replaces: Sequence[str] | None,
) -> None:
    """Write study.json."""
    before = results_folder.sessions(study.folder.read() or {})
    storage.record(
        optuna_study,
        study.folder,
        config=study.identity,
        **proposal.question(),
        direction=OBJECTIVES[study.config.goals[0]],
        storage=study.config.storage,
        data={
            "spec": str(study.data),
            "fingerprint": index.fingerprint,
            "version": study.data.source.version,
            "incomplete": any(part.incomplete for part, _ in splits.values()) or index.incomplete,
            "counts": index.counts,
            "notices": notices,
            "final_splits": {name: f"{part.spec} {split}" for name, (part, split) in splits.items()},
        },
        sessions=[*before, results_folder.this_session()],
        **({} if replaces is None else {starting_over.REPLACES: replaces}),
    )
