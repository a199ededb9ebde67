"""The finalists of a search, trained anew with fresh seeds: trials of a second Optuna study, ``<name>-finalists``.

The best of many trials by one noisy score is too good to be true: its luck does not come again. So the best ones and
the base configuration start over, each with the same seeds, and their means decide.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import optuna
from optuna.pruners import NopPruner
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, TrialState

from study.config import StudyConfig
from study.results_folder import StudyFolder
from study.scoring.ranking import BASE, Finalist, Run
from study.search import goals, storage
from study.search.evidence import worker_lost
from study.search.patience import seeds_noise
from study.search.proposal import Proposal
from study.search.stopping import sweep_checkpoints


@dataclass(frozen=True)
class Configuration:
    """Hyperparameters that reach the final stage."""

    entry: str
    """trial_0007, or ``base``"""
    trial: int | None
    """the trial of the search that has them; None for a base that the search did not run"""
    hyperparameters: dict[str, Any]
    """all of the model's"""

    def key(self, seed: int) -> str:
        """What tells its run with ``seed`` from all others."""
        text = json.dumps([self.hyperparameters, seed], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def fresh_seeds(seed: int, count: int) -> list[int]:
    """``count`` seeds that follow from the study's ``seed`` and differ from it; a larger count adds to the same."""
    drawn = np.random.SeedSequence(seed, spawn_key=(1,)).generate_state(count + 8).tolist()
    return [value for value in dict.fromkeys(drawn) if value != seed][:count]


def choose(study: optuna.Study, proposal: Proposal, count: int, *, unfinished: bool = False) -> list[Configuration]:
    """The ``count`` best complete trials of ``study`` with hyperparameters of their own, and the base, which is last.

    The base is there once, as the base, however good it is. Where no trial is complete and ``unfinished``
    allows it, those that got furthest take their place, the better first. Without any, nothing is chosen.
    Of a study with two goals the best are first those on the Pareto front, then all others, both by the first goal.
    """
    trials = study.get_trials()  # copies: a search space that reads one writes to it
    numbers = list(dict.fromkeys([*goals.front(study), *storage.best_trials(study, len(trials))]))
    if not numbers and unfinished:
        numbers = _furthest(study)
    base = proposal.base_hyperparameters()
    base_key = Configuration(BASE, None, base).key(0)
    found: dict[str, Configuration] = {}
    for number in numbers:
        hyperparameters = proposal.hyperparameters(trials[number])
        one = Configuration(f"trial_{number:04d}", number, hyperparameters)
        found.setdefault(one.key(0), one)
    base_trial = found[base_key].trial if base_key in found else None
    chosen = [one for key, one in found.items() if key != base_key][:count]
    return [*chosen, Configuration(BASE, base_trial, base)] if numbers else []


def own_runs(study: optuna.Study, chosen: Sequence[Configuration], folder: StudyFolder, seed: int) -> list[Finalist]:
    """``chosen`` with the search's own trials as their only runs; a base that is not complete is left out."""
    found = []
    for one in chosen:
        if one.trial is not None:
            where = folder.trial(one.trial).relative_to(folder.path)
            value = goals.first(study.get_trials(deepcopy=False)[one.trial])
            found.append(Finalist(one.entry, one.trial, (Run(seed, str(where), value),)))
    return found


def open_reruns(config: StudyConfig, folder: StudyFolder, direction: optuna.study.StudyDirection) -> optuna.Study:
    """Create or continue the second study, in the storage of the first. Raises ValueError if it cannot be opened."""
    return optuna.create_study(
        storage=storage.open_storage(folder, config.storage),
        study_name=_name(folder),
        direction=direction,
        sampler=RandomSampler(seed=0),  # asked for nothing
        pruner=NopPruner(),
        load_if_exists=True,
    )


def enqueue(reruns: optuna.Study, chosen: Sequence[Configuration], seeds: Sequence[int], folder: StudyFolder) -> None:
    """Let ``reruns`` have one trial for each of ``chosen`` with each of ``seeds``, and none that waits for others.

    Trials of an earlier call are kept. Of those that are not wanted any more, as when more trials of the search have
    brought other finalists, the ones that have not ended are pruned and lose their checkpoints.
    """
    wanted = {one.key(seed): (one, seed) for seed in seeds for one in chosen}
    if any(trial.user_attrs["key"] not in wanted for trial in _in_state(reruns, TrialState.WAITING)):
        for _ in _in_state(reruns, TrialState.WAITING):
            reruns.ask()  # Optuna removes no trial that waits; one that runs can be told its end
    for trial in _in_state(reruns, TrialState.RUNNING):
        if trial.user_attrs["key"] not in wanted:
            reruns.tell(trial.number, state=TrialState.PRUNED)
            sweep_checkpoints(folder.finalists.trial(trial.number), keep=0)
    known = _by_key(reruns)
    for key, (one, seed) in wanted.items():
        if key not in known:
            attributes = {"key": key, "seed": seed, "hyperparameters": one.hyperparameters}
            reruns.enqueue_trial({}, user_attrs=attributes)


def rerun_proposal(proposal: Proposal) -> Proposal:
    """What the trials of the second study are made of: the hyperparameters that :func:`enqueue` stored with each."""
    return replace(proposal, space=lambda trial, _: trial.user_attrs["hyperparameters"], base={}, fixed={})


def runs(
    reruns: optuna.Study, chosen: Sequence[Configuration], seeds: Sequence[int], folder: StudyFolder
) -> list[Finalist] | None:
    """How ``chosen`` did with ``seeds``; ``folder`` is the first study's. None while one of their trials has not ended.

    A trial ends as complete or failed here.
    """
    known = _by_key(reruns)
    found = []
    for one in chosen:
        trials = [known.get(one.key(seed)) for seed in seeds]
        if any(trial is None or not trial.state.is_finished() for trial in trials):
            return None
        ended = [(seed, trial) for seed, trial in zip(seeds, trials, strict=True) if trial is not None]
        found.append(Finalist(one.entry, one.trial, tuple(_run(seed, trial, folder) for seed, trial in ended)))
    return found


def left(reruns: optuna.Study) -> int:
    """How many trials have not ended."""
    return len(_in_state(reruns, TrialState.WAITING)) + len(_in_state(reruns, TrialState.RUNNING))


def noise(config: StudyConfig, folder: StudyFolder) -> float | None:
    """The standard deviation of a score over seeds, from an earlier call's second study; None without two seeds."""
    opened = storage.open_storage(folder, config.storage)
    if _name(folder) not in optuna.get_all_study_names(opened):
        return None
    scores: dict[str, list[float]] = {}
    for trial in _in_state(optuna.load_study(study_name=_name(folder), storage=opened), TrialState.COMPLETE):
        if trial.value is not None:
            scores.setdefault(json.dumps(trial.user_attrs["hyperparameters"], sort_keys=True), []).append(trial.value)
    return seeds_noise(list(scores.values()))


def _run(seed: int, trial: FrozenTrial, folder: StudyFolder) -> Run:
    where = folder.finalists.trial(trial.number).relative_to(folder.path)
    return Run(seed, str(where), trial.value, trial.user_attrs.get("reason"))


def _by_key(reruns: optuna.Study) -> dict[str, FrozenTrial]:
    """Key -> its trial, of those that were not given up. One that lost its worker too often is tried anew."""
    trials = reruns.get_trials(deepcopy=False)
    kept = [trial for trial in trials if trial.state != TrialState.PRUNED and not worker_lost(trial)]
    return {trial.user_attrs["key"]: trial for trial in kept}


def _in_state(study: optuna.Study, state: TrialState) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(state,))


def _furthest(study: optuna.Study) -> list[int]:
    """Numbers of the trials that have reported and not failed: by their last report, then by its value."""
    sign = -1 if goals.maximizes(study) else 1
    reported = {
        trial.number: (-trial.last_step, sign * trial.intermediate_values[trial.last_step])
        for trial in study.get_trials(deepcopy=False, states=(TrialState.PRUNED, TrialState.RUNNING))
        if trial.last_step is not None
    }
    return sorted(reported, key=lambda number: reported[number])


def _name(folder: StudyFolder) -> str:
    return storage.name_of(folder) + storage.FINALISTS
