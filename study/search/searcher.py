"""StudySearcher: hands Optuna's trials to Tune, and tells Optuna how they ended.

The Optuna storage is the truth about a study; Tune only runs trials. Tune's own Optuna searcher records pruned trials
as complete and leaves diverged ones running for ever, and ``Tuner.restore`` can neither add trials nor avoid repeating
some. This searcher hands out the trials that an earlier process left RUNNING first, with their numbers, parameters and
folders, in which they find their newest checkpoints.
"""

import math
import warnings
from collections import Counter
from collections.abc import Container
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from ray.tune.search import Searcher

from study.display.error_lines import first_line
from study.results_folder import StudyFolder
from study.search import interrupted, trial_progress
from study.search.evidence import WORKER_LOST, Informed
from study.search.hanging import Reports
from study.search.lost_workers import Death
from study.search.patience import Patience
from study.search.proposal import Proposal
from study.search.retries import Retries
from study.search.rungs import Promotion, pauses
from study.search.stopping import sweep_checkpoints

GIVE_UP_AFTER = 5
"""So many trials must have failed before a study is stopped, all that have ended, and as many as still run."""

MAX_WORKER_DEATHS = 3
"""How often a trial's worker may die on a node that lives; after one more death the trial is failed."""

MAX_HANGS = 1
"""How often a trial that hangs goes on from its newest checkpoint; the next time it is failed."""


