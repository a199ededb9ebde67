"""Study: what ``clevrtune run`` does, from Python and from a notebook."""

import difflib
import importlib.util
import json
import threading
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console

from data import ray_session
from study import presets, stages
from study.cluster import ray_runtime
from study.config import StudyConfig
from study.display import study_page
from study.display.plain_lines import say
from study.results_folder import read_record
from study.scoring import ranking
from study.scoring.evaluation import load_best
from study.scoring.trial_table import trial_table
from study.search import storage

if TYPE_CHECKING:
    from trainables.model import SegmentationModel

WIDTH = 100
"""Columns of the tables in a notebook."""

ONCE = ("fresh", "dry_run")
"""Flags that say something about one run, not about the study."""


@dataclass(frozen=True)
class Best:
    """The winner of a study."""

    folder: Path
    """the study's folder"""
    entry: str
    """trial_0007, or base"""
    hyperparameters: dict[str, Any]
    """all of the model's"""
    metric: str
    """the objective"""
    score: float
    """mean of the objective on validation images over the seeds, as a fraction"""
    scores: dict[int, float]
    """seed -> its score"""

    def load(self) -> "SegmentationModel":
        """The model with its weights, in evaluation mode and without gradients."""
        return load_best(self.folder)


class Study:
    """One model tuned on one data set: make it or open it, run it, look at it, let it go on.

    ``Study("space", trials=20, set={"lr": 1e-3})`` takes the flags of ``clevrtune run`` by their names, with ``_`` for
    ``-`` and ``from_`` for ``--from``; ``space`` may be a dict of ranges. The study of these flags that lies in
    ``results`` already is continued. ``console`` is where lines go, in a notebook by default plain ones.

    What a person can mend is a ValueError of one line, the same as on the command line; nothing is trained before
    :meth:`run`.
    """

    def __init__(self, model: str, *, console: Console | None = None, **flags: Any):
        self._console = console
        self._flags = _as_flags({"model": model, **flags})
        self._config = StudyConfig(**self._flags)
        self._folder: Path | None = None

    @classmethod
    def open(cls, folder: str | Path, *, console: Console | None = None, **flags: Any) -> Self:
        """The study in ``folder``, as its study.json has it, with as many trials as it has.

        study.json does not say where data and caches lie, how the machine is shared, and what a file of ranges holds:
        give ``data_root``, ``cache``, ``gpus``, ``space`` and the like again where the study goes on with them; and
        ``storage``, if it was run with one. Raises ValueError if ``folder`` holds no study.
        """
        path = Path(folder).expanduser().resolve()
        record = read_record(path, "model", "data", "metric")
        names = StudyConfig.__dataclass_fields__
        said = {key: value for key, value in record["config"].items() if key in names and value is not None}
        own = record.get("plugins")
        said |= {"storage": None, "plugins": own if own and Path(own).is_dir() else None}
        said |= {"draws": record.get("draws", 1), **ranking.read_asked(path)}
        if "trials" not in flags:
            known = storage.load_study(path, flags.get("storage")).get_trials(deepcopy=False)
            begun = [one for one in known if one.state.name != "WAITING"]  # the others were proposed, as by --from
            said["trials"] = max(1, len(begun))
        made = cls(console=console, **{**said, "results": str(path.parent), "name": path.name, **flags})
        made._folder = path
        return made

    def run(self, **changes: Any) -> Self:
        """Run the study, or let it go on, to its report; ``changes`` are flags that are different now: ``trials=40``.

        Raises ValueError for what a person can mend, :class:`study.search.stopping.StudyStopped` if trials only fail or
        there is nothing to score, and KeyboardInterrupt for an interrupted kernel or Ctrl-C. After each of them nothing
        is lost, and another call goes on. Ray is started, and left again unless it ran before.
        """
        if threading.current_thread() is not threading.main_thread():
            raise ValueError("a study runs in the main thread, where Ctrl-C arrives; call run() there")
        flags = {**self._flags, **_as_flags(changes)}
        config = StudyConfig(**flags)
        import ray

        ran = ray.is_initialized()
        if ran and config.plugins is not None:
            _refuse_blind_workers(config.plugins)
        console = self._console or _console()
        before = self._flags, self._config
        self._flags = {key: value for key, value in flags.items() if key not in ONCE}
        self._config = StudyConfig(**self._flags)
        try:
            self._folder = stages.run(config, console).resolve()
        except ValueError:
            self._flags, self._config = before
            raise
        except KeyboardInterrupt:
            say(console, "interrupted: nothing is lost; run() goes on from here")
            raise
        finally:
            if not ran:
                ray_runtime.leave()  # its object store, with this study's data in it, is given back
        return self

    @property
    def folder(self) -> Path:
        """The results folder, which may not be there yet."""
        if self._folder is None:
            has_gpu = ray_runtime.has_gpu(self._config.address)
            self._folder = presets.resolve(self._config, has_gpu=has_gpu).folder.path.resolve()
        return self._folder

    def trials(self) -> Any:
        """A row per trial, the best complete one first: a DataFrame, without pandas a pyarrow.Table.

        Columns as in trials.parquet: number, state, value, ..., and ``params_NAME`` for each searched hyperparameter.
        Raises ValueError before the first run.
        """
        table = trial_table(storage.load_study(self.folder, self._config.storage))
        return table if importlib.util.find_spec("pandas") is None else table.to_pandas()

    def best(self) -> Best:
        """The winner. Raises ValueError before the study's final stage has ended."""
        path = self.folder / "best.json"
        if not path.exists():
            raise ValueError(f"{self.folder} has no winner yet; run the study to its end: run()")
        said = json.loads(path.read_text(encoding="utf-8"))
        scores = {int(seed): score for seed, score in said.get("values", {}).items() if score is not None}
        return Best(self.folder, said["entry"], said["hyperparameters"], said["metric"], said["value"], scores)

    def report(self) -> Path:
        """Write the report anew; its path. Raises ValueError before the first run."""
        return study_page.write(self.folder, None, self._config.storage)

    def __repr__(self) -> str:
        path, here = self._folder, Path.cwd()
        shown = path.relative_to(here) if path is not None and path.is_relative_to(here) else path
        where = "" if shown is None else f", {shown}"
        return f"<Study of {self._config.model} on {self._config.data}, {self._config.trials} trials{where}>"


