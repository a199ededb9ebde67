"""StudyTrainable: the one Ray Tune class that all models share."""

from pathlib import Path
from typing import Any

import ray
from ray import tune

from trainables import checkpoint, pictures
from trainables.crew import Crew, Shards, out_of_memory
from trainables.scoring import panel
from trainables.training import Diverged, Task


class StudyTrainable(tune.Trainable):
    """A trial as Tune runs it: one :meth:`step` trains up to the next report and validates.

    ``config`` holds ``hyperparameters`` (all of the model's), ``number`` (Optuna's trial number), ``folder`` (the
    trial's folder, where an interrupted trial finds its newest checkpoint) and, for a trial with a seed of its own,
    ``seed``.

    Tune tries a trial that raises again. A trial that diverges, cannot be built or does not fit into memory would end
    the same way, so it does not raise: its result is ``failure`` with the reason. It raises when a worker dies, and
    with several workers when one fails for any other reason: the others may only have noticed that it was gone.
    """

    failure: str | None = None
    """Why the trial cannot go on."""
    picture = b""
    """The panel of the last report, as PNG."""
    passed_over: tuple[str, ...] = ()
    """What to say of checkpoints that could not be read, with the next report."""

    def setup(  # type: ignore[override]  # tune.with_parameters passes the others
        self, config: dict[str, Any], task: Task, shards: Shards, cpus: float, gpus: float, workers: int
    ) -> None:
        """Open the shared shards and start or continue the trial of ``config``; ``cpus`` and ``gpus`` per worker."""
        self.task = task
        self.crew = Crew(task, shards, cpus, gpus, workers)
        self._start(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Reuse these processes and their view of the data for another trial."""
        self.config = new_config
        self._start(new_config)
        return True

    def cleanup(self) -> None:
        """End the other workers."""
        self.crew.dismiss()

    def _start(self, config: dict[str, Any]) -> None:
        self.failure, self.picture, self.passed_over = None, b"", ()
        state = self._newest(config["folder"])  # what it raises is not the trial's fault
        try:
            self.crew.start(config, state)
        except ray.exceptions.RayActorError:
            raise
        except Exception as error:
            self._fail(error)

    def step(self) -> dict[str, Any]:
        """Train up to the next report; a flat result, or ``failure`` with the reason."""
        if self.failure is None:
            try:
                result = self.crew.report()
                first, precision = self.crew.first, self.task.precision
                picture = panel(first.training.model, first.validation, step=result["step"], precision=precision)
                self.picture = pictures.encode_png(picture)
                result["passed_over"], self.passed_over = [*self.passed_over, *first.training.remarks()], ()
                return result
            except Diverged as error:
                self.failure = str(error)
            except Exception as error:
                if self.crew.first.team.size > 1 and not out_of_memory(error):
                    raise
                self._fail(error)
        return {"failure": self.failure, "done": True}

    def _fail(self, error: Exception) -> None:
        self.failure = _reason(error)
        self.crew.dismiss()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write the trial's state and its picture; a failed trial writes nothing."""
        if self.failure is None:
            checkpoint.save(checkpoint_dir, self.crew.first.training.state())
            (Path(checkpoint_dir) / pictures.PANEL_FILE).write_bytes(self.picture)

    def load_checkpoint(self, checkpoint_dir: Any) -> None:
        """Continue from a checkpoint after a worker died."""
        state = self._newest(checkpoint_dir)
        if self.failure is None and state is not None:
            self.crew.load(state)

    def _newest(self, folder: str) -> dict[str, Any] | None:
        state, damaged = checkpoint.newest_and_damaged(folder)
        instead = f"went on from step {state['step']}" if state is not None else "began again"
        self.passed_over += tuple(f"{name} cannot be read: {instead}" for name in damaged)
        return state


def _reason(error: Exception) -> str:
    """One line for the study's records, the same for all trials that fail alike."""
    if out_of_memory(error):
        return "out of memory: start over with a smaller --micro-batch, the images of a forward pass"
    first = str(error).strip().splitlines()
    return f"{type(error).__name__}: {first[0] if first else ''}"[:300]
