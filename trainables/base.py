"""StudyTrainable: the one Tune class that all ten models share; the only place in ``trainables`` that knows Ray."""

from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune

from data import store
from trainables import checkpoint, pictures
from trainables.training import Diverged, Task, Training, panel

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
    picture = b""
    """The panel of the last report, as PNG."""

    def setup(  # type: ignore[override]  # tune.with_parameters passes the others
        self, config: dict[str, Any], task: Task, shards: Shards, cpus: float, gpus: float
    ) -> None:
        """Open the shared shards and start or continue the trial of ``config``."""
        self.task = task
        # Ray leaves GPUs visible to those that asked for none.
        self.device = torch.device("cuda" if gpus > 0 and torch.cuda.is_available() else "cpu")
        torch.set_num_threads(max(1, int(cpus)))
        self.train_split = store.open_split(shards["train"])
        self.validation_split = store.open_split(shards["val"])
        self._start(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Reuse this process and its view of the data for another trial."""
        self.config = new_config
        self.training = None  # its memory must be free before the next model is built
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self._start(new_config)
        return True

    def _start(self, config: dict[str, Any]) -> None:
        self.training, self.failure, self.picture = None, None, b""
        try:
            training = Training(self.task, config["hyperparameters"], config["number"], self.train_split, self.device)
            state = checkpoint.newest(config["folder"], self.device)
            if state is not None:
                training.load_state(state)
            self.training = training
        except Exception as error:
            self.failure = _reason(error)

    def step(self) -> dict[str, Any]:
        """Train up to the next report; a flat result, or ``failure`` with the reason."""
        if self.training is not None and self.failure is None:
            try:
                result = self.training.report(self.validation_split)
                precision = self.task.precision
                picture = panel(self.training.model, self.validation_split, step=result["step"], precision=precision)
                self.picture = pictures.encode_png(picture)
                return result
            except Diverged as error:
                self.failure = str(error)
            except Exception as error:
                self.failure = _reason(error)
        return {"failure": self.failure, "done": True}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write the trial's state and its picture; a failed trial writes nothing."""
        if self.training is not None and self.failure is None:
            checkpoint.save(checkpoint_dir, self.training.state())
            (Path(checkpoint_dir) / "panel.png").write_bytes(self.picture)

    def load_checkpoint(self, checkpoint_dir: Any) -> None:
        """Continue from a checkpoint after a worker died."""
        state = checkpoint.newest(checkpoint_dir, self.device)
        if self.training is not None and state is not None:
            self.training.load_state(state)


def _reason(error: Exception) -> str:
    """One line for the study's records."""
    first = str(error).strip().splitlines()
    return f"{type(error).__name__}: {first[0] if first else ''}"[:300]
