"""The workers of a trial: rank 0 in Tune's own process, and one Ray actor for each further one."""

import concurrent.futures
import json
import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import ray
import torch
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from data import store
from trainables import freed_memory, parallel, profiling
from trainables.parallel import Team
from trainables.precision import allow_tf32
from trainables.training import Diverged, Task, Training

Shards = dict[str, list[ray.ObjectRef]]
"""Split name -> references to its Arrow tables in the object store."""

LAST_WORDS = "last_words.json"
"""In a trial's folder: which other worker had died when rank 0 ended itself for that reason."""

GRACE_SECONDS = 5.0
"""How long rank 0 waits, after an error of its own, for the errors of the other workers."""


class Worker:
    """One process of a trial: its view of the shared data, and a Training of its own."""

    training: Training

    def __init__(self, task: Task, shards: Shards, cpus: float, gpus: float, team: Team):
        # Ray leaves GPUs visible to actors that asked for none.
        self.device = torch.device("cuda" if gpus > 0 and torch.cuda.is_available() else "cpu")
        torch.set_num_threads(max(1, int(cpus)))
        allow_tf32(self.device)
        freed_memory.keep()
        self.task = task
        self.team = team
        self._train = store.open_split(shards["train"])
        self.validation = store.open_split(shards["val"])

    def start(self, config: dict[str, Any], state: dict[str, Any] | None) -> None:
        """Start the trial of ``config``, or continue it from ``state``. Raises what building a model raises.

        All random numbers follow from the study's seed and the trial's number. With a ``seed`` of its own in
        ``config`` the number does not count, so that trials of one seed differ in their hyperparameters alone.
        """
        if "training" in self.__dict__:
            self.training.close()
            del self.training  # its memory must be free before the next model is built
        freed_memory.give_back()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        task, number = self.task, config["number"]
        if "seed" in config:
            task, number = replace(task, seed=config["seed"]), 0
        training = Training(task, config["hyperparameters"], number, self._train, self.device, self.team)
        if state is not None:
            training.load_state(state)
        elif task.profile and config["number"] == 0 and "seed" not in config and self.team.rank == 0:
            training.profile(Path(config["folder"], profiling.FOLDER))
        self.training = training

    def load(self, state: dict[str, Any]) -> None:
        """Continue from ``state``."""
        self.training.load_state(state)

    def join(self, meeting_point: Any) -> None:
        """Form the process group with the other workers; see :func:`parallel.join`."""
        parallel.join(self.team, self.device, meeting_point)

    def follow(self) -> None:
        """Train and validate beside rank 0, which reports for all workers, divergence included."""
        try:
            self.training.report(self.validation)
        except Diverged:
            pass
        except Exception:
            parallel.leave()  # so that no other worker waits for this one
            raise


class Crew:
    """The workers of a trial: rank 0 in this process, the others as actors in this actor's placement group.

    The actors end with this process, and with the placement group. They stay for the next trial, unless one fails:
    then all end, and the next trial gets new ones.
    """

    _folder: str  # the trial's

    def __init__(self, task: Task, shards: Shards, cpus: float, gpus: float, size: int):
        self._resources = cpus, gpus
        self._data = task, shards
        self._others: list[Any] = []
        self.first = Worker(task, shards, cpus, gpus, Team(0, size))

    def start(self, config: dict[str, Any], state: dict[str, Any] | None) -> None:
        """Start or continue the trial of ``config`` on all workers."""
        self._folder = config["folder"]
        Path(self._folder, LAST_WORDS).unlink(missing_ok=True)  # of a death that a driver that was killed did not see
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
        """Train up to the next report on all workers. Raises Diverged, and the error of a worker that fails."""
        calls = self._watched([worker.follow.remote() for worker in self._others])
        try:
            result = self.first.training.report(self.first.validation)
        except Diverged:
            ray.get(calls)
            raise
        except Exception as error:
            cause = _cause(error, calls)
            if cause is error:
                raise  # "from" itself would make a chain of causes without an end
            raise cause from error
        ray.get(calls)
        return result

    def dismiss(self) -> None:
        """End the other workers, whatever they are doing."""
        leaving, self._others = self._others, []
        for worker in leaving:
            ray.kill(worker)
        parallel.leave()

    def _watched(self, calls: list[ray.ObjectRef]) -> list[ray.ObjectRef]:
        """``calls`` to all other workers; if one of them fails, rank 0 stops waiting for it."""
        for call in calls:
            call.future().add_done_callback(partial(self._on_end, self._others))
        return calls

    def _on_end(self, workers: list[Any], call: concurrent.futures.Future) -> None:
        """Keep rank 0 from waiting for numbers of a worker whose ``call`` failed.

        If the worker died, this process ends too, and Tune starts both from the last checkpoint: what one has computed
        since then is lost, and a connection to a node that is gone would not end by itself. Calls to ``workers`` of an
        earlier trial, dismissed since, do not count.

        Not tested, for lack of GPUs: after a worker ran out of memory, NCCL's watchdog may end this process first, and
        Tune tries that trial again.
        """
        if workers is not self._others:
            return
        error = call.exception()
        if isinstance(error, ray.exceptions.RayActorError | ray.exceptions.OutOfMemoryError):
            try:
                self._leave_words(error)
            finally:
                os._exit(1)
        if error is not None:
            parallel.abort()

    def _leave_words(self, error: ray.exceptions.RayActorError | ray.exceptions.OutOfMemoryError) -> None:
        """Record which worker died, for the driver, which sees the end of this one only; see lost_workers.Death."""
        if isinstance(error, ray.exceptions.RayActorError):
            certain = not (isinstance(error, ray.exceptions.ActorUnavailableError) or error.preempted)
            left = {"actor": error.actor_id, "words": str(error).splitlines()[-1], "certain": certain, "memory": False}
        else:  # Ray's memory monitor has ended it; the first line says on which node
            left = {"actor": None, "words": str(error).splitlines()[0], "certain": True, "memory": True}
        (Path(self._folder) / LAST_WORDS).write_text(json.dumps(left))

    def _hire(self, rank: int) -> Any:
        cpus, gpus = self._resources
        group = ray.util.get_current_placement_group()
        assert group is not None, "a trial with several workers runs in a placement group"
        place = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=rank)
        actor: Any = ray.remote(Worker)
        made = actor.options(num_cpus=cpus, num_gpus=gpus, scheduling_strategy=place)
        return made.remote(*self._data, cpus, gpus, Team(rank, self.first.team.size))


def _cause(error: Exception, calls: list[ray.ObjectRef]) -> Exception:
    """Why a trial failed in which rank 0 got ``error``.

    That is another worker's error if it ran out of memory, else ``error``, with the other workers' errors as notes.
    """
    if out_of_memory(error):
        return error
    done, _ = ray.wait(calls, num_returns=len(calls), timeout=GRACE_SECONDS) if calls else ([], [])
    for call in done:
        try:
            ray.get(call)
        except Exception as theirs:
            if out_of_memory(theirs):
                return theirs
            error.add_note(f"another worker of the trial: {theirs}")
    return error


def out_of_memory(error: Exception) -> bool:
    """Whether a device or this machine refused an allocation; CPUs have no error class of their own for it."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
