"""One run of Ray Tune: the trials that a study still needs, which pause or stop where the searcher says so."""

import hashlib
from collections.abc import Callable
from typing import Any

from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import ConcurrencyLimiter, Searcher

from study.presets import Resolved
from study.search import lost_workers
from study.search.hanging import HangWatch
from study.search.searcher import StudySearcher
from study.search.stopping import CheckpointSweeper, StudyStopped, StudyStopper, sweep_tune_files
from trainables.crew import Shards
from trainables.trainable import StudyTrainable


class PruningScheduler(FIFOScheduler):
    """Stops the trials that pause or are pruned, and chooses which waiting trial gets the next free worker."""

    def __init__(self, searcher: StudySearcher):
        super().__init__()
        self._searcher = searcher

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """The next trial to run: one that has lost its worker if there is one, else the newest that waits.

        One that has lost its worker and is over for the searcher, because it pauses, was pruned or has lost too many,
        is stopped here.

        Tune gives the worker of a trial that ends to the chosen trial, and cancels the worker that Ray was starting
        for it. Tune itself would choose the oldest trial, which is also the one for which a worker on a new node is
        starting. Where trials end often, that worker would be cancelled each time, and the node would stay unused.
        """
        waiting = [trial for trial in tune_controller.get_live_trials() if trial.status == trial.PENDING]
        for trial in waiting:
            if trial.trial_id not in self._searcher.live:
                tune_controller.stop_trial(trial)
        waiting = [trial for trial in waiting if trial.trial_id in self._searcher.live]
        return max(waiting, key=lambda trial: (bool(trial.metric_analysis), trial.config["number"]), default=None)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Tell the searcher that the trial has lost its worker. Tune itself would go on for ever."""
        self._searcher.worker_died(trial.trial_id, lost_workers.death_of(trial), lost_workers.gone())

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Store the result; STOP if the trial pauses or is pruned, else CONTINUE.

        Tune's own PAUSE would keep the trial among those that count as alive, in this process only.
        """
        stops = self._searcher.record(trial.trial_id, result)
        return TrialScheduler.STOP if stops else TrialScheduler.CONTINUE


class ElasticLimiter(ConcurrencyLimiter):
    """Limits the number of live trials to what ``places`` returns now; Tune's own limit is constant during a run.

    When the study stops it says FINISHED: Tune waits for the next trial while none runs, and asks nobody else then.
    """

    def __init__(
        self, searcher: Searcher, places: Callable[[], int], most: int, stops: Callable[[], bool] = lambda: False
    ):
        # Tune reads this number once: it is also the limit of trials that wait for a worker.
        super().__init__(searcher, max_concurrent=most)
        self._places = places
        self._stops = stops

    def suggest(self, trial_id: str) -> dict | str | None:  # type: ignore[override]  # FINISHED is a str
        """The searcher's next trial, or None while there are as many as allowed."""
        if self._stops():
            return Searcher.FINISHED
        self.max_concurrent = self._places()
        return super().suggest(trial_id)


def tune_study(
    study: Resolved,
    searcher: StudySearcher,
    shards: Shards,
    at_a_time: Callable[[], int],
    callbacks: list[tune.Callback],
) -> None:
    """Run trials until ``study`` has as many as asked for or its hours are up; ``at_a_time`` limits the live ones.

    Raises StudyStopped when trials only fail and KeyboardInterrupt after a signal; the same command continues the study
    after either.
    """
    config, folder, task = study.config, study.folder, study.task
    stopper = StudyStopper(lambda: searcher.stop_reason is not None, config.hours)
    workers, keep = config.workers_per_trial, config.keep_checkpoints or 1
    asked = None if config.trial_timeout is None else 60 * config.trial_timeout
    watch = HangWatch(lambda: asked or searcher.reports.limit, searcher.hangs)
    parameters = {"task": task, "shards": shards, "cpus": config.cpus, "gpus": study.gpus, "workers": workers}
    # One placement group: a trial gets the places of all its workers at once. Two trials never hold half each.
    places = tune.PlacementGroupFactory([{"CPU": config.cpus, "GPU": study.gpus}] * workers, strategy="PACK")
    trainable = tune.with_resources(tune.with_parameters(StudyTrainable, **parameters), places)
    # All drivers on a cluster share Tune's registry, so the trainable's name must be unique to the study.
    identity = hashlib.sha256(f"{folder.path.resolve()} {task}".encode()).hexdigest()[:8]
    trainable.__name__ = f"study-{config.model}-{identity}"
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=ElasticLimiter(searcher, at_a_time, most=config.trials, stops=stopper.stop_all),
            scheduler=PruningScheduler(searcher),
            num_samples=10**9,  # the searcher ends the run
            reuse_actors=True,
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_name,
        ),
        run_config=tune.RunConfig(
            name=folder.trials.name,
            storage_path=str(folder.path.resolve()),
            stop=stopper,
            callbacks=[*callbacks, watch, CheckpointSweeper(searcher.state_of, keep)],
            failure_config=tune.FailureConfig(max_failures=-1),  # PruningScheduler counts
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1, num_to_keep=max(2, keep)),
            verbose=0,
            progress_reporter=tune.CLIReporter(),  # silent; that for notebooks would clear what the cell has printed
        ),
    )
    lost_workers.survive_memory_kills()
    with stopper.catching_signals():
        tuner.fit()
    sweep_tune_files(folder.trials)
    if searcher.stop_reason is not None:
        raise StudyStopped(searcher.stop_reason)
    if stopper.interrupted:
        raise KeyboardInterrupt


def _trial_name(trial: Any) -> str:
    return f"trial_{trial.config['number']:04d}"
