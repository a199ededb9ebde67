"""What a person sees while a study runs: one table that updates in place, or plain lines where there is no terminal."""

import time
from typing import Any

from ray import tune
from rich.console import Console
from rich.live import Live
from rich.table import Table

from study.display.durations import duration
from study.display.plain_lines import say
from study.scoring.trial_table import ENDED, STATES
from study.search import goals
from study.search.searcher import StudySearcher

LINE_EVERY = 30.0
"""Seconds between two summary lines where the output is not a terminal."""

COUNTED = (*ENDED, "PAUSED", "RUNNING")
"""States that the summary counts, in its order."""


class ProgressCallback(tune.Callback):
    """Shows a running study on ``console``: counts, best so far, running trials and the estimated time left."""

    def __init__(self, searcher: StudySearcher, console: Console, *, metric: str, reports: int, noun: str = "trial"):
        self._searcher = searcher
        self._console = console
        self._metric = metric
        self._reports = reports
        self._noun = noun
        self._started = time.monotonic()
        self._already = self._done()
        self._running: dict[str, dict[str, Any]] = {}
        self._last_line = time.monotonic()
        self._live = Live(console=console, refresh_per_second=1, transient=True) if console.is_terminal else None
        if self._live is not None:
            self._live.start()

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """List the trial as running."""
        self._running[trial.trial_id] = {"number": trial.config["number"]}

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:
        """Remember how far the trial is."""
        for line in result.get("passed_over", []):
            say(self._console, f"note: {self._noun} {trial.config['number']}: {line}")
        if "objective" in result:
            self._running.setdefault(trial.trial_id, {"number": trial.config["number"]}).update(result)

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """Take the trial off the list and, without a terminal, say how it ended."""
        self._running.pop(trial.trial_id, None)
        state = self._searcher.state_of(trial.config["number"])
        if self._live is None and state != "RUNNING":  # else it rests, and a note says so
            ended = self._searcher.study.get_trials(deepcopy=False)[trial.config["number"]]
            how = ended.user_attrs.get("reason", "")
            if not how and ended.last_step is not None:
                how = f"{self._metric} {ended.intermediate_values[ended.last_step]:.4f}"
                how += f" at step {ended.user_attrs['progress']['step']}"
            say(self._console, f"{self._noun} {ended.number:4d}  {STATES[state]:8s}  {how}")

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """As on completion: the trial has failed for good."""
        self.on_trial_complete(iteration, trials, trial)

    def on_step_end(self, iteration: int, trials: list, **info: Any) -> None:
        """Refresh the table, or print a summary line now and then."""
        for line in self._searcher.retries.take_notes():
            say(self._console, f"note: {self._noun} {line}")
        now = time.monotonic()
        if now - self._last_line < (1.0 if self._live is not None else LINE_EVERY):
            return
        self._last_line = now
        if self._live is not None:
            self._live.update(self._table())
        else:
            say(self._console, self._summary())

    def on_experiment_end(self, trials: list, **info: Any) -> None:
        """Remove the table and print the last summary."""
        self.close()
        say(self._console, self._summary())

    def close(self) -> None:
        """Remove the table from the terminal; may be called twice."""
        if self._live is not None:
            self._live.stop()

    def _done(self) -> int:
        """How many trials have ended or pause: most of those that pause are not promoted."""
        counts = self._searcher.counts()
        return sum(counts[state] for state in (*ENDED, "PAUSED"))

    def _summary(self) -> str:
        counts = self._searcher.counts()
        done = self._done()
        new = done - self._already
        elapsed = time.monotonic() - self._started
        counts["RUNNING"] = len(self._running)  # not those that wait for a place
        parts = [f"{counts[state]} {STATES[state]}" for state in COUNTED if counts[state] or state != "PAUSED"]
        text = f"{done}/{self._searcher.trials} {self._noun}s: {', '.join(parts)}"
        if counts["COMPLETE"]:
            study = self._searcher.study
            front = goals.front(study)
            best = study.get_trials(deepcopy=False)[front[0]] if front else study.best_trial
            text += f"; best {self._metric} {goals.first(best):.4f} ({self._noun} {best.number})"
            text += f", {len(front)} on the Pareto front" if front else ""
        text += f"; {duration(elapsed)} gone"
        left = max(0, self._searcher.trials - done)
        if new > 0 and left:
            text += f", about {duration(left * elapsed / new)} left"
        return text

    def _table(self) -> Table:
        table = Table(title=self._summary(), title_justify="left", expand=False)
        for column in (self._noun, "step", "report", self._metric, "loss", "s/report"):
            table.add_column(column, justify="right")
        for row in sorted(self._running.values(), key=lambda row: row["number"]):
            if "objective" not in row:
                table.add_row(str(row["number"]), "0", f"0/{self._reports}", "", "", "")
                continue
            table.add_row(
                str(row["number"]),
                str(row["step"]),
                f"{row['report']}/{self._reports}",
                f"{row['objective']:.4f}",
                f"{row['train/loss']:.5g}" if "train/loss" in row else "",
                f"{row['time/train_s'] + row['time/validation_s']:.1f}",
            )
        return table
