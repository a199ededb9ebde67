"""Where Ray Tune meets Optuna: searcher, pruning scheduler, storage, resume.

The Optuna storage is the truth about a study; Tune only runs trials. Tune's own Optuna searcher records early-stopped
trials as complete and leaves diverged ones running for ever, and ``Tuner.restore`` can neither add trials nor avoid
repeating some. Here the searcher asks Optuna for trials and tells it how they ended, the scheduler asks Optuna's
pruner, and a trial that an earlier process left RUNNING is handed out first, with its number, its parameters and its
folder, where it finds its newest checkpoint.
"""

import hashlib
import json
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FixedTrial, TrialState
from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from study.config import StudyConfig
from study.endings import CheckpointSweeper, StudyStopped, StudyStopper, sweep_tune_files
from study.places import ElasticLimiter
from study.results_folder import StudyFolder
from trainables.base import Shards, StudyTrainable
from trainables.metrics import OBJECTIVES
from trainables.training import Task

Space = Callable[[Any, dict[str, Any]], dict[str, Any]]
"""A search space: ``space(trial, base) -> hyperparameters``."""

GIVE_UP_AFTER = 5
"""Failures in a row with the same reason that stop a study."""

MAX_WORKER_DEATHS = 3
"""How often the worker of one trial may die before the trial counts as failed."""


def storage(folder: StudyFolder, url: str | None) -> BaseStorage:
    """The Optuna storage at ``url``, or the journal file in ``folder``. Raises ValueError if it cannot be opened."""
    try:
        if url is None:
            return JournalStorage(JournalFileBackend(str(folder.path / "optuna.journal")))
        return optuna.storages.get_storage(url)
    except Exception as error:  # SQLAlchemy, drivers and files each raise their own
        where = str(folder.path) if url is None else url.rpartition("@")[2]  # without a password
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"Optuna storage {where} cannot be opened: {reason}") from error


def sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    """The Optuna sampler ``name`` of the command line. Raises ValueError if its package is missing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match name:
            case "tpe":
                return optuna.samplers.TPESampler(seed=seed)
            case "random":
                return optuna.samplers.RandomSampler(seed=seed)
            case "cmaes":
                try:
                    import cmaes  # noqa: F401
                except ImportError as error:
                    raise ValueError("--sampler cmaes needs a package: pip install 'clevrtune[cmaes]'") from error
                return optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
            case "gp":
                return optuna.samplers.GPSampler(seed=seed)
    raise AssertionError(name)


def pruner(name: str, reports: int) -> optuna.pruners.BasePruner:
    """The Optuna pruner ``name`` of the command line; nothing is stopped before 20 % of ``reports``."""
    first = math.ceil(0.2 * reports)
    match name:
        case "asha":
            return optuna.pruners.SuccessiveHalvingPruner(min_resource=first, reduction_factor=3, bootstrap_count=0)
        case "hyperband":
            return optuna.pruners.HyperbandPruner(min_resource=first, max_resource=reports, reduction_factor=3)
        case "median":
            return optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=first)
        case "none":
            return optuna.pruners.NopPruner()
    raise AssertionError(name)


def open_study(config: StudyConfig, folder: StudyFolder, identity: dict[str, Any]) -> optuna.Study:
    """Create or continue the Optuna study of ``config``. Raises ValueError if the storage has another one there.

    A sampler's random stream is not in the storage. Seeded alike after a restart it would propose the first trials
    again, so the number of trials so far goes into its seed.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    opened = storage(folder, config.storage)
    if config.fresh and folder.name in optuna.get_all_study_names(opened):
        optuna.delete_study(study_name=folder.name, storage=opened)
    study = optuna.create_study(
        storage=opened,
        study_name=folder.name,
        direction="maximize" if OBJECTIVES[config.metric] == "max" else "minimize",
        pruner=pruner(config.pruner, config.reports),
        load_if_exists=True,
    )
    if config.storage is not None:
        # A storage shared by many folders may have this name already, with checkpoints that are not here.
        mine = json.loads(json.dumps({"identity": identity, "folder": str(folder.path.resolve())}))
        theirs = study.user_attrs.get("clevrtune", mine)
        if theirs != mine:
            raise ValueError(
                f"storage {config.storage} has a study {folder.name} already, of {theirs['folder']}; "
                "choose another --name, or start over with --fresh"
            )
        study.set_user_attr("clevrtune", mine)
    seeds = np.random.SeedSequence([config.seed, len(study.get_trials(deepcopy=False))])
    study.sampler = sampler(config.sampler, int(seeds.generate_state(1)[0]))
    return study


