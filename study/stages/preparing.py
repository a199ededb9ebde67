"""The first stage: check all that can be wrong, start Ray, load the data, open the study."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from data import convert, plugins, store, subset
from data.final_splits import Splits, final_splits
from data.loader import Split, sequential
from data.shards import ShardIndex
from study import results_folder
from study.cluster import ray_runtime
from study.cluster.places import Places
from study.cluster.preflight import Preflight
from study.config import StudyConfig
from study.display.plain_lines import begin, say
from study.presets import Resolved
from study.results_folder import LOST, StudyFolder
from study.scoring import curve
from study.scoring.trial_table import ENDED
from study.search import finalists, finished, journal, known, starting_over, storage, strategies
from study.search.patience import Patience
from study.search.proposal import Proposal
from study.search.searcher import StudySearcher
from study.stages.hardware import hardware
from trainables import compiled
from trainables.crew import Shards
from trainables.objectives import OF_OBJECTS, direction


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
    lacking: bool
    """whether data is missing that may be there another time"""


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
    if asked.log:
        from study.display import loggers  # Ray's part of it imports the packages, which takes seconds

        loggers.check(asked.log)
    storage.check(asked, folder, study.identity)
    refuse_late_profile(asked, folder)
    if not asked.fresh:
        for line in filter(None, (journal.mend(folder.path / journal.FILE), storage.restore_record(asked, folder))):
            say(console, f"note: {line}")
    expected = study.expected_proposal()
    if not asked.fresh:
        storage.check_question(folder, expected.question(), asked.storage)
    sources = known.read(asked.from_, asked.model, folder, asked.storage, fresh=asked.fresh)
    for note in expected.notes:
        say(console, f"note: {note}")
    root, cache = asked.data_root, asked.cache
    index = convert.prepare(study.data, root=root, cache=cache, console=console)
    refuse_without_objects(study, index)
    splits, notices = final_splits(study.data, index, root=root, cache=cache, console=console)
    lacking = bool(notices)
    if asked.data_fraction is not None:
        notices.append(f"trained on a part of the images: {subset.said(index.counts, asked.data_fraction)}")
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
    begin(console, f"loading {study.data}")
    shards = store.load(index, ["train", "val"], fraction=asked.data_fraction, console=console)

    replaces = starting_over.set_aside(asked, folder) if asked.fresh else None
    try:
        optuna_study = storage.open_study(asked, folder, study.identity, proposal.first_hyperparameters())
        said = [*notices, *(f"curve: {notice}" for notice in left_out)]
        finished.forget(folder.path)
        _record(study, optuna_study, proposal, index, splits, said, replaces)
        lines = lost_trials(folder, optuna_study)
        if asked.trials == 1:  # the only trial is the best of --from; the base comes in the final stage
            lines += known.propose(optuna_study, folder, proposal, sources)
        searcher = _searcher(study, optuna_study, proposal)
        lines += known.propose(optuna_study, folder, proposal, sources)
        for line in [*lines, *_taken_up(searcher)]:
            say(console, line)
    except BaseException:
        if replaces is not None:
            starting_over.bring_back(asked, folder, replaces)
        raise
    lacking = lacking or bool(left_out) or any(part.incomplete for part, _ in splits.values()) or index.incomplete
    return Prepared(
        study, index.max_objects, splits, on_curve, shards, places, preflight, searcher, proposal, console, lacking
    )


def refuse_late_profile(asked: StudyConfig, folder: StudyFolder) -> None:
    """Raise ValueError if a profile is asked for, and the study began without one: its trial 0 has begun."""
    begun = None if asked.fresh else folder.read()
    if asked.profile and begun is not None and not begun.get("profile"):
        raise ValueError(
            f"--profile is of the first steps of trial 0, and study {folder.name} began without it; "
            "start over with --fresh, or choose another --name"
        )


def refuse_without_objects(study: Resolved, index: ShardIndex) -> None:
    """Raise ValueError if a goal compares objects and no validation image has any: trials would train, then fail."""
    undefined = [goal for goal in study.config.goals if goal in OF_OBJECTS]
    if not undefined:
        return
    for shard in index.shards("val"):
        split = Split([index.read(shard)])
        if any(split.gather(rows)[1].any() for rows in sequential(len(split), 64)):
            return
    raise ValueError(
        f"{' and '.join(undefined)} cannot be known on {study.data}: no validation image has a mask with an object; "
        "add masks, or search with --metric MSE or --metric loss"
    )


def refuse_without_compiler(study: Resolved) -> None:
    """Raise ValueError if --compile cannot work on this machine, where it is the one that trains.

    Nodes of a cluster may have what it takes; a trial on one that has not goes on without, and says so.
    """
    if study.config.compile and not ray_runtime.is_shared(study.config.address):
        compiled.refuse_without_compiler(on_gpu=study.gpus > 0)


def _searcher(study: Resolved, optuna_study: Any, proposal: Proposal) -> StudySearcher:
    asked, folder = study.config, study.folder
    promotion = strategies.promotion(asked.pruner, study.reports, maximize=direction(asked.goals[0]) == "max")
    second = asked.goals[1] if len(asked.goals) > 1 else None
    patience = None if second else Patience(optuna_study, study.reports, asked.patience, finalists.noise(asked, folder))
    wanted = study.finalists + 1
    return StudySearcher(optuna_study, folder, asked.trials, proposal, promotion, wanted, second, patience)


def _taken_up(searcher: StudySearcher) -> list[str]:
    """What a study goes on with, in a line; nothing for a new one."""
    counts = searcher.counts()
    done = sum(counts[state] for state in (*ENDED, "PAUSED"))
    if not done + counts["RUNNING"]:
        return []
    return [f"continuing: {done} done, {counts['RUNNING']} taken up, {searcher.left()} to go"]


def lost_trials(folder: StudyFolder, optuna_study: Any) -> list[str]:
    """Move the folders of trials that the storage does not know, as after records were lost; a line about them."""
    moved = folder.put_away(len(optuna_study.get_trials(deepcopy=False)))
    where = folder.path / LOST
    return [f"note: {', '.join(moved)}: no trial of the storage, moved to {where}"] if moved else []


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
    stored = study.folder.read() or {}
    before = results_folder.sessions(stored)
    fraction = study.config.data_fraction
    storage.record(
        optuna_study,
        study.folder,
        config=study.identity,
        **proposal.question(),
        direction=direction(study.config.goals[0]),
        storage=study.config.storage,
        profile=study.config.profile or bool(stored.get("profile")),
        plugins=study.config.plugins or os.environ.get(plugins.SENT_FROM),
        data={
            "spec": str(study.data),
            "fingerprint": index.fingerprint,
            "version": study.data.source.version,
            "incomplete": any(part.incomplete for part, _ in splits.values())
            or index.incomplete
            or fraction is not None,
            "counts": {**index.counts, "train": subset.count(index.rows("train"), fraction)},
            "notices": notices,
            "final_splits": {name: f"{part.spec} {split}" for name, (part, split) in splits.items()},
        },
        sessions=[*before, {**results_folder.this_session(), "hardware": hardware(ray_runtime.alive())}],
        **({} if replaces is None else {starting_over.REPLACES: replaces}),
    )
