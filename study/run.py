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
from study import cluster, config, dry_run, evaluation, presets, report, results_folder, tuning
from study.event_files import TensorBoardCallback
from study.progress import ProgressCallback
from study.tuning import StudyStopped
from trainables.metrics import OBJECTIVES


def run(asked: config.StudyConfig, console: Console) -> None:
    """Run the study ``asked`` for, from data to report; a study that exists is continued.

    Raises ValueError for what a person can mend, StudyStopped when trials keep failing, KeyboardInterrupt on Ctrl-C.
    """
    has_gpu = cluster.has_gpu(asked.address)
    study = presets.resolve(asked, has_gpu=has_gpu)
    gpus = asked.gpus if asked.gpus is not None else float(has_gpu and study.preset == "paper")
    console.print(
        f"[bold]{study.folder.name}[/]: {asked.model} on {study.data}, {study.preset} preset"
        f"{' (a GPU is visible)' if has_gpu else ' (no GPU is visible)' if asked.preset == 'auto' else ''}",
        highlight=False,
    )
    if asked.dry_run:
        index = convert.prepare(study.data, root=asked.data_root, cache=asked.cache, console=console)
        dry_run.show(study, index.max_objects, console)
        return
    study.folder.claim(study.identity, fresh=asked.fresh)
    index = convert.prepare(study.data, root=asked.data_root, cache=asked.cache, console=console)
    splits, notices = final_splits(study.data, index, root=asked.data_root, cache=asked.cache, console=console)
    for notice in notices:
        console.print(f"note: {notice}", highlight=False)
    if study.data.name != "synthetic":  # drawn anew on each machine, and equal only up to its last bit
        study.folder.check_data(index.fingerprint)
    proposal = study.proposal(index.max_objects)
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

    cluster.start(asked.address, ROOT)
    at_a_time = tuning.concurrency(asked, gpus, cluster.resources())
    optuna_study = tuning.open_study(asked, study.folder)
    searcher = tuning.StudySearcher(optuna_study, study.folder, asked.trials, proposal)
    started, progress = time.monotonic(), None
    try:
        if searcher.pending():
            console.print(
                f"watch: tensorboard --logdir {study.folder.path}  ({at_a_time} trials at a time)",
                highlight=False,
                soft_wrap=True,
            )
            progress = ProgressCallback(
                searcher, console, metric=asked.metric, reports=asked.reports, at_a_time=at_a_time
            )
            tuning.tune_study(
                asked,
                study.folder,
                searcher,
                study.task,
                store.load(index, ["train", "val"]),
                gpus=gpus,
                at_a_time=at_a_time,
                callbacks=[TensorBoardCallback(asked.metric), progress],
            )
    finally:
        if progress is not None:
            progress.close()
            study.folder.add_session(time.monotonic() - started, searcher.busy_seconds, at_a_time)
        report.write_trials(optuna_study, study.folder.path)

    best = tuning.best_trials(optuna_study, asked.top)
    if not best:
        raise ValueError(
            f"no trial of {study.folder.name} has completed, so there is nothing to score; "
            "see the reasons in trials.parquet, or run the same command with more --trials or --hours"
        )
    evaluation.evaluate_study(
        study.folder,
        study.task,
        evaluation.entries(study.folder, best),
        splits,
        index.max_objects,
        cpus=asked.cpus,
        gpus=gpus,
        console=console,
    )
    evaluation.export_best(
        study.folder,
        study.task,
        best[0],
        {"metric": asked.metric, "value": optuna_study.trials[best[0]].value, "data": str(study.data)},
    )
    report.write(study.folder.path, console)
    console.print(
        f"report:     {study.folder.path / 'report.html'}\n"
        f"curves:     tensorboard --logdir {study.folder.path}\n"
        f"more:       the same command with a larger --trials than {asked.trials} goes on from here",
        highlight=False,
        soft_wrap=True,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status: 0 done, 1 stopped by failing trials, 2 bad input, 130 interrupted."""
    console = Console()
    errors = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    try:
        run(config.from_command_line(arguments), console)
    except ValueError as error:
        errors.print(f"error: {error}")
        return 2
    except StudyStopped as error:
        errors.print(f"stopped: {error}")
        return 1
    except KeyboardInterrupt:
        errors.print("interrupted: nothing is lost; the same command goes on from here")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
