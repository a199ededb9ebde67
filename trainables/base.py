"""StudyTrainable: the one Tune class that all ten models share; the only place in ``trainables`` that knows Ray."""

import concurrent.futures
import os
from functools import partial
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from data import store
from trainables import checkpoint, parallel, pictures
from trainables.parallel import Team
from trainables.training import Diverged, Task, Training, panel

Shards = dict[str, list[ray.ObjectRef]]
"""Split name -> references to its Arrow tables in the object store."""

GRACE_SECONDS = 5.0
"""How long a trial that broke off waits for its other workers to say why."""


class Worker:
    """One process of a trial: the data, seen through shared memory, and a Training of its own."""

    training: Training

    def __init__(self, task: Task, shards: Shards, cpus: float, gpus: float, team: Team):
        # Ray leaves GPUs visible to those that asked for none.
        self.device = torch.device("cuda" if gpus > 0 and torch.cuda.is_available() else "cpu")
        torch.set_num_threads(max(1, int(cpus)))
        self.task = task
        self.team = team
        self._train = store.open_split(shards["train"])
        self.validation = store.open_split(shards["val"])

    def start(self, config: dict[str, Any], state: dict[str, Any] | None) -> None:
        """Start the trial of ``config``, or continue it from ``state``. Raises what building a model raises."""
        self.__dict__.pop("training", None)  # its memory must be free before the next model is built
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        training = Training(self.task, config["hyperparameters"], config["number"], self._train, self.device, self.team)
        if state is not None:
            training.load_state(state)
        self.training = training

    def load(self, state: dict[str, Any]) -> None:
        """Continue from ``state``."""
        self.training.load_state(state)

    def join(self, meeting_point: Any) -> None:
        """Form the process group with the others; see :func:`parallel.join`."""
        parallel.join(self.team, self.device, meeting_point)

    def follow(self) -> None:
        """Train and validate beside rank 0, which reports for all, also that their numbers went bad."""
        try:
            self.training.report(self.validation)
        except Diverged:
            pass
        except Exception:
            parallel.leave()  # nobody must wait for this worker
            raise


class Crew:
    """The workers of a trial: rank 0 in this process, the others as actors in this actor's placement group.

    The actors die with this process, and with the placement group. They stay for the next trial, unless one breaks
    off: then all leave, and the next trial gets new ones.
    """

    def __init__(self, task: Task, shards: Shards, cpus: float, gpus: float, size: int):
        self._resources = cpus, gpus
        self._data = task, shards
        self._others: list[Any] = []
        self.first = Worker(task, shards, cpus, gpus, Team(0, size))

    def start(self, config: dict[str, Any], state: dict[str, Any] | None) -> None:
        """Start or continue the trial of ``config`` on all workers."""
        self.first.start(config, state)
        new = not self._others and self.first.team.size > 1
        if new:
            self._others = [self._hire(rank) for rank in range(1, self.first.team.size)]
        shared = ray.put(state) if self._others else None
        ray.get([worker.start.remote(config, shared) for worker in self._others])
        if new:
            server = parallel.open_meeting_point(self.first.team, ray.util.get_node_ip_address())
            joining = self._watched([worker.join.remote((server.host, server.port)) for worker in self._others])
            self.first.join(server)
            ray.get(joining)

    def load(self, state: dict[str, Any]) -> None:
        """Continue from ``state`` on all workers."""
        self.first.load(state)
        shared = ray.put(state) if self._others else None
        ray.get([worker.load.remote(shared) for worker in self._others])

    def report(self) -> dict[str, Any]:
        """Train up to the next report on all workers. Raises Diverged, and what breaks a worker off."""
        calls = self._watched([worker.follow.remote() for worker in self._others])
        try:
            result = self.first.training.report(self.first.validation)
        except Diverged:
            ray.get(calls)
            raise
        except Exception as error:
            cause = _cause(error, calls)
            if cause is error:
                raise  # not from itself: those who follow causes would find no end
            raise cause from error
        ray.get(calls)
        return result

    def dismiss(self) -> None:
        """Let the other workers go, whatever they are doing."""
        leaving, self._others = self._others, []
        for worker in leaving:
            ray.kill(worker)
        parallel.leave()

    def _watched(self, calls: list[ray.ObjectRef]) -> list[ray.ObjectRef]:
        """``calls`` of all other workers, whose breaking off ends what rank 0 waits for."""
        for call in calls:
            call.future().add_done_callback(partial(self._let_go, self._others))
        return calls

    def _let_go(self, workers: list[Any], call: concurrent.futures.Future) -> None:
        """When another worker breaks off, rank 0 must not wait for its numbers.

        If it is lost, so is the trial's stand: this process ends too, and Tune starts both from the last checkpoint.
        A connection to a node that is gone would not end by itself. Of ``workers`` that were dismissed meanwhile
        nothing is expected any more, and the next trial's must not pay for them.

        Not run, for want of GPUs: where a worker ran out of memory, NCCL's own watchdog may end this process first,
        and Tune tries that trial again.
        """
        if workers is not self._others:
            return
        error = call.exception()
        if isinstance(error, ray.exceptions.RayActorError):
            os._exit(1)
        if error is not None:
            parallel.abort()

    def _hire(self, rank: int) -> Any:
        cpus, gpus = self._resources
        group = ray.util.get_current_placement_group()
        assert group is not None, "a trial with several workers runs in a placement group"
        place = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=rank)
        actor: Any = ray.remote(Worker)
        made = actor.options(num_cpus=cpus, num_gpus=gpus, scheduling_strategy=place)
        return made.remote(*self._data, cpus, gpus, Team(rank, self.first.team.size))


