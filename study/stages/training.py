"""The stages that train and score: the search, the finalists with fresh seeds, the final splits."""

import math
import shlex
import time
from collections.abc import Sequence
from dataclasses import replace

from study.cluster import ray_runtime
from study.cluster.places import Places
from study.cluster.preflight import Newcomers
from study.display.event_files import TensorBoardCallback
from study.display.plain_lines import say
from study.display.progress import ProgressCallback
from study.presets import Resolved
from study.scoring import curve, evaluation, ranking
from study.scoring.leaderboard import KMEANS, METRICS, entry_name, read_leaderboard
from study.scoring.ranking import Finalist
from study.search import finalists, starting_over, storage
from study.search.finalists import Configuration
from study.search.searcher import StudySearcher
from study.search.stopping import StudyStopped
from study.search.tune import tune_study
from study.stages.preparing import Prepared, lost_trials
from trainables import profiling
from trainables.objectives import direction


def tune(prepared: Prepared) -> None:
    """Run the trials that are missing. Raises what tune_study raises."""
    study, console = prepared.study, prepared.console
    where, count = shlex.quote(str(study.folder.path)), prepared.places.count()
    say(console, f"watch:  tensorboard --logdir {where}")
    say(console, f"        {count} trial{'s' * (count != 1)} at a time")
    _train(prepared, study, prepared.searcher, prepared.places, "trial")
    if study.config.profile:
        folder = study.folder.trial(0) / profiling.FOLDER
        if (table := folder / profiling.TABLE).is_file():
            for line in [*table.read_text(encoding="utf-8").splitlines(), f"trace:  {folder}"]:
                say(console, line)


def score(prepared: Prepared, ends: float = math.inf) -> bool:
    """Retrain the finalists, score them on the final splits, and export the winner. Returns whether all of that is
    done: no finalist waits for its training, and no checkpoint is lost.

    At ``ends``, by time.monotonic, training stops: then the search's own checkpoints are scored, as with one seed.
    Raises StudyStopped if there is nothing to score, and what tune_study raises.
    """
    study, console = prepared.study, prepared.console
    optuna_study, proposal = prepared.searcher.study, prepared.proposal
    chosen = finalists.choose(optuna_study, proposal, study.finalists, unfinished=study.seeds > 1)
    if chosen and not storage.best_trials(optuna_study, 1):
        say(console, "no trial is complete: the finalists are those that got furthest")
    found = retrain(prepared, chosen, ends) if chosen and study.seeds > 1 else None
    whole = found is not None or study.seeds == 1
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
    there = sum(one.entry != ranking.BASE for one in found)
    if study.config.finalists is not None and there < study.finalists:
        say(console, f"note: {there} of {study.finalists} finalists: no more trials are complete; give more --trials")
    metric = study.config.goals[0]
    order = ranking.ranked(found, direction(metric))
    if not order:
        raise StudyStopped(
            f"no finalist could be trained anew: {found[0].runs[0].reason}; "
            "with --seeds 1 the search's own checkpoints are scored"
        )
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
    return whole and not damage and not more


def retrain(prepared: Prepared, chosen: Sequence[Configuration], ends: float) -> list[Finalist] | None:
    """Train each of ``chosen`` with fresh seeds; what an earlier call has trained is not trained again.

    None if that takes longer than until ``ends``. Raises what tune_study raises.
    """
    study, console = prepared.study, prepared.console
    asked, folder = study.config, study.folder
    seeds = finalists.fresh_seeds(asked.seed, study.seeds)
    reruns = finalists.open_reruns(asked, folder, prepared.searcher.study.directions[0])
    for line in lost_trials(folder.finalists, reruns):
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
    progress = ProgressCallback(
        searcher,
        console,
        metric=asked.goals[0],
        reports=study.reports,
        noun=noun,
        beside=_kmeans(study) if noun == "trial" else "",
        then=study.reruns if noun == "trial" else 0,
    )
    searched = [key for key in prepared.proposal.searched() if key not in prepared.proposal.fixed]
    callbacks = [TensorBoardCallback(asked.goals[0], searched), progress, Newcomers(prepared.preflight, searcher.stop)]
    callbacks.append(starting_over.RemoveOld(prepared.study.config, prepared.study.folder))
    if asked.log:
        from study.display import loggers  # Ray's part of it imports the packages, which takes seconds

        callbacks += loggers.callbacks(asked.log, prepared.study.folder, study.folder, searcher.state_of)
    started = time.monotonic()
    try:
        tune_study(study, searcher, prepared.shards, places.wanted, callbacks)
    finally:
        progress.close()
        prepared.study.folder.add_session(time.monotonic() - started, searcher.busy_seconds, places.mean())


def _kmeans(study: Resolved) -> str:
    """What k-means has on test images, where an earlier call has scored it."""
    try:
        rows = read_leaderboard(study.folder.path)
    except ValueError:  # damaged; the final stage computes it anew
        return ""
    found = [row for row in rows if row.entry == KMEANS and row.split == "test"]
    return f"k-means {found[0].means[METRICS[0]]:.4f} on test" if found and study.config.goals[0] == METRICS[0] else ""