def best_trials(study: optuna.Study, top: int) -> list[int]:
    """Numbers of the ``top`` completed trials, best first."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    sign = -1 if study.direction == optuna.study.StudyDirection.MAXIMIZE else 1
    values = {trial.number: sign * trial.value for trial in complete if trial.value is not None}
    return sorted(values, key=lambda number: values[number])[:top]


@dataclass(frozen=True)
class Proposal:
    """How a trial's hyperparameters come about: ``base``, what ``space`` suggests around it, and ``fixed``."""

    space: Space
    """The model's search space."""
    base: dict[str, Any]
    """The preset's hyperparameters and what spaces may look at besides: image_size, steps, max_objects."""
    fixed: dict[str, Any]
    """Hyperparameters set by hand; they are not searched."""
    known: Sequence[str]
    """The keys of the model's Config: what a trial gets."""

    def hyperparameters(self, trial: Any) -> dict[str, Any]:
        """All hyperparameters of ``trial``, an Optuna trial of any kind."""
        values = {**self.base, **self.space(FixedKeys(trial, self.fixed), self.base), **self.fixed}
        return {key: values[key] for key in self.known}

    def base_parameters(self) -> dict[str, Any]:
        """What the space would suggest to arrive at ``base`` itself: the parameters of the first trial."""
        recorder = FixedTrial(self.base)
        self.hyperparameters(recorder)
        return dict(recorder.params)

    def searched(self) -> dict[str, optuna.distributions.BaseDistribution]:
        """The searched keys and their ranges, as they are around ``base``."""
        recorder = FixedTrial(self.base)
        self.hyperparameters(recorder)
        return dict(recorder.distributions)


class FixedKeys:
    """A trial whose suggestions for the keys in ``fixed`` are settled: they never reach Optuna."""

    def __init__(self, trial: Any, fixed: dict[str, Any]):
        self._trial = trial
        self._fixed = fixed

    def __getattr__(self, attribute: str) -> Any:
        original = getattr(self._trial, attribute)
        if not attribute.startswith("suggest_"):
            return original

        def suggest(name: str, *args: Any, **keywords: Any) -> Any:
            return self._fixed[name] if name in self._fixed else original(name, *args, **keywords)

        return suggest


