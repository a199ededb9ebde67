"""What a person sees while a study runs: one table that updates in place, or plain lines where there is no terminal."""

import time
from datetime import datetime
from typing import Any

from ray import tune
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from study.display.durations import duration
from study.display.plain_lines import say
from study.scoring.trial_table import ENDED, STATES
from study.search import goals, known, storage
from study.search.searcher import StudySearcher

LINE_EVERY = 30.0
"""Seconds between two summary lines where the output is not a terminal."""

COUNTED = (*ENDED, "PAUSED", "RUNNING")
"""States that the summary counts, in its order."""

LAST = 5
"""Trials that ended last, which stay in the table."""


class ProgressCallback(tune.Callback):
    """Shows a running study on ``console``: counts, the best so far beside the base, trials, the estimated time left.

    ``beside`` says what else the best compares with, ``then`` how many full trials the final stage takes afterwards.
    """

    def __init__(
        self,
        searcher: StudySearcher,
        console: Console,
        *,
        metric: str,
        reports: int,
        noun: str = "trial",
        beside: str = "",
        then: int = 0,
    ):
        self._searcher = searcher
        self._console = console
        self._metric = metric
        self._reports = reports
        self._noun = noun
        self._beside = beside
        self._then = then
        self._started = time.monotonic()
        self._already = self._done()
        self._running: dict[str, dict[str, Any]] = {}
        self._ended = _in_order(searcher)
        self._seen = False  # whether a worker has started in this process
        self._last_line = time.monotonic()
        self._live = Live(console=console, refresh_per_second=1, transient=True) if console.is_terminal else None
        if self._live is not None:
            self._live.start()
            self._live.update(self._view(), refresh=True)
        elif searcher.pending():
            say(console, "starting workers")

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """List the trial as running."""
        self._seen = True
        self._running[trial.trial_id] = {"number": trial.config["number"]}

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:
        """Remember how far the trial is."""
        for line in result.get("passed_over", []):
            say(self._console, f"note: {self._noun} {trial.config['number']}: {line}")
        if "objective" in result:
            self._running.setdefault(trial.trial_id, {"number": trial.config["number"]}).update(result)

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """Move the trial to those that have ended and, without a terminal, say how it ended."""
        self._running.pop(trial.trial_id, None)
        number = trial.config["number"]
        state = self._searcher.state_of(number)
        if state == "RUNNING":  # it rests, and a note says so
            return
        self._ended = [*(other for other in self._ended if other != number), number]
        if self._live is None:
            ended = self._searcher.study.get_trials(deepcopy=False)[number]
            how = ended.user_attrs.get("reason", "")
            if not how and ended.last_step is not None:
                how = f"{self._metric} {ended.intermediate_values[ended.last_step]:.4f}"
                how += f" at step {ended.user_attrs['progress']['step']}"
            say(self._console, f"{self._noun} {number:4d}  {STATES[state]:8s}  {how}")

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
            self._live.update(self._view())
        else:
            say(self._console, "; ".join(self._summary()))

    def on_experiment_end(self, trials: list, **info: Any) -> None:
        """Leave the trials that ended last on the terminal, and print the last summary."""
        terminal = self._live is not None
        self.close()
        if terminal and self._ended:
            self._running.clear()
            self._console.print(self._table())
        for line in self._summary() if terminal else ["; ".join(self._summary())]:
            say(self._console, line)

    def close(self) -> None:
        """Remove the table from the terminal; may be called twice."""
        if self._live is not None:
            self._live.stop()

    def _done(self) -> int:
        """How many trials have ended or pause: most of those that pause are not promoted."""
        counts = self._searcher.counts()
        return sum(counts[state] for state in (*ENDED, "PAUSED"))

    def _summary(self) -> list[str]:
        """How many trials there are in each state, the best one beside the base, and the time."""
        counts = self._searcher.counts()
        counts["RUNNING"] = len(self._running)  # not those that wait for a place
        parts = [f"{counts[state]} {STATES[state]}" for state in COUNTED if counts[state] or state != "PAUSED"]
        lines = [f"{self._done()}/{self._searcher.trials} {self._noun}s: {', '.join(parts)}"]
        if (best := self._best_number()) is not None:
            lines.append(self._best(best))
        return [*lines, self._time()]

    def _best(self, number: int) -> str:
        trials = self._searcher.study.get_trials(deepcopy=False)
        front = goals.front(self._searcher.study)
        beside = [f"{len(front)} on the Pareto front"] if front else []
        if self._noun == "trial" and known.MARK not in trials[0].user_attrs:  # else the first one is not the base
            base = goals.first(trials[0])
            beside += ["the base"] if number == 0 else [f"base {base:.4f}"] if base is not None else []
        beside += [self._beside] if self._beside else []
        return ", ".join([f"best {self._metric} {goals.first(trials[number]):.4f} ({self._noun} {number})", *beside])

    def _time(self) -> str:
        """The time that this part of the study has taken, and what is left of it and of the final stage."""
        elapsed, done = time.monotonic() - self._started, self._done()
        text = f"{duration(elapsed)} gone"
        new, left = done - self._already, max(0, self._searcher.trials - done)
        if new > 0 and left:
            text += f", about {duration(left * elapsed / new)} left"
        trials = self._searcher.study.get_trials(deepcopy=False)
        full = [t.user_attrs["progress"]["seconds"] for t in trials if t.values and "progress" in t.user_attrs]
        if self._then and full:
            after = self._then * sum(full) / len(full) / max(1, len(self._running))
            text += f", then about {duration(after)} for the final stage"
        return text

    def _view(self) -> RenderableType:
        """What the terminal shows: each line of the summary fits one of the terminal's, or loses its end."""
        lines = [Text(line, no_wrap=True, overflow="ellipsis") for line in self._summary()]
        if not self._seen:
            lines.append(Text("starting workers ...", style="dim"))
        return Group(*lines, *([self._table()] if self._running or self._ended else []))

    def _table(self) -> Table:
        """The trials that run, and those that ended last; the best one stays."""
        table = Table(expand=False)
        for column in (self._noun, "state", "step", "report", self._metric, "loss", "s/report"):
            table.add_column(column, justify="left" if column == "state" else "right", no_wrap=True)
        for row in sorted(self._running.values(), key=lambda row: row["number"]):
            if "objective" not in row:
                table.add_row(str(row["number"]), "running", "", f"0/{self._reports}", "", "", "")
                continue
            table.add_row(
                str(row["number"]),
                "running",
                str(row["step"]),
                f"{row['report']}/{self._reports}",
                f"{row['objective']:.4f}",
                f"{row['train/loss']:.5g}" if "train/loss" in row else "",
                f"{row['time/train_s'] + row['time/validation_s']:.1f}",
            )
        table.add_section()
        trials, best = self._searcher.study.get_trials(deepcopy=False), self._best_number()
        again = {row["number"] for row in self._running.values()}  # promoted trials run again
        ended = [number for number in self._ended if number not in again][-LAST:]
        if best is not None and best not in ended:
            ended = [best, *ended]
        for number in ended:
            self._add_ended(table, trials[number], number == best)
        return table

    def _best_number(self) -> int | None:
        """The number of the best complete trial, by the first goal."""
        study = self._searcher.study
        return next(iter(storage.best_trials(study, 1)), None)

    def _add_ended(self, table: Table, trial: Any, best: bool) -> None:
        last = trial.last_step
        state = STATES[self._searcher.state_of(trial.number)]
        table.add_row(
            str(trial.number),
            f"{state}, best" if best else state,
            str(trial.user_attrs.get("progress", {}).get("step", "")),
            "" if last is None else f"{last}/{self._reports}",
            "" if last is None else f"{trial.intermediate_values[last]:.4f}",
            "",
            "",
            style="bold" if best else "dim",
        )


def _in_order(searcher: StudySearcher) -> list[int]:
    """Numbers of the trials that ended in earlier processes, the last one last."""
    trials = searcher.study.get_trials(deepcopy=False)
    ended = [trial for trial in trials if trial.state.is_finished()]
    return [trial.number for trial in sorted(ended, key=lambda trial: trial.datetime_complete or datetime.min)]
