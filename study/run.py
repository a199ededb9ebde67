"""Tune a model, score the best trials on test, OOD and CAMO, and report: ``python study/run.py --model space``."""

import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

# Run as a script, Python puts study/ first on the path; the packages live one level up.
ROOT = Path(__file__).resolve().parents[1]
if sys.path[0] == str(ROOT / "study"):
    sys.path[0] = str(ROOT)

from rich.console import Console

from data import convert, store
from data.final_splits import final_splits
from data.shards import ShardIndex
from study import compare, config, dry_run, evaluation, presets, ray_runtime, report, results_folder, tuning
from study.endings import StudyStopped
from study.event_files import TensorBoardCallback
from study.places import Places
from study.preflight import Newcomers, Preflight
from study.presets import Resolved
from study.progress import ProgressCallback
from study.tuning import StudySearcher
from trainables.metrics import OBJECTIVES


def run_all(studies: Sequence[config.StudyConfig], console: Console) -> None:
    """Run one study after the other, each with all that the machine has, then compare their best trials.

    A study that has nothing to score does not keep the others from running. Raises what :func:`run` raises; what can
    be known to be wrong with any of them is raised before the first begins.
    """
    for asked in studies:
        study = presets.resolve(asked, has_gpu=ray_runtime.has_gpu(asked.address))
        study.proposal(study.data.max_objects)
        if not asked.fresh:
            study.folder.check_identity(study.identity)
    finished: dict[str, Path] = {}
    for i, asked in enumerate(studies, start=1):
        _say(console, f"\nstudy {i} of {len(studies)}")
        try:
            finished[asked.model] = run(asked, console)
        except StudyStopped as reason:
            _say(console, f"stopped: {reason}")
        ray_runtime.leave()  # Tune never lets go of a study's parameters, its shards among them
    if finished and not studies[0].dry_run:
        comparison = compare.compare(list(finished.values()))
        compare.print_comparison(console, comparison)
        model, folder = next(iter(finished.items()))
        shared = folder.name.replace(model, "").strip("-")
        page = folder.with_name(f"comparison-{shared}.html")
        compare.write(comparison, page)
        _say(console, f"page:   {page}")
        _say(console, f"again:  {shlex.join(['python', 'study/compare.py', *map(str, finished.values())])}")
    missing = [asked.model for asked in studies if asked.model not in finished]
    if missing:
        raise StudyStopped(f"{', '.join(missing)} without a score; the lines above say why")


def run(asked: config.StudyConfig, console: Console) -> Path:
    """Run the study ``asked`` for, from data to report; a study that exists is continued. Returns its folder.

    Raises ValueError for what a person can mend, StudyStopped when there is nothing to go on with, KeyboardInterrupt
    on Ctrl-C; nothing that was computed is lost then.
    """
    has_gpu = ray_runtime.has_gpu(asked.address)
    study = presets.resolve(asked, has_gpu=has_gpu)
    gpus = asked.gpus if asked.gpus is not None else float(has_gpu and study.preset == "paper")
    places = "trial" if asked.workers_per_trial == 1 else f"worker, {asked.workers_per_trial} per trial"
    what = f"{asked.model} on {study.data}, {study.preset} preset"
    _say(console, f"{study.folder.name}: {what}, {gpus:g} GPUs per {places}")
    if asked.metric == "loss":
        _say(console, "note: losses are not comparable across sigma or KL weights; tune on mIoU_fg, ARI_FG or MSE")
    if asked.dry_run:
        dry_run.show(study, console)
        return study.folder.path

    # Everything that can still go wrong with what was asked for comes before anything of an old study is touched.
    study.folder.claim(study.identity, fresh=asked.fresh)
    root, cache = asked.data_root, asked.cache
    index = convert.prepare(study.data, root=root, cache=cache, console=console)
    splits, notices = final_splits(study.data, index, root=root, cache=cache, console=console)
    for notice in notices:
        _say(console, f"note: {notice}")
    if study.data.name != "synthetic" and not asked.fresh:  # drawn anew on each machine, equal up to its last bit
        study.folder.check_data(index.fingerprint)
    proposal = study.proposal(index.max_objects)
    ray_runtime.start(asked.address, ROOT)
    shared = ray_runtime.is_shared(asked.address)
    if shared and study.preset == "paper" and asked.gpus is None and not has_gpu:
        raise ValueError(
            "the paper preset is meant for GPUs, and no node that is up has one; wait for one (`ray status`), "
            "or say --gpus 0 to train on CPUs"
        )
    at_a_time = Places(asked, gpus, shared=shared)
    read = [(index, ["train", "val"]), *((part, [split]) for part, split in splits.values())]
    preflight = Preflight(study.folder, read, gpus)
    preflight.check(console)
    shards = store.load(index, ["train", "val"], console=console)

    if asked.fresh:
        study.folder.clear()
    optuna_study = tuning.open_study(asked, study.folder, study.identity)
    study.folder.write(
        config=study.identity,
        base=proposal.base,
        direction=OBJECTIVES[asked.metric],
        storage=asked.storage,
        data={
            "spec": str(study.data),
            "fingerprint": index.fingerprint,
            "incomplete": any(part.incomplete for part, _ in splits.values()) or index.incomplete,
            "counts": index.counts,
            "notices": notices,
            "final_splits": {name: f"{part.spec} {split}" for name, (part, split) in splits.items()},
        },
        versions=results_folder.versions(),
        git=results_folder.git_revision(),
        command=shlex.join(["python", "study/run.py", *sys.argv[1:]]),
    )
    searcher = StudySearcher(optuna_study, study.folder, asked.trials, proposal)
    try:
        if searcher.pending():
            _tune(study, searcher, shards, gpus, at_a_time, preflight, console)
        _score(study, searcher, index.max_objects, splits, gpus, console)
    finally:
        report.write(study.folder.path, console)
    _say(console, f"report: {study.folder.path / 'report.html'}")
    _say(console, f"curves: tensorboard --logdir {study.folder.path}")
    _say(console, f"more:   {asked.again} with more than {asked.trials} --trials goes on from here")
    return study.folder.path


