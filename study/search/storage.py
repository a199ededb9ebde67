"""The Optuna storage of a study: open it, create or continue the study in it, and find the best trials.

What a study is stands twice: in its study.json, and in the storage, as the study's attribute :data:`MARK`. The two name
each other by an id, so that a lost or exchanged file is noticed, and a renamed folder finds its study.
"""

import json
import re
import traceback
import uuid
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study._frozen import FrozenStudy
from optuna.trial import TrialState

from study.config import StudyConfig
from study.display.error_lines import first_line, last_line
from study.results_folder import StudyFolder, read_record, refuse_other_identity
from study.search import goals, journal, strategies
from study.search.distributions import recorded
from study.search.only_writer import OnlyWriter
from study.search.question import refuse_another
from study.search.storage_url import PASSWORD_FROM, StorageURL, redacted
from trainables.objectives import direction

MARK = "clevrtune"
"""The attribute: ``id``, ``folder`` (where the study was last run), and ``record``, what study.json must say."""

RECORDED = ("config", "base", "ranges", "space_file", "direction", "data", "profile")
"""The entries of study.json that the attribute repeats."""

FINALISTS = "-finalists"
"""How the name of a final stage's study ends."""

DRIVERS = {"psycopg": "'psycopg[binary]'", "psycopg2": "psycopg2-binary", "MySQLdb": "mysqlclient"}
"""Module of a driver -> its package, where the names differ."""

LOCKED_SECONDS = 120
"""How long SQLite waits while another program holds the file; its own 5 s are shorter than a backup takes."""


def open_storage(folder: StudyFolder, url: str | None, *, reading: bool = False) -> BaseStorage:
    """The Optuna storage at ``url``, or the journal in ``folder``; ``reading`` leaves a journal as it is.

    Raises ValueError if it cannot be opened.
    """
    if url is not None:
        return _open_database(StorageURL(url), reading)
    path = folder.path / journal.FILE
    try:
        return JournalStorage(journal.ReadOnly(path) if reading else JournalFileBackend(str(path)))
    except OSError:
        raise
    except Exception as error:  # records that Optuna cannot apply raise what they happen to raise
        journal.read(path)  # says which line
        raise ValueError(f"Optuna storage {path} cannot be opened: {first_line(error)}") from error


def _open_database(url: StorageURL, reading: bool) -> BaseStorage:
    options = {"connect_args": {"timeout": LOCKED_SECONDS}} if url.startswith("sqlite") else {}
    try:
        database = RDBStorage(url.complete(), engine_kwargs=options)
        return optuna.storages.get_storage(database) if reading else OnlyWriter(database)
    except ImportError as error:
        module = str(getattr(error.__cause__ or error, "name", None))
        raise ValueError(f"Optuna storage {url} cannot be opened: pip install {DRIVERS.get(module, module)}") from error
    except Exception as error:  # SQLAlchemy and drivers each raise their own
        remedy = ""
        if url.complete() == url and "@" in url:
            remedy = (
                f"; its password is read from {PASSWORD_FROM}, or from where its driver looks (PGPASSWORD, ~/.pgpass)"
            )
        raise ValueError(f"Optuna storage {url} cannot be opened: {url.hides(first_line(error))}{remedy}") from error


def check(config: StudyConfig, folder: StudyFolder, identity: Mapping[str, Any]) -> None:
    """Raise ValueError for what keeps the study of ``config`` from beginning or going on, as far as it can be known
    without data: a storage that cannot be opened, a package that is missing, a study that is lost or is another one.

    Changes nothing.
    """
    strategies.sampler(config.sampler, 0)
    if config.storage is None and (config.fresh or not (folder.path / journal.FILE).exists()):
        if not config.fresh:
            _refuse_lost(folder, str(folder.path / journal.FILE))
        return
    opened = open_storage(folder, config.storage, reading=True)
    if not config.fresh:
        _find(opened, config, folder, identity)