class StudyTrainable(tune.Trainable):
    """A trial as Tune runs it: one :meth:`step` trains up to the next report and validates.

    ``config`` holds ``hyperparameters`` (all of the model's), ``number`` (Optuna's trial number) and ``folder`` (the
    trial's folder, where an interrupted trial finds its newest checkpoint). A trial whose numbers go bad, or whose
    hyperparameters cannot be built or do not fit into memory, does not raise, because Tune would try the same again:
    it reports its end with the reason. Retries are for workers that die, and with several workers for one that broke
    off without saying why: the others may only have noticed that it was gone.
    """

    failure: str | None = None
    """Why the trial cannot go on."""
    picture = b""
    """The panel of the last report, as PNG."""

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
        """Let the other workers go."""
        self.crew.dismiss()

    def _start(self, config: dict[str, Any]) -> None:
        self.failure, self.picture = None, b""
        try:
            self.crew.start(config, checkpoint.newest(config["folder"]))
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
                return result
            except Diverged as error:
                self.failure = str(error)
            except Exception as error:
                if self.crew.first.team.size > 1 and not _out_of_memory(error):
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
            (Path(checkpoint_dir) / "panel.png").write_bytes(self.picture)

    def load_checkpoint(self, checkpoint_dir: Any) -> None:
        """Continue from a checkpoint after a worker died."""
        state = checkpoint.newest(checkpoint_dir)
        if self.failure is None and state is not None:
            self.crew.load(state)


def _cause(error: Exception, calls: list[ray.ObjectRef]) -> Exception:
    """Why a trial broke off where rank 0 got ``error``: another worker's want of memory, or it, with what they say."""
    if _out_of_memory(error):
        return error
    done, _ = ray.wait(calls, num_returns=len(calls), timeout=GRACE_SECONDS) if calls else ([], [])
    for call in done:
        try:
            ray.get(call)
        except Exception as theirs:
            if _out_of_memory(theirs):
                return theirs
            error.add_note(f"another worker of the trial: {theirs}")
    return error


def _out_of_memory(error: Exception) -> bool:
    """Whether a device or this machine refused an allocation; CPUs have no error class of their own for it."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def _reason(error: Exception) -> str:
    """One line for the study's records, the same for all trials that fail alike."""
    if _out_of_memory(error):
        return "out of memory: start over with a smaller --micro-batch, the images of a forward pass"
    first = str(error).strip().splitlines()
    return f"{type(error).__name__}: {first[0] if first else ''}"[:300]