def _tune(
    study: Resolved,
    searcher: StudySearcher,
    shards: dict[str, list],
    gpus: float,
    at_a_time: Places,
    preflight: Preflight,
    console: Console,
) -> None:
    """Run the trials that are missing, and note the time they took."""
    asked = study.config
    _say(console, f"watch: tensorboard --logdir {study.folder.path}  ({at_a_time.number} trials at a time)")
    progress = ProgressCallback(searcher, console, metric=asked.metric, reports=asked.reports)
    started = time.monotonic()
    try:
        tuning.tune_study(
            asked,
            study.folder,
            searcher,
            study.task,
            shards,
            gpus=gpus,
            at_a_time=at_a_time,
            callbacks=[TensorBoardCallback(asked.metric), progress, Newcomers(preflight, searcher.stop)],
        )
    finally:
        progress.close()
        study.folder.add_session(time.monotonic() - started, searcher.busy_seconds, at_a_time.mean())


def _score(
    study: Resolved,
    searcher: StudySearcher,
    max_objects: int,
    splits: dict[str, tuple[ShardIndex, str]],
    gpus: float,
    console: Console,
) -> None:
    """Score the best trials on the final splits and export the best one."""
    asked = study.config
    best = tuning.best_trials(searcher.study, asked.top)
    if not best:
        raise StudyStopped(
            "no trial has completed yet, so there is nothing to score; see the report for reasons, "
            "or give the same command more --trials or --hours"
        )
    entries = evaluation.entries(study.folder, best)
    evaluation.evaluate_study(
        study.folder, study.task, entries, splits, max_objects, cpus=asked.cpus, gpus=gpus, console=console
    )
    value = searcher.study.trials[best[0]].value
    summary = {"metric": asked.metric, "value": value, "data": str(study.data)}
    evaluation.export_best(study.folder, study.task, best[0], summary)


def _say(console: Console, line: str) -> None:
    """Print a line as it is: paths and specs hold characters that rich would take for markup."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status: 0 done, 1 stopped early, 2 bad input, 130 interrupted."""
    console, errors = Console(), Console(stderr=True)
    again = "the same command"
    try:
        studies = config.from_command_line(arguments)
        again = studies[0].again
        if len(studies) == 1:
            run(studies[0], console)
        else:
            run_all(studies, console)
    except ValueError as error:
        _say(errors, f"error: {error}")
        return 2
    except OSError as error:
        _say(errors, f"error: {error.filename or 'a file'}: {error.strerror or error}")
        return 2
    except StudyStopped as error:
        _say(errors, f"stopped: {error}")
        return 1
    except KeyboardInterrupt:
        _say(errors, f"interrupted: nothing is lost; {again} goes on from here")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
