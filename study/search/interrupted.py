"""Trials that an earlier process left RUNNING: which of them had ended, and which are to be continued.

A process may be killed after an outcome was computed and before it was recorded. The trial's attributes say how far it
got: ``reason`` is written before a trial is told FAIL, ``progress`` after the pruner's verdict on each report.
"""

import optuna
from optuna.trial import FrozenTrial, TrialState

from study.results_folder import StudyFolder
from study.search.stopping import sweep_checkpoints

RUNG = "completed_rung_"
"""How Optuna names the attribute in which its pruners store the value of a trial at a rung."""


def to_continue(study: optuna.Study, folder: StudyFolder) -> list[FrozenTrial]:
    """The RUNNING trials of ``study`` that are to be continued; those that had ended are told so, as FAIL or PRUNED."""
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    continued = []
    for trial in running:
        outcome = _outcome(study, trial)
        if outcome is None:
            continued.append(trial)
        else:
            study.tell(trial.number, state=outcome)
            sweep_checkpoints(folder.trial(trial.number), keep_newest=False)
    return continued


def _outcome(study: optuna.Study, trial: FrozenTrial) -> TrialState | None:
    """How ``trial`` ended, or None if it did not."""
    progress = trial.user_attrs.get("progress", {})
    if "reason" in trial.user_attrs:
        return TrialState.FAIL
    if progress.get("pruned"):
        return TrialState.PRUNED
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
    rungs = sorted((key for key in trial.system_attrs if key.startswith(RUNG)), key=lambda key: int(key[len(RUNG) :]))
    if not rungs or trial.system_attrs[rungs[-1]] != value:
        return optuna.Trial(study, trial._trial_id).should_prune()
    copy = optuna.create_study(study_name=study.study_name, direction=study.direction)
    trials = study.get_trials()
    del trials[trial.number].system_attrs[rungs[-1]]
    copy.add_trials(trials)
    return study.pruner.prune(copy, copy.get_trials()[trial.number])
