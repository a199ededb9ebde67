"""``--log wandb`` and ``--log mlflow``: the numbers of every report in a service that people have, by Tune's callbacks.

A trial is one run there. It has the same run after a lost worker, after a pause, and when the study is continued, and
a step that it trains again is not sent again. Weights & Biases keeps to this where it is online; runs that were written
offline come together when they are synchronised.
"""

import importlib.util
import logging
import numbers
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.air.integrations.wandb import WandbLoggerCallback

from study.display.event_files import SCALARS
from study.results_folder import StudyFolder
from study.scoring.trial_table import STATES

PROJECT = "clevrtune"
"""The project on Weights & Biases, unless WANDB_PROJECT names one."""

KEY = "clevrtune"
"""The tag on MLflow by which a trial finds its run."""

OFFLINE = ("offline", "disabled", "dryrun")
"""Values of WANDB_MODE that need no account."""

ENDS = {"FAIL": "FAILED", "PAUSED": "SCHEDULED", "RUNNING": "KILLED"}
"""Our state of a trial -> MLflow's of its run; others are FINISHED."""


@dataclass(frozen=True)
class Runs:
    """What the runs of a study's trials are called."""

    study: str
    """the study's name"""
    key: str
    """its id, and what its trials are: no other trial has the same key and number"""
    state_of: Callable[[int], str]
    """number of a trial -> its state, a key of STATES"""

    def key_of(self, trial: Any) -> str:
        """The key of the run of a Tune ``trial``."""
        return f"{self.key}-{trial.config['number']:04d}"

    def name_of(self, trial: Any) -> str:
        """Its name."""
        return f"{self.study} {trial}"


def check(names: Sequence[str]) -> None:
    """Raise ValueError if one of ``names``, of ``config.LOGS``, cannot be written to from here."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise ValueError(f"--log {name} needs a package that is missing here: pip install 'clevrtune[{name}]'")
    if "wandb" in names and os.environ.get("WANDB_MODE") not in OFFLINE and not os.environ.get("WANDB_API_KEY"):
        import wandb

        if not wandb.login(prompt=False):
            raise ValueError("--log wandb has no account here; type `wandb login`, or set WANDB_MODE=offline")


def callbacks(
    names: Sequence[str], study: StudyFolder, trials: StudyFolder, state_of: Callable[[int], str]
) -> list[tune.Callback]:
    """The callbacks that ``names`` ask for; ``trials`` is ``study``, or the folder of its finalists."""
    record = study.read() or {}
    name, what = (study.name, "trial") if trials == study else (f"{study.name} finalists", "rerun")
    runs = Runs(name, f"{record['study']['id']}-{what}", state_of)
    made: list[tune.Callback] = []
    if "wandb" in names:
        logging.getLogger("ray.air.integrations.wandb").setLevel(logging.ERROR)
        made.append(_Wandb(runs, dir=str(study.path.resolve()), group=study.name))
    if "mlflow" in names:
        made.append(_MLflow(runs, study))
    return made


def sent(result: dict[str, Any]) -> dict[str, float]:
    """The numbers of a report: objective, step, learning rate, and all that has a curve."""
    keys = [key for key in result if key in ("objective", "lr", "step", "report") or key.startswith(SCALARS)]
    return {key: float(result[key]) for key in keys if isinstance(result[key], numbers.Real)}


class _Wandb(WandbLoggerCallback):
    """A run of Weights & Biases per trial, its x-axis in training steps."""

    def __init__(self, runs: Runs, **init: Any):
        super().__init__(project=os.environ.get("WANDB_PROJECT", PROJECT), resume="allow", **init)
        self._runs = runs

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def _start_logging_actor(self, trial: Any, exclude_results: list[str], **init: Any) -> None:
        """Start the process that writes, with our names, and the hyperparameters alone as configuration."""
        mode = {"mode": os.environ["WANDB_MODE"]} if "WANDB_MODE" in os.environ else {}
        config = {**trial.config["hyperparameters"], "number": trial.config["number"]}
        named = {"id": self._runs.key_of(trial), "name": self._runs.name_of(trial), "config": config, **mode}
        super()._start_logging_actor(trial, exclude_results, **{**init, **named})

    def log_trial_result(self, iteration: int, trial: Any, result: dict[str, Any]) -> None:
        """Send the numbers of a report; steps that a run has already are left out by Weights & Biases."""
        if "step" in result:
            super().log_trial_result(iteration, trial, {**sent(result), "training_iteration": result["step"]})

    def log_trial_end(self, trial: Any, failed: bool = False) -> None:
        """End the run, if the trial had begun."""
        if trial in self._trial_queues:
            super().log_trial_end(trial, failed)

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """End the runs of trials that still train, then wait until all is written."""
        for trial in list(self._trial_queues):
            self._signal_logging_actor_stop(trial)
        super().on_experiment_end(trials, **info)


class _MLflow(MLflowLoggerCallback):
    """A run of MLflow per trial, in an experiment of the study's name."""

    def __init__(self, runs: Runs, study: StudyFolder):
        store = f"sqlite:///{study.path.resolve().parent / 'mlflow.db'}"
        uri = os.environ.get("MLFLOW_TRACKING_URI", store)
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        super().__init__(tracking_uri=uri, experiment_name=study.name)
        self._runs = runs
        self._last: dict[Any, float] = {}
        self._trial_runs: dict[Any, str] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def log_trial_start(self, trial: Any) -> None:
        """Find the trial's run, or make one."""
        from mlflow import MlflowClient

        if trial not in self._trial_runs:
            client, key = MlflowClient(self.tracking_uri), self._runs.key_of(trial)
            found = client.search_runs([self.mlflow_util.experiment_id], f"tags.{KEY} = '{key}'")
            if found:
                self._trial_runs[trial] = found[0].info.run_id
                self._last[trial] = found[0].data.metrics.get("step", 0.0)
                client.update_run(found[0].info.run_id, "RUNNING")
            else:
                tags = {KEY: key, "trial_name": str(trial)}
                run = self.mlflow_util.start_run(tags=tags, run_name=self._runs.name_of(trial))
                self._trial_runs[trial] = run.info.run_id
                values = trial.config["hyperparameters"]
                self.mlflow_util.log_params(run_id=run.info.run_id, params_to_log=values)

    def log_trial_result(self, iteration: int, trial: Any, result: dict[str, Any]) -> None:
        """Send the numbers of a report, unless the run has a later one."""
        if result.get("step", 0) > self._last.get(trial, 0):
            self._last[trial] = result["step"]
            run_id = self._trial_runs[trial]
            self.mlflow_util.log_metrics(step=result["step"], metrics_to_log=sent(result), run_id=run_id)

    def log_trial_end(self, trial: Any, failed: bool = False) -> None:
        """End the run as the trial has ended; one that pauses is taken up again."""
        if trial in self._trial_runs:
            self._end(trial, self._runs.state_of(trial.config["number"]))

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """Mark the runs of trials that have not ended; a later session takes them up."""
        for trial in list(self._trial_runs):
            self._end(trial, "RUNNING")

    def _end(self, trial: Any, state: str) -> None:
        from mlflow import MlflowClient

        run_id = self._trial_runs.pop(trial)
        MlflowClient(self.tracking_uri).set_tag(run_id, "state", STATES[state])
        self.mlflow_util.end_run(run_id=run_id, status=ENDS.get(state, "FINISHED"))
