"""StudySearcher: hands Optuna's trials to Tune, and tells Optuna how they ended.

The Optuna storage is the truth about a study; Tune only runs trials. Tune's own Optuna searcher records early-stopped
trials as complete and leaves diverged ones running for ever, and ``Tuner.restore`` can neither add trials nor avoid
repeating some. Here the searcher asks Optuna for trials and tells it how they ended, and a trial that an earlier
process left RUNNING is handed out first, with its number, its parameters and its folder, where it finds its newest
checkpoint.
"""

import warnings
from typing import Any

import optuna
from optuna.trial import TrialState
from ray.tune.search import Searcher

from study.results_folder import StudyFolder
from study.search.proposal import Proposal

GIVE_UP_AFTER = 5
"""Failures in a row with the same reason that stop a study."""

MAX_WORKER_DEATHS = 3
"""How often the worker of one trial may die before the trial counts as failed."""


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
