"""One Ray Tune run: the trials that a study still lacks, stopped early where Optuna's pruner says so."""

import hashlib
from collections.abc import Callable
from typing import Any

from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import ConcurrencyLimiter, Searcher

from study.presets import Resolved
from study.search.searcher import MAX_WORKER_DEATHS, StudySearcher
from study.search.stopping import CheckpointSweeper, StudyStopped, StudyStopper, sweep_tune_files
from trainables.crew import Shards
from trainables.trainable import StudyTrainable


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


class ElasticLimiter(ConcurrencyLimiter):
    """Lets as many trials live as ``places`` says at the moment; Tune's own limit is one number for a whole run."""

    def __init__(self, searcher: Searcher, places: Callable[[], int], most: int):
        # Tune reads this number once, for how many trials may be starting at the same time.
        super().__init__(searcher, max_concurrent=most)
        self._places = places

    def suggest(self, trial_id: str) -> dict | None:
        """The searcher's next trial, or None for not now."""
        self.max_concurrent = self._places()
        return super().suggest(trial_id)


def tune_study(
    study: Resolved,
    searcher: StudySearcher,
    shards: Shards,
    at_a_time: Callable[[], int],
    callbacks: list[tune.Callback],
) -> None:
    """Run trials until ``study`` has as many as asked for or its hours are up; ``at_a_time`` may change meanwhile.

    Raises StudyStopped when five trials in a row failed for the same reason and KeyboardInterrupt after Ctrl-C; the
    same command continues the study after either.
    """
    config, folder, task = study.config, study.folder, study.task
    stopper = StudyStopper(lambda: searcher.stop_reason is not None, config.hours)
    workers = config.workers_per_trial
    parameters = {"task": task, "shards": shards, "cpus": config.cpus, "gpus": study.gpus, "workers": workers}
    # A trial gets all of its workers' places at once or waits: trials that compete cannot hold half each.
    places = tune.PlacementGroupFactory([{"CPU": config.cpus, "GPU": study.gpus}] * workers, strategy="PACK")
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
