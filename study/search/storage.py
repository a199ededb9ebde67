"""The Optuna storage of a study: open it, create or continue the study in it, and find the best trials."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from study.config import StudyConfig
from study.display.error_lines import first_line
from study.results_folder import StudyFolder, read_record
from study.search import goals, strategies
from study.search.distributions import recorded
from study.search.question import refuse_another
from trainables.objectives import DIRECTIONS


def open_storage(folder: StudyFolder, url: str | None) -> BaseStorage:
    """The Optuna storage at ``url``, or the journal file in ``folder``. Raises ValueError if it cannot be opened."""
    try:
        if url is None:
            return JournalStorage(JournalFileBackend(str(folder.path / "optuna.journal")))
        return optuna.storages.get_storage(url)
    except Exception as error:  # SQLAlchemy, drivers and files each raise their own
        where = str(folder.path) if url is None else url.rpartition("@")[2]  # without a password
        raise ValueError(f"Optuna storage {where} cannot be opened: {first_line(error)}") from error


def open_study(
    config: StudyConfig, folder: StudyFolder, identity: dict[str, Any], base: dict[str, Any] | None = None
) -> optuna.Study:
    """Create or continue the Optuna study of ``config``; ``base`` are the hyperparameters of the preset.

    Raises ValueError if the storage cannot be opened, or has another folder's study of this name. A sampler's random
    state is not stored. With the same seed after a restart it would propose the same trials again, so the seed depends
    on the number of trials so far.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = open_storage(folder, config.storage)
    if config.fresh and folder.name in optuna.get_all_study_names(storage):
        optuna.delete_study(study_name=folder.name, storage=storage)
    study = optuna.create_study(
        storage=storage,
        study_name=folder.name,
        directions=["maximize" if DIRECTIONS[goal] == "max" else "minimize" for goal in config.goals],
        pruner=strategies.pruner(config.pruner, config.reports),
        load_if_exists=True,
    )
    if config.storage is not None:
        # Several folders can share a storage. A study of this name may belong to another one, with its checkpoints.
        mine = json.loads(json.dumps({"identity": identity, "folder": str(folder.path.resolve())}))
        theirs = study.user_attrs.get("clevrtune", mine)
        if theirs != mine:
            raise ValueError(
                f"storage {config.storage} has a study {folder.name} already, of {theirs['folder']}; "
                "choose another --name, or start over with --fresh"
            )
        study.set_user_attr("clevrtune", mine)
    seeds = np.random.SeedSequence([config.seed, len(study.get_trials(deepcopy=False))])
    study.sampler = strategies.sampler(config.sampler, int(seeds.generate_state(1)[0]), base)
    return study


def load_study(folder: Path) -> optuna.Study:
    """The Optuna study of a results folder, in the storage that its study.json names or in its journal.

    Raises ValueError if there is none, or if the storage cannot be opened.
    """
    url = read_record(folder).get("storage")
    journal = folder / "optuna.journal"
    if url is None and not journal.exists():
        raise ValueError(f"{journal} is missing; run the study first, or restore the file")
    opened = open_storage(StudyFolder(folder), url)
    try:
        if url is None:  # a journal has one study and its final stage's, whatever the folder is called now
            names = [name for name in optuna.get_all_study_names(opened) if not name.endswith("-finalists")]
            if len(names) == 1:
                return optuna.load_study(study_name=names[0], storage=opened)
        return optuna.load_study(study_name=folder.name, storage=opened)
    except KeyError as error:
        raise ValueError(f"{url or journal} holds no study {folder.name!r}; was the folder renamed?") from error


def check_question(folder: StudyFolder, question: Mapping[str, Any]) -> None:
    """Raise ValueError if the study in ``folder`` began with another ``question``, see :meth:`Proposal.question`.

    A study recorded before ranges were has them in its trials; those that no trial used are not compared.
    """
    stored = folder.read()
    if stored is None:
        return
    if "ranges" not in stored and (stored.get("storage") or (folder.path / "optuna.journal").exists()):
        used: dict[str, Any] = {}
        for trial in load_study(folder.path).get_trials(deepcopy=False):
            used |= {key: recorded(distribution) for key, distribution in trial.distributions.items()}
        stored = {**stored, "ranges": used, "space_file": None}
        question = {**question, "ranges": {key: question["ranges"][key] for key in used if key in question["ranges"]}}
    refuse_another(folder.name, stored, question)


def best_trials(study: optuna.Study, top: int) -> list[int]:
    """Numbers of the ``top`` completed trials, best first; by the first goal, if there are two."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    sign = -1 if goals.maximizes(study) else 1
    values = {trial.number: sign * trial.values[0] for trial in complete}
    return sorted(values, key=lambda number: values[number])[:top]
