"""StudyTrainable: the one Tune class that all ten models share; the only place in ``trainables`` that knows Ray."""

from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune

from data import store
from trainables import checkpoint, pictures
from trainables.training import Diverged, Task, Training

Shards = dict[str, list[ray.ObjectRef]]
"""Split name -> references to its Arrow tables in the object store."""


class StudyTrainable(tune.Trainable):
    """A trial as Tune runs it: one :meth:`step` trains up to the next report and validates.

    ``config`` holds ``hyperparameters`` (all of the model's), ``number`` (Optuna's trial number) and ``folder`` (the
    trial's folder, where an interrupted trial finds its newest checkpoint). A trial whose numbers go bad, or whose
    hyperparameters cannot be built or do not fit into memory, does not raise, because Tune would try the same again:
    it reports its end with the reason. Retries are for workers that die.
    """

    training: Training | None = None
    """The running trial; None when it could not be started."""
    failure: str | None = None
    """Why the trial cannot go on."""

    def setup(  # type: ignore[override]  # tune.with_parameters passes the others
        self, config: dict[str, Any], task: Task, shards: Shards, cpus: float
    ) -> None:
        """Open the shared shards and start or continue the trial of ``config``."""
        self.task = task
        torch.set_num_threads(max(1, int(cpus)))
        self.train_split = store.open_split(shards["train"])
        self.validation_split = store.open_split(shards["val"])
        self._start(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Reuse this process and its view of the data for another trial."""
        self.config = new_config
        self.training = None  # its memory must be free before the next model is built
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self._start(new_config)
        return True

    def _start(self, config: dict[str, Any]) -> None:
        self.training, self.failure = None, None
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            training = Training(self.task, config["hyperparameters"], config["number"], self.train_split, device)
            state = checkpoint.newest(config["folder"], device)
            if state is not None:
                training.load_state(state)
            self.training = training
        except (ValueError, RuntimeError, MemoryError) as error:
            self.failure = _reason(error)

    def step(self) -> dict[str, Any]:
        """Train up to the next report; a flat result, or ``failure`` with the reason."""
        if self.failure is None and self.training is not None:
            try:
                return self.training.report(self.validation_split)
            except Diverged as error:
                self.failure = str(error)
            except (ValueError, RuntimeError, MemoryError) as error:
                self.failure = _reason(error)
        return {"failure": self.failure, "done": True}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write the trial's state and its picture; a failed trial writes nothing."""
        if self.training is None or self.failure is not None:
            return
        checkpoint.save(checkpoint_dir, self.training.state())
        panel = self.training.panel(self.validation_split)
        (Path(checkpoint_dir) / "panel.png").write_bytes(pictures.encode_png(panel))

    def load_checkpoint(self, checkpoint_dir: Any) -> None:
        """Continue from a checkpoint after a worker died."""
        state = checkpoint.newest(checkpoint_dir, self.training.device if self.training else "cpu")
        if self.training is not None and state is not None:
            self.training.load_state(state)


def _reason(error: BaseException) -> str:
    """One line for the study's records."""
    first = str(error).strip().splitlines()
    return f"{type(error).__name__}: {first[0] if first else ''}"[:300]