def restore_record(config: StudyConfig, folder: StudyFolder) -> str | None:
    """Write a study.json that is missing anew, as the storage has it; returns a line about it, None if all is well.

    Call it after :func:`check`, under the study's lock. Raises ValueError if the storage cannot be opened.
    """
    if folder.read() is not None or (config.storage is None and not (folder.path / journal.FILE).exists()):
        return None
    opened = open_storage(folder, config.storage, reading=True)
    for study in opened.get_all_studies():
        mark = study.user_attrs.get(MARK, {})
        if "ranges" in mark.get("record", {}) and (config.storage is None or _is_in(mark, folder)):
            about = {"name": study.study_name, "id": mark["id"]}
            folder.write(**mark["record"], storage=config.storage, study=about)
            return f"study.json was missing; it is written anew from {config.storage or journal.FILE}"
    return None


def open_study(
    config: StudyConfig, folder: StudyFolder, identity: dict[str, Any], base: dict[str, Any] | None = None
) -> optuna.Study:
    """Create or continue the Optuna study of ``config``; ``base`` are the hyperparameters of the preset.

    With ``--fresh`` it is created, beside what the storage has. Raises ValueError if the storage cannot be opened, or
    has another study in this one's place. A sampler's random state is not stored. With the same seed after a restart it
    would propose the same trials again, so the seed depends on the number of trials so far.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    opened = open_storage(folder, config.storage)
    name = None if config.fresh else _find(opened, config, folder, identity)
    study = optuna.create_study(
        storage=opened,
        study_name=name or _free_name(opened, folder.name),
        directions=_directions(config),
        pruner=strategies.pruner(config.pruner, config.reports),
        load_if_exists=True,
    )
    name_goals(study, config.goals)
    mark = study.user_attrs.get(MARK, {})
    if "id" not in mark:
        _set_mark(study, {"id": uuid.uuid4().hex, "folder": _place(folder), "record": {"config": identity}})
    elif mark["folder"] != _place(folder):
        _set_mark(study, {**mark, "folder": _place(folder)})  # the folder was moved
    seeds = np.random.SeedSequence([config.seed, len(study.get_trials(deepcopy=False))])
    study.sampler = strategies.sampler(config.sampler, int(seeds.generate_state(1)[0]), base)
    return study


def name_goals(study: optuna.Study, names: Sequence[str]) -> None:
    """Let Optuna's own tools, such as optuna-dashboard, call the values of trials by ``names``."""
    if study.metric_names != list(names):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names(list(names))


def record(study: optuna.Study, folder: StudyFolder, **entries: Any) -> None:
    """Write ``entries`` to study.json, and what makes ``study`` what it is to the storage, too."""
    mark = study.user_attrs[MARK]
    said = {**(folder.read() or {}), **entries}
    _set_mark(study, {**mark, "record": {key: said[key] for key in RECORDED if key in said}})
    folder.write(**entries, study={"name": study.study_name, "id": mark["id"]})


def load_study(folder: Path, url: str | None = None) -> optuna.Study:
    """The Optuna study of a results folder, for reading: in its journal, or in the storage at ``url``.

    Raises ValueError if there is none, if the storage cannot be opened, or if study.json names one and ``url`` is None:
    a folder from elsewhere does not choose what is opened here.
    """
    said = read_record(folder)
    path = folder / journal.FILE
    if url is None and said.get("storage") is not None:
        there = redacted(str(said["storage"]))
        raise ValueError(f"{folder.name} keeps its trials in a database; say --storage {there} to open it")
    if url is None and not path.exists():
        raise ValueError(f"{path} is missing; run the study first, or restore the file")
    opened = open_storage(StudyFolder(folder), url, reading=True)
    name = _name(opened, StudyFolder(folder), url)
    if name is None:
        where = path if url is None else redacted(url)
        raise ValueError(f"{where} does not hold the study of {folder}; restore it from a copy")
    return optuna.load_study(study_name=name, storage=opened)


