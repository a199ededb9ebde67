"""``--from``: the best trials of earlier studies of the same model, proposed first in a new one.

They become waiting trials of Optuna's, after the base, and are trained like any other: their values on other data,
sizes or seeds are not taken over.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna

from study.display.error_lines import first_line
from study.results_folder import StudyFolder, read_record
from study.scoring import ranking
from study.search import distributions, storage
from study.search.proposal import Proposal

PER_STUDY = 5
"""Proposals from one study, at most."""

MARK = "from"
"""The attribute of a trial, and the entry of study.json, that name the study a proposal comes from."""


@dataclass(frozen=True)
class Source:
    """An earlier study."""

    path: str
    """its folder"""
    trials: dict[int, dict[str, Any]]
    """number -> hyperparameters of its complete trials, best first"""
    searched: tuple[str, ...]
    """the keys that its trials searched"""


def read(
    folders: Sequence[str], model: str, own: StudyFolder, url: str | None = None, *, fresh: bool = False
) -> list[Source]:
    """The studies in ``folders``, each once, in their journals or in the storage at ``url``. Reads only.

    Those whose proposals the study in ``own`` has already may be gone by now: they are not looked at, unless it begins
    ``fresh``.

    Raises ValueError for one that is no study, is damaged, is of another model than ``model``, is being run, has no
    complete trial, or is ``own`` itself.
    """
    found: dict[str, Source] = {}
    taken = [] if fresh else [entry["study"] for entry in (own.read() or {}).get(MARK, [])]
    for folder in folders:
        path = Path(folder).resolve()
        if str(path) in taken:
            continue
        if path == own.path.resolve():
            raise ValueError(f"--from {folder} is this study itself; its trials are known")
        try:
            found[str(path)] = _source(path, model, url)
        except ValueError as error:
            raise ValueError(f"--from {folder}: {error}") from error
    return list(found.values())


def propose(study: optuna.Study, folder: StudyFolder, proposal: Proposal, sources: Sequence[Source]) -> list[str]:
    """Let the best trials of ``sources`` wait in ``study``, those of each source once; returns a line for each.

    A number outside a range moves to its nearer end. A choice that is no longer there is left to the sampler. What
    was not searched there has the value that it had.
    """
    done = (folder.read() or {}).get(MARK, [])
    lines = []
    for source in sources:
        if any(entry["study"] == source.path for entry in done):
            continue  # by an earlier run of this command
        taken, moved, left = _translated(source, proposal)
        there = [trial.user_attrs.get(MARK) for trial in study.get_trials(deepcopy=False)]
        for number, parameters in taken.items():
            mark = {"study": source.path, "trial": number}
            if mark not in there:  # else a kill came between
                study.enqueue_trial(parameters, user_attrs={MARK: mark})
        done = [*done, {"study": source.path, "trials": list(taken), "moved": moved, "not_taken": left}]
        folder.write(**{MARK: done})
        numbers = f" (its trials: {', '.join(map(str, taken))})" if taken else ", its best are the base"
        lines.append(f"from {Path(source.path).name}: {len(taken)} proposal{'s' * (len(taken) != 1)}{numbers}")
        lines[-1] += f"; moved into their ranges: {', '.join(moved)}" if moved else ""
        lines[-1] += f"; not taken, since they cannot have these values here: {', '.join(left)}" if left else ""
    return lines


def _source(path: Path, model: str, url: str | None) -> Source:
    record = read_record(path)
    theirs = _mapping(record.get("config"), "config").get("model")
    if theirs != model:
        raise ValueError(f"its model is {theirs}, this study's is {model}; their hyperparameters differ")
    if StudyFolder(path).is_running():
        raise ValueError("it is being run by another process; wait for it")
    try:
        study = storage.load_study(path, url if record.get("storage") else None)
        best = storage.best_trials(study, len(study.get_trials(deepcopy=False)))
        trials = study.get_trials(deepcopy=False)
    except (KeyError, TypeError, RuntimeError, json.JSONDecodeError) as error:
        raise ValueError(f"its trials cannot be read: {first_line(error)}") from error
    if not best:
        raise ValueError("it has no complete trial")
    winner = next((finalist.trial for finalist in ranking.read(path)), None)  # by fresh seeds, which say more
    best.sort(key=lambda number: number != winner)
    base = _mapping(record.get("base", {}), "base")
    searched = dict.fromkeys(key for number in best for key in trials[number].params)
    return Source(str(path), {number: {**base, **trials[number].params} for number in best}, tuple(searched))


def _mapping(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"its study.json is damaged: it has no {name}")
    return value


def _translated(source: Source, proposal: Proposal) -> tuple[dict[int, dict[str, Any]], list[str], list[str]]:
    """Number -> parameters of the best trials that differ here, the keys moved, and the keys not taken."""
    ranges, base = proposal.searched(), proposal.base_parameters()
    taken: dict[int, dict[str, Any]] = {}
    moved: dict[str, None] = {}
    left: dict[str, None] = {}
    for number, values in source.trials.items():
        if len(taken) == PER_STUDY:
            break
        fitting = {key: values[key] for key in ranges if key in values and _fits(ranges[key], values[key])}
        inside = {key: distributions.nearest(ranges[key], value) for key, value in fitting.items()}
        recorder = distributions.Recorder({**proposal.base, **inside})
        proposal.hyperparameters(recorder)  # which of the keys that depend on others are asked for
        parameters = {key: value for key, value in inside.items() if key in recorder.params}
        if parameters in taken.values() or parameters == base:
            continue
        taken[number] = parameters
        moved |= dict.fromkeys(key for key in parameters if parameters[key] != values[key])
        left |= dict.fromkeys(key for key in recorder.params if key in values and key not in parameters)
        left |= dict.fromkeys(
            key for key in source.searched if key not in ranges and values.get(key) != proposal.base.get(key)
        )
    return taken, list(moved), list(left)


def _fits(distribution: optuna.distributions.BaseDistribution, value: Any) -> bool:
    """Whether the distribution holds ``value``, or it can move into the range."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    choices = isinstance(distribution, optuna.distributions.CategoricalDistribution)
    return distributions.holds(distribution, value) or (number and not choices)