class StudySearcher(Searcher):
    """Hands out Optuna's trials to Tune and tells Optuna how they ended."""

    def __init__(self, study: optuna.Study, folder: StudyFolder, trials: int, proposal: Proposal):
        super().__init__()
        self.study = study
        self.folder = folder
        self.trials = trials
        self.proposal = proposal
        self.live: dict[str, optuna.Trial] = {}
        """Tune's id of a running trial -> Optuna's trial."""
        self.stop_reason: str | None = None
        self.busy_seconds = 0.0
        """Time that this session's trials spent in training steps and validation."""
        self._failures: list[str] = []
        existing = study.get_trials(deepcopy=False)
        self._left_over = [trial for trial in existing if trial.state == TrialState.RUNNING]
        if not existing:
            study.enqueue_trial(proposal.base_parameters())

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles searchers with its own snapshots, which nobody reads here: the storage is the truth.
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Write an empty file where Tune expects one."""
        open(checkpoint_path, "wb").close()

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing; the state is in the Optuna storage."""

    def state_of(self, number: int) -> str:
        """Optuna's state of the trial ``number``: COMPLETE, PRUNED, FAIL, RUNNING or WAITING."""
        return self.study.get_trials(deepcopy=False)[number].state.name

    def stop(self, reason: str) -> None:
        """End the study in good order; the first reason counts."""
        self.stop_reason = self.stop_reason or reason

    def pending(self) -> bool:
        """Whether there is anything to run: trials to continue, or fewer trials than asked for."""
        return bool(self._left_over) or self._started() < self.trials

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]  # FINISHED is a str
        """The next trial's config: first those that an earlier process left, then new ones until there are enough."""
        if self.stop_reason is not None:
            return Searcher.FINISHED
        if self._left_over:
            trial = optuna.Trial(self.study, self._left_over.pop(0)._trial_id)
        elif self._started() < self.trials:
            trial = self.study.ask()
        else:
            return Searcher.FINISHED
        self.live[trial_id] = trial
        return {
            "hyperparameters": self.proposal.hyperparameters(trial),
            "number": trial.number,
            "folder": str(self.folder.trial(trial.number).resolve()),  # other nodes' workers start elsewhere
        }

    def record(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Report an intermediate value; True if Optuna's pruner wants the trial stopped, which is told at once."""
        trial = self.live.get(trial_id)
        if trial is None:
            return True  # pruned already; its worker was lost before Tune had stopped it
        self._report(trial, result)
        if not trial.should_prune():
            return False
        self._end(trial_id, TrialState.PRUNED)
        return True

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Do nothing; the scheduler has recorded the result."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell Optuna COMPLETE or FAIL; a trial stopped from outside stays RUNNING and is continued later."""
        if trial_id not in self.live:
            return  # pruned, and told so already
        if error:
            self._end(
                trial_id, TrialState.FAIL, reason=f"its worker died or could not save {MAX_WORKER_DEATHS + 1} times"
            )
        elif result is not None and result.get("failure"):
            self._end(trial_id, TrialState.FAIL, reason=result["failure"])
        elif result is not None and result.get("done"):
            self._report(self.live[trial_id], result)
            self._end(trial_id, TrialState.COMPLETE, value=result["objective"])

    def _report(self, trial: optuna.Trial, result: dict[str, Any]) -> None:
        seconds = result["time/train_s"] + result["time/validation_s"]
        self.busy_seconds += seconds
        with warnings.catch_warnings():
            # A trial that continues from a checkpoint may repeat its last report; Optuna keeps the first.
            warnings.filterwarnings("ignore", message=".*is already reported.*")
            trial.report(result["objective"], result["report"])
        # One attribute, since each is a write to the storage.
        before = trial.user_attrs.get("progress", {})
        validation = {name[4:]: value for name, value in result.items() if name.startswith("val/")}
        progress = {"seconds": before.get("seconds", 0.0) + seconds, "step": result["step"], "validation": validation}
        hosts = dict.fromkeys([*before.get("hosts", []), result["hostname"]])
        peak = result.get("memory/gpu_gib")
        memory = {} if peak is None else {"gpu_gib": max(peak, before.get("gpu_gib", 0.0))}
        trial.set_user_attr("progress", progress | memory | {"hosts": list(hosts)})

    def _end(self, trial_id: str, state: TrialState, value: float | None = None, reason: str | None = None) -> None:
        trial = self.live.pop(trial_id)
        if reason is None:
            self._failures.clear()
        else:
            trial.set_user_attr("reason", reason)
            self._failures = [*(r for r in self._failures if r == reason), reason]
            if len(self._failures) >= GIVE_UP_AFTER:
                self.stop(f"{GIVE_UP_AFTER} trials in a row failed: {reason}")
        self.study.tell(trial, value, state=state)

    def _started(self) -> int:
        return sum(trial.state != TrialState.WAITING for trial in self.study.get_trials(deepcopy=False))


class PruningScheduler(FIFOScheduler):
    """Says which trial gets a worker that another one leaves, and stops those that Optuna's pruner gives up."""

    def __init__(self, searcher: StudySearcher):
        super().__init__()
        self._searcher = searcher

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """A trial that has run already and lost its worker, else the youngest of those that wait.

        Whoever is chosen gets the next worker that falls free and gives up the one that Ray is starting for it. Were
        it the oldest, as in Tune, a worker on a node that has just joined would be given up whenever any trial ends
        before it is up, and where trials end often the node would never get any.
        """
        waiting = [trial for trial in tune_controller.get_live_trials() if trial.status == trial.PENDING]
        return max(waiting, key=lambda trial: (bool(trial.metric_analysis), trial.config["number"]), default=None)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """STOP or CONTINUE, after the result is in the storage."""
        pruned = self._searcher.record(trial.trial_id, result)
        return TrialScheduler.STOP if pruned else TrialScheduler.CONTINUE


def tune_study(
    config: StudyConfig,
    folder: StudyFolder,
    searcher: StudySearcher,
    task: Task,
    shards: Shards,
    *,
    gpus: float,
    at_a_time: Callable[[], int],
    callbacks: list[tune.Callback],
) -> None:
    """Run trials until the study has ``config.trials`` or its hours are up; ``at_a_time`` may change meanwhile.

    Raises StudyStopped when five trials in a row failed for the same reason and KeyboardInterrupt after Ctrl-C; the
    same command continues the study after either.
    """
    stopper = StudyStopper(lambda: searcher.stop_reason is not None, config.hours)
    workers = config.workers_per_trial
    parameters = {"task": task, "shards": shards, "cpus": config.cpus, "gpus": gpus, "workers": workers}
    # A trial gets all of its workers' places at once or waits: trials that compete cannot hold half each.
    places = tune.PlacementGroupFactory([{"CPU": config.cpus, "GPU": gpus}] * workers, strategy="PACK")
    trainable = tune.with_resources(tune.with_parameters(StudyTrainable, **parameters), places)
    # Tune's registry is shared by all that runs on a cluster: each study needs a name of its own in it.
    identity = hashlib.sha256(f"{folder.path.resolve()} {task}".encode()).hexdigest()[:8]
    trainable.__name__ = f"study-{config.model}-{identity}"
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=ElasticLimiter(searcher, at_a_time, most=config.trials),
            scheduler=PruningScheduler(searcher),
            num_samples=10**9,  # the searcher says when there are enough
            reuse_actors=True,
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_name,
        ),
        run_config=tune.RunConfig(
            name=folder.trials.name,
            storage_path=str(folder.path.resolve()),
            stop=stopper,
            callbacks=[*callbacks, CheckpointSweeper(searcher.state_of)],
            failure_config=tune.FailureConfig(max_failures=MAX_WORKER_DEATHS),
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1, num_to_keep=2),
            verbose=0,
        ),
    )
    with stopper.catching_signals():
        tuner.fit()
    sweep_tune_files(folder.trials)
    if searcher.stop_reason is not None:
        raise StudyStopped(searcher.stop_reason)
    if stopper.interrupted:
        raise KeyboardInterrupt


def _trial_name(trial: Any) -> str:
    return f"trial_{trial.config['number']:04d}"