def check_question(folder: StudyFolder, question: Mapping[str, Any], url: str | None = None) -> None:
    """Raise ValueError if the study in ``folder`` began with another ``question``, see :meth:`Proposal.question`.

    A study recorded before ranges were has them in its trials; those that no trial used are not compared.
    """
    stored = folder.read()
    if stored is None:
        return
    if "ranges" not in stored and (url or (folder.path / journal.FILE).exists()):
        used: dict[str, Any] = {}
        for trial in load_study(folder.path, url).get_trials(deepcopy=False):
            used |= {key: recorded(distribution) for key, distribution in trial.distributions.items()}
        stored = {**stored, "ranges": used, "space_file": None}
        question = {**question, "ranges": {key: question["ranges"][key] for key in used if key in question["ranges"]}}
    refuse_another(folder.name, stored, question)


def failure(error: Exception) -> str | None:
    """One line about ``error`` if it is the storage's, as when a disk is full or a database is locked; else None.

    Tune hands on what goes wrong in the searcher as the text of a traceback.
    """
    text = "".join(traceback.format_exception(error))
    if "StorageInternalError" in text or "sqlalchemy.exc." in text:
        what, pattern = "the database of --storage", r"\((?:\w+\.)+\w*Error\) (.+)"
    elif "optuna/storages/journal/" in text:
        what, pattern = "the journal", r"Error: \[Errno \d+\] (.+)"
    else:
        return None
    reasons = re.findall(pattern, text) or [last_line(error)]
    return f"{what} cannot be written: {redacted(reasons[-1])}; what it holds is kept, and the same command goes on"


