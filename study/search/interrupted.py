"""Trials that an earlier process left RUNNING: which of them had ended, and which are to be continued.

A process may be killed after an outcome was computed and before it was recorded. The trial's attributes say how far it
got: ``reason`` is written before a trial is told FAIL, ``progress`` after the pruner's verdict on each report,
``promoted`` before a trial goes on from a rung at which it paused.
"""

from collections.abc import Sequence

import optuna
from optuna.trial import FrozenTrial, TrialState

from study.results_folder import StudyFolder
from study.search import rungs
from study.search.stopping import sweep_checkpoints

RUNG = "completed_rung_"
"""How Optuna names the attribute in which its pruners store the value of a trial at a rung."""


def to_continue(study: optuna.Study, folder: StudyFolder, at: Sequence[int] | None = None) -> list[FrozenTrial]:
    """The RUNNING trials of ``study`` that are to be continued; those that had ended are told so, as FAIL or PRUNED.

    ``at`` holds the rungs of a study whose trials pause; those that pause are not to be continued yet.
    """
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    continued = []
    for trial in running:
        outcome = _failed(trial) if at is not None else _outcome(study, trial)
        if outcome is not None:
            study.tell(trial.number, state=outcome)
        elif not paused(trial, at or ()):
            continued.append(trial)
    _sweep_ended(study, folder)
    return continued


def paused(trial: FrozenTrial, at: Sequence[int]) -> bool:
    """Whether ``trial`` pauses at one of the rungs ``at``."""
    promoted = trial.user_attrs.get("promoted", 0)
    return trial.state == TrialState.RUNNING and rungs.pauses(trial.last_step, promoted, at)


def _sweep_ended(study: optuna.Study, folder: StudyFolder) -> None:
    """Delete the checkpoints of trials that were told PRUNED or FAIL just before the process was killed."""
    trials = study.get_trials(deepcopy=False)
    for path in {found.parent for found in folder.trials.glob("*/checkpoint_*")}:
        number = path.name.rpartition("_")[2]
        if number.isdecimal() and int(number) < len(trials):
            if trials[int(number)].state in (TrialState.PRUNED, TrialState.FAIL):
                sweep_checkpoints(path, keep=0)


def _failed(trial: FrozenTrial) -> TrialState | None:
    return TrialState.FAIL if "reason" in trial.user_attrs else None


def _outcome(study: optuna.Study, trial: FrozenTrial) -> TrialState | None:
    """How ``trial`` ended, or None if it did not."""
    progress = trial.user_attrs.get("progress", {})
    if (failed := _failed(trial)) is not None:
        return failed
    if progress.get("pruned"):
        return TrialState.PRUNED
    if len(study.directions) > 1:
        return None  # nothing stops its trials early
    judged = trial.last_step is None or trial.last_step <= progress.get("judged", 0)
    return TrialState.PRUNED if not judged and _pruned(study, trial) else None


def _pruned(study: optuna.Study, trial: FrozenTrial) -> bool:
    """The pruner's verdict on the last report of ``trial``, asked again from the stored values.

    Optuna's successive halving (Hyperband too) first stores that a trial has reached a rung, then compares it with the
    others there, and takes a stored rung for a passed one. So a trial killed in between is judged in a copy of the
    study in which it has not reached that rung.
    """
    assert trial.last_step is not None
    value = trial.intermediate_values[trial.last_step]
    stored = sorted((key for key in trial.system_attrs if key.startswith(RUNG)), key=lambda key: int(key[len(RUNG) :]))
    if not stored or trial.system_attrs[stored[-1]] != value:
        return optuna.Trial(study, trial._trial_id).should_prune()
    copy = optuna.create_study(study_name=study.study_name, direction=study.direction)
    trials = study.get_trials()
    del trials[trial.number].system_attrs[stored[-1]]
    copy.add_trials(trials)
    return study.pruner.prune(copy, copy.get_trials()[trial.number])
