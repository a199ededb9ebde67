"""StudySearcher: hands Optuna's trials to Tune, and tells Optuna how they ended.

The Optuna storage is the truth about a study; Tune only runs trials. Tune's own Optuna searcher records pruned trials
as complete and leaves diverged ones running for ever, and ``Tuner.restore`` can neither add trials nor avoid repeating
some. This searcher hands out the trials that an earlier process left RUNNING first, with their numbers, parameters and
folders, in which they find their newest checkpoints.
"""

import warnings
from typing import Any

import optuna
from optuna.trial import TrialState
from ray.tune.search import Searcher

from study.results_folder import StudyFolder
from study.search import interrupted
from study.search.proposal import Proposal

GIVE_UP_AFTER = 5
"""How many failures in a row for the same reason stop a study."""

MAX_WORKER_DEATHS = 3
"""How often a trial may lose its worker; after one more loss it is failed."""


class StudySearcher(Searcher):
    """Hands out Optuna's trials to Tune and tells Optuna how they ended."""

    def __init__(self, study: optuna.Study, folder: StudyFolder, trials: int, proposal: Proposal):
        super().__init__()
        self.study = study
        self.folder = folder
        self.trials = trials
        self.proposal = proposal
        self.live: dict[str, optuna.Trial] = {}
        """Tune's id of a trial -> Optuna's trial, for those that have not ended."""
        self.stop_reason: str | None = None
        self.busy_seconds = 0.0
        """Time in seconds that the trials of this session spent on training and validation."""
        self._failures: list[str] = []
        self._left_over = interrupted.to_continue(study, folder)
        if not study.get_trials(deepcopy=False):
            study.enqueue_trial(proposal.base_parameters())

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles searchers for Tuner.restore, which is not used: the state is in the Optuna storage.
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
        """Start no more trials and stop the study in good order; the first ``reason`` is kept."""
        self.stop_reason = self.stop_reason or reason

    def pending(self) -> bool:
        """Whether there is a trial to run: one to continue, or a new one."""
        return bool(self._left_over) or self._started() < self.trials

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]  # FINISHED is a str
        """The next trial's config: first the trials to continue, then new ones until there are enough."""
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
            "folder": str(self.folder.trial(trial.number).resolve()),  # workers start in other directories
            **({"seed": trial.user_attrs["seed"]} if "seed" in trial.user_attrs else {}),
        }

    def record(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Store an intermediate result; True if Optuna's pruner wants the trial stopped, which is told PRUNED at once.

        A process may be killed between any two writes: :mod:`study.search.interrupted` relies on their order.
        """
        trial = self.live.get(trial_id)
        if trial is None:
            return True  # pruned already, but its worker died before Tune stopped it, and Tune ran it again
        self._store_value(trial, result)
        pruned = trial.should_prune()
        self._store_progress(trial, result, pruned)
        if pruned:
            self._end(trial_id, TrialState.PRUNED)
        return pruned

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Do nothing; the scheduler has recorded the result."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell Optuna COMPLETE or FAIL; a trial that ends with the study stays RUNNING and is continued later."""
        if trial_id not in self.live:
            return  # pruned, and told so already
        trial = self.live[trial_id]
        if error:
            self._fail(trial_id, f"its worker died or could not save {MAX_WORKER_DEATHS + 1} times")
        elif result is not None and result.get("failure"):
            self._fail(trial_id, result["failure"])
        elif result is not None and result.get("done"):
            self._store_progress(trial, result, pruned=False)  # first: the pruner is not asked about a full trial
            self._store_value(trial, result)
            self._end(trial_id, TrialState.COMPLETE, value=result["objective"])

    def _store_value(self, trial: optuna.Trial, result: dict[str, Any]) -> None:
        with warnings.catch_warnings():
            # A trial that continues from a checkpoint may repeat its last report; Optuna keeps the first.
            warnings.filterwarnings("ignore", message=".*is already reported.*")
            trial.report(result["objective"], result["report"])

    def _store_progress(self, trial: optuna.Trial, result: dict[str, Any], pruned: bool) -> None:
        """Store what else a report says, and the pruner's verdict, as one attribute: each is a write."""
        seconds = result["time/train_s"] + result["time/validation_s"]
        self.busy_seconds += seconds
        before = trial.user_attrs.get("progress", {})
        hosts = dict.fromkeys([*before.get("hosts", []), result["hostname"]])
        progress = {
            "seconds": before.get("seconds", 0.0) + seconds,
            "step": result["step"],
            "validation": {name[4:]: value for name, value in result.items() if name.startswith("val/")},
            "hosts": list(hosts),
            "judged": max(result["report"], before.get("judged", 0)),  # the last report that the pruner has judged
        }
        if pruned:
            progress["pruned"] = True
        if "memory/gpu_gib" in result:
            progress["gpu_gib"] = max(result["memory/gpu_gib"], before.get("gpu_gib", 0.0))
        trial.set_user_attr("progress", progress)

    def _fail(self, trial_id: str, reason: str) -> None:
        self._failures = [*(r for r in self._failures if r == reason), reason]
        if len(self._failures) >= GIVE_UP_AFTER:
            self.stop(f"{GIVE_UP_AFTER} trials in a row failed: {reason}")
        self.live[trial_id].set_user_attr("reason", reason)
        self.study.tell(self.live.pop(trial_id), state=TrialState.FAIL)

    def _end(self, trial_id: str, state: TrialState, value: float | None = None) -> None:
        self._failures.clear()
        self.study.tell(self.live.pop(trial_id), value, state=state)

    def _started(self) -> int:
        return sum(trial.state != TrialState.WAITING for trial in self.study.get_trials(deepcopy=False))