class StudySearcher(Searcher):
    """Hands out Optuna's trials to Tune and tells Optuna how they ended.

    With a ``promotion`` trials pause at its rungs, and nothing else stops them early. A trial that pauses is over for
    Tune and RUNNING in Optuna; when it is promoted, Tune gets it as another trial with the same number and folder.
    When there is neither a trial to promote nor a new one, and none runs, the study ends: the best paused trials go on
    until ``wanted`` are complete, and the others are told PRUNED.

    A trial that rests after it lost its worker is over for Tune as well, and is handed out again. Until then nothing
    else begins: what is short of memory should not get more to do.
    """

    def __init__(
        self,
        study: optuna.Study,
        folder: StudyFolder,
        trials: int,
        proposal: Proposal,
        promotion: Promotion | None = None,
        wanted: int = 1,
        second: str | None = None,
        patience: Patience | None = None,
    ):
        """Continue ``study`` up to ``trials`` trials, or until ``patience`` is over.

        ``promotion`` is new, or None where ``study.pruner`` decides. ``second`` names the second goal of a study that
        has two; nothing stops the trials of such a study early.
        """
        super().__init__()
        assert len(study.directions) == (1 if second is None else 2) and not (second and promotion)
        self.study = study
        self.folder = folder
        self.trials = trials
        self.proposal = proposal
        self.promotion = promotion
        self.wanted = wanted
        self.second = second
        self.patience = patience
        self.live: dict[str, optuna.Trial] = {}
        """Tune's id of a trial -> Optuna's trial, for those that train or wait for a place."""
        self.stop_reason: str | None = None
        self.retries = Retries()
        """The trials that rest."""
        self.reports = Reports()
        """How long the study's reports take."""
        self.busy_seconds = 0.0
        """Time in seconds that the trials of this session spent on training and validation."""
        self._pausing: dict[str, tuple[int, int, float]] = {}  # Tune's id -> number, rung and value: it saves itself
        self._hangs: dict[str, float] = {}  # Tune's id -> seconds without a report, of those whose workers are ended
        rungs = promotion.rungs if promotion is not None else None
        self._left_over: list[Any] = [*interrupted.to_continue(study, folder, rungs)]
        known = study.get_trials(deepcopy=False)
        self._states = {trial.number: trial.state.name for trial in known if trial.state != TrialState.WAITING}
        self._ids = {trial.number: trial._trial_id for trial in known if trial.state == TrialState.RUNNING}
        self._refused = 0  # trials in a row without hyperparameters
        self._reported = any(trial.intermediate_values for trial in known)
        self._failures: list[str] = []
        for progress in (trial.user_attrs.get("progress", {}) for trial in known):
            if times := progress.get("judged", 0):
                self.reports.took(progress["seconds"] / times, times)
        if promotion is not None:
            if study.user_attrs.get("rungs") != promotion.rungs:
                study.set_user_attr("rungs", promotion.rungs)  # for study/scoring/trial_table.py
            self._recall(promotion, known)
        if not isinstance(study.sampler, Informed):
            study.sampler = Informed(study.sampler, rungs or ())
        if not known:
            # The base never pauses: with it dropped at a rung, a study could end below where it began.
            always = {"promoted": max(rungs)} if rungs else None
            study.enqueue_trial(proposal.base_parameters(), user_attrs=always)
        elif not self.pending():
            self._end_paused()  # of a study that was killed while it did so

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles searchers for Tuner.restore, which is not used: the state is in the Optuna storage.
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Write an empty file where Tune expects one."""
        open(checkpoint_path, "wb").close()

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing; the state is in the Optuna storage."""

    def state_of(self, number: int) -> str:
        """Optuna's state of the trial ``number``, COMPLETE, PRUNED, FAIL or RUNNING, or PAUSED."""
        state = self._states[number]
        return "PAUSED" if state == "RUNNING" and number in self._paused() else state

    def counts(self) -> Counter[str]:
        """How many trials of the study have each of the states of :meth:`state_of`."""
        counts = Counter(self._states.values())
        counts["PAUSED"] = len(self._paused())
        counts["RUNNING"] -= counts["PAUSED"]
        return counts

    def stop(self, reason: str) -> None:
        """Start no more trials and stop the study in good order; the first ``reason`` is kept."""
        self.stop_reason = self.stop_reason or reason

    def pending(self) -> bool:
        """Whether there is a trial to run: one to continue, one to promote, or a new one."""
        return bool(self._left_over) or self._promoted() is not None or self._wants_more()

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]  # FINISHED is a str
        """The next trial's config: one to continue, else one to promote, else a new one while there are too few.

        None while one rests, and while none of them is there and others run, which may be promoted. Tune asks again
        after each event, but never again after FINISHED.
        """
        while isinstance(trial := self._next(), optuna.Trial):
            self.live[trial_id] = trial
            try:
                hyperparameters = self.proposal.hyperparameters(trial)
            except ValueError as error:  # a space of the user's own, or what typed_config refuses
                self._refuse(trial_id, first_line(error))
                continue
            self._refused = 0
            return {
                "hyperparameters": hyperparameters,
                "number": trial.number,
                "folder": str(self.folder.trial(trial.number).resolve()),  # workers start in other directories
                **({"seed": trial.user_attrs["seed"]} if "seed" in trial.user_attrs else {}),
            }
        return trial

    def _next(self) -> optuna.Trial | str | None:
        if self.stop_reason is not None:
            return Searcher.FINISHED
        if self._left_over:
            trial = self._stored(self._left_over.pop(0).number)
        elif self.retries:
            if (number := self.retries.next()) is None:
                return None
            trial = self._stored(number)
        elif (promoted := self._promoted()) is not None:
            trial = self._promote(promoted)
        elif self._wants_more():
            trial = self.study.ask()
            self._states[trial.number] = "RUNNING"
            self._ids[trial.number] = trial._trial_id
        elif self._running():
            return None  # one of them may be promoted, end a patience that seems over, or rest and come back
        else:
            self._end_paused()
            return Searcher.FINISHED
        return trial

    def _refuse(self, trial_id: str, reason: str) -> None:
        """Fail a trial that has no hyperparameters; stop the study where the next ones have none either."""
        self._refused += 1
        self._fail(trial_id, reason)
        if self._refused >= GIVE_UP_AFTER:
            self.stop(f"{self._refused} proposals in a row could not be made: {reason}")

    def record(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Store an intermediate result; True if the trial is to stop: it pauses, or Optuna's pruner wants it pruned.

        A pruned trial is told so at once. One that pauses can be promoted after :meth:`on_trial_complete`, when Tune
        has saved its checkpoint. A process may be killed between any two writes: :mod:`study.search.interrupted`
        relies on their order.
        """
        trial = self.live.get(trial_id)
        if trial is None:
            return True  # stopped already
        self.retries.reported(trial.number)
        self._store_value(trial, result)
        if self.promotion is not None:
            self._store_progress(trial, result, pruned=False)
            report, promoted = result["report"], trial.user_attrs.get("promoted", 0)
            if pause := pauses(report, promoted, self.promotion.rungs):
                self._pausing[trial_id] = trial.number, report, result["objective"]
                del self.live[trial_id]
            elif report in self.promotion.rungs:
                self.promotion.passed(trial.number, report, result["objective"])
            return pause
        pruned = self.second is None and trial.should_prune()
        self._store_progress(trial, result, pruned)
        if pruned:
            self._end(trial_id, TrialState.PRUNED)
        return pruned

    def worker_died(self, trial_id: str, death: Death, gone: Container[str]) -> None:
        """Let the trial go on from its newest checkpoint, or tell FAIL if too many workers died on nodes that live.

        The nodes in ``gone`` live no more. A death of which Ray is not certain is counted at the next one. One for want
        of memory is not counted: after some of them the trial waits for the next session, as if interrupted.
        """
        silent = self._hangs.pop(trial_id, None)
        trial = self.live.get(trial_id)
        if trial is None:
            return  # it pauses, or was pruned
        if silent is not None:
            self._hung(trial_id, silent)
            return
        if death.memory:
            del self.live[trial_id]
            if not self.retries.after_kill(trial.number, death.words):
                trial.set_user_attr("waits", death.words)
                self._ended_early("the node ran out of memory")
            return
        before = trial.user_attrs.get("deaths", [])
        deaths = [node for node in [*before, death.node] if node not in gone]
        if deaths != before:
            trial.set_user_attr("deaths", deaths)
        if len(deaths) > MAX_WORKER_DEATHS and death.certain:
            self._fail(trial_id, f"{WORKER_LOST[0]} or could not save {len(deaths)} times; last: {death.words}")
        elif self.retries.after_death(trial.number, len(deaths), death.words):
            del self.live[trial_id]

    def hangs(self, trial_id: str, seconds: float) -> None:
        """The trial's worker is about to be ended, after ``seconds`` without a report."""
        self._hangs[trial_id] = seconds

    def _hung(self, trial_id: str, seconds: float) -> None:
        trial = self.live[trial_id]
        times = trial.user_attrs.get("hangs", 0) + 1
        trial.set_user_attr("hangs", times)
        minutes = seconds / 60
        silent = f"no report for {minutes:,.{0 if minutes >= 10 else 1}f} minutes (--trial-timeout)"
        if times > MAX_HANGS:
            self._fail(trial_id, f"{WORKER_LOST[1]} {times} times: {silent}")
        else:
            self.retries.notes.append(f"{trial.number}: {silent}; it goes on with a new worker")

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Do nothing; the scheduler has recorded the result."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell Optuna COMPLETE or FAIL; a trial that ends with the study stays RUNNING and is continued later."""
        if trial_id in self._pausing:
            assert self.promotion is not None
            self.promotion.reached(*self._pausing.pop(trial_id))
        if trial_id not in self.live:
            return  # paused, or pruned and told so already
        if error:  # Tune gave it up between two workers, and would never ask for it again
            self._left_over.append(self.live.pop(trial_id))
            return
        trial = self.live[trial_id]
        if result is not None and result.get("failure"):
            self._fail(trial_id, result["failure"])
        elif result is not None and result.get("done"):
            self._store_progress(trial, result, pruned=False)  # first: the pruner is not asked about a full trial
            self._store_value(trial, result)
            values = [result["objective"]]
            if self.second is not None:
                values.append(trial.user_attrs["progress"]["second_goal"])
                if not math.isfinite(values[1]):
                    self._fail(trial_id, f"validation {self.second} is {values[1]}")
                    return
            self._end(trial_id, TrialState.COMPLETE, values)
            if self.patience is not None:
                self.patience.complete(result["objective"])

    def _store_value(self, trial: optuna.Trial, result: dict[str, Any]) -> None:
        self._reported = True
        if self.patience is not None:
            self.patience.reported(trial.number, result["report"])
        if self.second is not None:
            # Trial.report refuses studies of several goals, though their storage has room for the curve of the first.
            if result["report"] not in trial.storage.get_trial(trial._trial_id).intermediate_values:
                trial.storage.set_trial_intermediate_value(trial._trial_id, result["report"], result["objective"])
            return
        with warnings.catch_warnings():
            # A trial that continues from a checkpoint may repeat its last report; Optuna keeps the first.
            warnings.filterwarnings("ignore", message=".*is already reported.*")
            trial.report(result["objective"], result["report"])

    def _store_progress(self, trial: optuna.Trial, result: dict[str, Any], pruned: bool) -> None:
        """Store what else a report says, and the pruner's verdict, as one attribute: each is a write."""
        seconds = result["time/train_s"] + result["time/validation_s"]
        self.busy_seconds += seconds
        self.reports.took(seconds)
        before = trial.user_attrs.get("progress", {})
        trial.set_user_attr("progress", trial_progress.after(before, result, self.second, pruned=pruned))

    def _fail(self, trial_id: str, reason: str) -> None:
        self.live[trial_id].set_user_attr("reason", reason)
        self._end(trial_id, TrialState.FAIL)
        self._ended_early(reason)

    def _ended_early(self, reason: str) -> None:
        """Stop the study if trials only fail."""
        self._failures.append(reason)
        if not self._reported and len(self._failures) >= max(GIVE_UP_AFTER, self._running()):
            often, _ = Counter(self._failures).most_common(1)[0]
            self.stop(f"all {len(self._failures)} trials that have ended failed before their first report: {often}")

    def _end(self, trial_id: str, state: TrialState, values: list[float] | None = None) -> None:
        trial = self.live.pop(trial_id)
        number = trial.number
        if "progress" in trial.user_attrs:
            trial.set_user_attr("summary", trial_progress.text(trial.user_attrs["progress"]))
        self.study.tell(number, values, state=state)
        self._states[number] = state.name

    def left(self) -> int:
        """How many trials of the study have not begun yet."""
        return max(0, self.trials - len(self._states))

    def _wants_more(self) -> bool:
        """Whether new trials are to begin."""
        return self.left() > 0 and not (self.patience is not None and self.patience.over())

    def _running(self) -> int:
        return len(self.live) + len(self._pausing) + len(self.retries)

    def _stored(self, number: int) -> optuna.Trial:
        return optuna.Trial(self.study, self._ids[number])

    def _paused(self) -> dict[int, int]:
        """Number -> rung of the trials that pause."""
        return self.promotion.paused() if self.promotion is not None else {}

    def _recall(self, promotion: Promotion, known: list[FrozenTrial]) -> None:
        """Tell ``promotion`` what the trials of earlier processes have reached."""
        for trial in known:
            for rung in promotion.rungs:
                if rung in trial.intermediate_values:
                    promotion.reached(trial.number, rung, trial.intermediate_values[rung])
                    if rung != trial.last_step or not interrupted.paused(trial, promotion.rungs):
                        promotion.mark_promoted(trial.number, rung)

    def _promoted(self) -> int | None:
        """The number of the paused trial that goes on now, if any."""
        if self.promotion is None:
            return None
        number = self.promotion.next()
        if number is None and not self._wants_more():
            on_the_way = sum(state == "COMPLETE" for state in self._states.values()) + self._running()
            number = self.promotion.last() if on_the_way < self.wanted else None
        return number

    def _promote(self, number: int) -> optuna.Trial:
        assert self.promotion is not None
        rung = self.promotion.paused()[number]
        trial = self._stored(number)
        trial.set_user_attr("promoted", rung)  # from now on it does not pause, whatever happens to this process
        self.promotion.mark_promoted(number, rung)
        return trial

    def _end_paused(self) -> None:
        """Tell PRUNED all trials that pause; they keep their curves only."""
        for number, rung in self._paused().items():
            self.study.tell(number, state=TrialState.PRUNED)
            self._states[number] = TrialState.PRUNED.name
            self.promotion.mark_promoted(number, rung)  # type: ignore[union-attr]
            sweep_checkpoints(self.folder.trial(number), keep=0)