def _console() -> Console:
    """Where lines go: a notebook gets plain ones, not a table that updates in place."""
    usual = Console()
    return Console(force_jupyter=False, force_terminal=False, width=WIDTH) if usual.is_jupyter else usual


def _as_flags(given: Mapping[str, Any]) -> dict[str, Any]:
    """``given`` as a StudyConfig takes it. Raises ValueError for a name or a type that none has."""
    hints = typing.get_type_hints(StudyConfig)
    flags = {}
    for name, value in given.items():
        if name not in hints:
            close = difflib.get_close_matches(name, hints, 2)
            remedy = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(hints)}"
            raise ValueError(f"a study has no {name!r}; {remedy}")
        if name == "space" and isinstance(value, Mapping):
            value = [f"{key}={_range(ends)}" for key, ends in value.items()]
        elif name in ("space", "from_", "log"):
            value = [str(one) for one in ([value] if isinstance(value, str | Path) else value)]
        elif isinstance(value, Path):
            value = str(value)
        if not _fits(value, hints[name]):
            wanted = str(hints[name]) if not isinstance(hints[name], type) else hints[name].__name__
            raise ValueError(f"{name} is {value!r}; it must be {wanted.replace('typing.', '')}")
        flags[name] = value
    return flags


def _range(ends: Any) -> str:
    """A range as ``--space`` has it: '1e-4..1e-2', or choices in a list."""
    return ends if isinstance(ends, str) else ",".join(map(str, ends if isinstance(ends, Sequence) else [ends]))


def _fits(value: Any, hint: Any) -> bool:
    if isinstance(hint, types.UnionType):
        return any(_fits(value, one) for one in typing.get_args(hint))
    origin = typing.get_origin(hint) or hint
    if origin is typing.Literal:
        return value in typing.get_args(hint)
    if origin in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, (int, float) if origin is float else origin)


def _refuse_blind_workers(plugins: str) -> None:
    """Raise ValueError if the Ray that runs was started without ``plugins`` on its workers' path."""
    if plugins not in ray_session.workers_path():
        raise ValueError(f"Ray runs already, and its workers do not know {plugins}; call ray.shutdown() first")