def best_trials(study: optuna.Study, top: int) -> list[int]:
    """Numbers of the ``top`` completed trials, best first; by the first goal, if there are two."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    sign = -1 if goals.maximizes(study) else 1
    values = {trial.number: sign * trial.values[0] for trial in complete}
    return sorted(values, key=lambda number: values[number])[:top]


def name_of(folder: StudyFolder) -> str:
    """The name in the storage of the study in ``folder``, as study.json has it."""
    return ((folder.read() or {}).get("study") or {}).get("name", folder.name)


def _find(opened: BaseStorage, config: StudyConfig, folder: StudyFolder, identity: Mapping[str, Any]) -> str | None:
    """The name of the study in the storage that the command goes on with; None if it is new.

    Raises ValueError if it is lost, or is another study than ``identity`` and study.json say.
    """
    where = config.storage or str(folder.path / journal.FILE)
    said, name = folder.read(), _name(opened, folder, config.storage)
    if name is None:
        _refuse_lost(folder, where)
        return None
    (found,) = (study for study in opened.get_all_studies() if study.study_name == name)
    begun = opened.get_n_trials(found._study_id) > 0
    mark = found.user_attrs.get(MARK, {})
    if not begun and not mark and _ways(found) != _directions(config):
        return None  # somebody's who has not begun: ours gets another name
    theirs = mark.get("record", {}).get("config", mark.get("identity"))  # the latter in an earlier version
    if theirs is None and begun and said is None:
        raise ValueError(
            f"{folder.path / 'study.json'} is missing, and {where}, which an earlier version began, does not say what "
            "the study is; restore study.json, choose another --name, or start over with --fresh"
        )
    if said is None and begun and config.storage is not None:
        _refuse_renamed(opened, found, folder, where)
    if theirs is not None:
        if theirs.get("storage"):
            theirs = {**theirs, "storage": redacted(theirs["storage"])}
        if config.storage is not None:
            _refuse_anothers(mark, folder, config.storage, (said or {}).get("study"))
        refuse_other_identity(folder.name, theirs, dict(identity))
    if _ways(found) != _directions(config):
        raise ValueError(
            f"study {folder.name} goes in another direction in {where} than --metric {config.metric}; "
            "restore study.json, choose another --name, or start over with --fresh"
        )
    return name


def _ways(study: FrozenStudy) -> list[str]:
    return [direction.name.lower() for direction in study.directions]


def _name(opened: BaseStorage, folder: StudyFolder, url: str | None) -> str | None:
    """The name of the study of ``folder`` in the storage, or None if it has none.

    By the id in study.json; without one by the name, which is the folder's. A journal has one study and its final
    stage's, whatever the folder is called now.
    """
    studies = {study.study_name: study.user_attrs.get(MARK, {}) for study in opened.get_all_studies()}
    if (about := (folder.read() or {}).get("study")) is not None:
        return next((name for name, mark in studies.items() if mark.get("id") == about["id"]), None)
    if url is None:
        names = [name for name in studies if not name.endswith(FINALISTS)]
        return names[0] if len(names) == 1 else next((name for name in names if name == folder.name), None)
    mine = [name for name, mark in studies.items() if _is_in(mark, folder)]
    return mine[-1] if mine else folder.name if folder.name in studies else None


def _refuse_lost(folder: StudyFolder, where: str) -> None:
    """Raise ValueError if ``folder`` holds a study, which the storage does not."""
    trials = [*folder.trials.glob("trial_*"), *folder.finalists.trials.glob("trial_*")]
    if folder.read() is not None or trials:
        raise ValueError(
            f"{where} does not hold the study of {folder.path}, which has begun ({len(trials)} folders of trials); "
            "restore it from a copy, choose another --name, or start over with --fresh"
        )


def _refuse_renamed(opened: BaseStorage, found: FrozenStudy, folder: StudyFolder, where: str) -> None:
    """Raise ValueError if trials of ``found`` have reported, and ``folder`` has none: it is elsewhere, or lost."""
    trials = opened.get_all_trials(found._study_id, deepcopy=False)
    if any(trial.intermediate_values for trial in trials) and not any(folder.trials.glob("trial_*")):
        raise ValueError(
            f"{where} has the study of {folder.path}, {len(trials)} trials, and the folder has none of them; if it was "
            "renamed, give its new --name; else choose another --name, or start over with --fresh"
        )


def _refuse_anothers(mark: Mapping[str, Any], folder: StudyFolder, url: str, about: Mapping[str, Any] | None) -> None:
    """Raise ValueError if the study with ``mark`` belongs to another folder, which may share the storage."""
    if _is_in(mark, folder):
        return
    there = StudyFolder(Path(mark["folder"]))
    if about is None or about["id"] != mark.get("id"):
        raise ValueError(
            f"storage {url} has a study {folder.name} already, of {there.path}; choose another --name, or start over "
            "with --fresh"
        )
    if ((there.read() or {}).get("study") or {}).get("id") == mark["id"]:
        raise ValueError(
            f"{folder.path} is a copy of {there.path}, and both have one study in {url}; go on there, or give another "
            f"--name, with --from to begin with the best trials of this study"
        )


def _is_in(mark: Mapping[str, Any], folder: StudyFolder) -> bool:
    return mark.get("folder") == _place(folder)


def _place(folder: StudyFolder) -> str:
    return str(folder.path.resolve())


def _free_name(opened: BaseStorage, name: str) -> str:
    """``name``, or with a number where the storage has a study of that name."""
    taken = {study.study_name.removesuffix(FINALISTS) for study in opened.get_all_studies()}
    return next(free for i in range(1, len(taken) + 2) if (free := name if i == 1 else f"{name}-{i}") not in taken)


def _directions(config: StudyConfig) -> list[Literal["maximize", "minimize"]]:
    return ["maximize" if direction(goal) == "max" else "minimize" for goal in config.goals]


def _set_mark(study: optuna.Study, mark: Mapping[str, Any]) -> None:
    study.set_user_attr(MARK, json.loads(json.dumps(mark)))
