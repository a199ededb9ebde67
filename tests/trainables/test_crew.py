"""Two workers as one trial on a real Ray, without Tune: what they compute, and how they end."""

import concurrent.futures
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import torch
from ray.air._internal.util import skip_exceptions
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from search_spaces.slot_attention import TINY
from tests.trainables import scenes
from trainables import parallel
from trainables.crew import LAST_WORDS, Crew, Worker, out_of_memory
from trainables.training import Diverged, Task

pytestmark = pytest.mark.ray

TASK = Task("slot_attention", 32, steps=4, reports=2, seed=0, metric="mIoU_fg", validation_images=4)
HYPERPARAMETERS = {**TINY, "batch_size": 4, "steps": 4}


def trial(number: int = 0, **hyperparameters: Any) -> dict[str, Any]:
    return {"hyperparameters": {**HYPERPARAMETERS, **hyperparameters}, "number": number, "folder": "nowhere"}


@ray.remote(num_cpus=1)
class Trial:
    """The process of rank 0, which Tune's actor is in a study."""

    def __init__(self, shards: list[dict[str, list[ray.ObjectRef]]], size: int):
        self.crew = Crew(TASK, shards[0], 1, 0, size)

    def start(self, config: dict[str, Any], state: dict[str, Any] | None = None) -> list[Any]:
        """The other workers, by their ids."""
        self.crew.start(config, state)
        return [worker._actor_id.hex() for worker in self.crew._others]

    def load(self, state: dict[str, Any]) -> None:
        self.crew.load(state)

    def report(self) -> dict[str, Any] | str:
        try:
            return self.crew.report()
        except Diverged as reason:
            return str(reason)

    def state(self) -> dict[str, Any]:
        return self.crew.first.training.state()

    def steps(self) -> list[int]:
        """Steps done on each worker."""
        others = [worker.__ray_call__.remote(lambda it: it.training.step) for worker in self.crew._others]
        return [self.crew.first.training.step, *ray.get(others)]

    def dismiss(self) -> bool:
        """Whether a process group is left."""
        self.crew.dismiss()
        return parallel.dist.is_initialized()


@pytest.fixture
def make(ray_cluster: None) -> Iterator[Any]:
    """Starts a Trial of as many workers as asked for, each in a bundle of a placement group."""
    split = scenes.split(8, 32)
    shards = {name: [ray.put(split._tables[0])] for name in ("train", "val")}
    groups = []

    def made(size: int) -> Any:
        if groups:
            remove_placement_group(groups[-1])  # and all that runs in it: there are two CPUs
        groups.append(placement_group([{"CPU": 1}] * size))
        place = PlacementGroupSchedulingStrategy(groups[-1], placement_group_bundle_index=0)
        # in a list, so that the references arrive as such
        return Trial.options(scheduling_strategy=place).remote([shards], size)

    yield made
    remove_placement_group(groups[-1])


def test_two_workers_report_what_one_does_and_their_checkpoints_change_hands(make: Any) -> None:
    def report(crew: Any) -> dict[str, float]:
        result = ray.get(crew.report.remote())
        return {name: value for name, value in result.items() if not name.startswith("time/")}

    one = make(1)
    assert ray.get(one.start.remote(trial())) == []
    first, middle, second = report(one), ray.get(one.state.remote()), report(one)
    assert ray.get(one.steps.remote()) == [4]
    two = make(2)
    others = ray.get(two.start.remote(trial()))
    assert len(others) == 1
    assert report(two) == pytest.approx(first, rel=1e-3)
    assert ray.get(two.steps.remote()) == [2, 2]
    ray.get(two.load.remote(middle | {"step": 3}))
    assert ray.get(two.steps.remote()) == [3, 3], "all workers go back"
    assert ray.get(two.start.remote(trial(), middle)) == others, "workers stay for the next trial"
    assert ray.get(two.steps.remote()) == [2, 2]
    assert report(two) == pytest.approx(second, rel=1e-3)
    # a trial that diverges does so on all workers, which stay
    ray.get(two.start.remote(trial(lr=1e18, grad_clip=None, warmup_frac=0.0)))
    assert " is nan" in ray.get(two.report.remote())
    assert ray.get(two.start.remote(trial())) == others
    assert report(two) == pytest.approx(first, rel=1e-3)
    # after one has failed, there are new ones
    assert ray.get(two.dismiss.remote()) is False
    new = ray.get(two.start.remote(trial()))
    assert len(new) == 1 and new != others
    assert report(two) == pytest.approx(first, rel=1e-3)


def test_a_refused_allocation_is_known_by_its_class_or_its_words() -> None:
    assert out_of_memory(MemoryError())
    assert out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"))
    assert not out_of_memory(RuntimeError("memory is fine"))


def test_a_seed_of_its_own_takes_the_place_of_the_studys_seed_and_the_number() -> None:
    def drawn(**config: Any) -> tuple[list[float], int, int]:
        """First weights, seed of the order of the images, and first noise of a trial."""
        worker = Worker.__new__(Worker)
        worker.task, worker.device, worker.team = TASK, torch.device("cpu"), parallel.ALONE
        worker._train = scenes.split(8, 32)
        worker.start({**trial(), **config}, None)
        training = worker.training
        first = next(training.model.parameters()).flatten()[:4].tolist()
        return first, training.shuffle.state_dict()["seed"], training.noise.initial_seed()

    assert drawn(number=1, seed=7) == drawn(number=5, seed=7), "trials of one seed differ in hyperparameters alone"
    different = [drawn(number=1, seed=7), drawn(number=1, seed=8), drawn(number=1), drawn(number=5)]
    for i in range(3):
        assert len({str(one[i]) for one in different}) == 4


class Breaking:
    """A worker that fails."""

    def ready(self) -> bool:
        return True

    def follow(self) -> None:
        raise AssertionError("rank 1 says why")


def disconnected(*others: Any) -> Crew:
    """A Crew whose rank 0 only gets the error that another worker is gone."""

    def report(validation: None) -> None:
        raise RuntimeError("connection closed")

    made = Crew.__new__(Crew)
    made.first = SimpleNamespace(training=SimpleNamespace(report=report), validation=None)  # type: ignore[assignment]
    made._others = list(others)
    return made


def test_the_errors_of_all_workers_are_reported(ray_cluster: None) -> None:
    worker = ray.remote(num_cpus=0)(Breaking).remote()
    assert ray.get(worker.ready.remote())  # its start may take longer than rank 0 waits for its error
    with pytest.raises(RuntimeError, match="connection closed") as caught:
        disconnected(worker).report()
    ray.kill(worker)
    assert "rank 1 says why" in "".join(caught.value.__notes__)
    assert str(skip_exceptions(caught.value)) == "connection closed"  # as Tune does with all that a trial raises


def test_the_end_of_a_dismissed_worker_is_not_the_end_of_the_next_trial(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    lost: concurrent.futures.Future = concurrent.futures.Future()
    lost.set_exception(ray.exceptions.RayActorError("its id", "dead:\nits node has died", preempted=True))
    crew = disconnected("of this trial")
    crew._folder = str(tmp_path)
    crew._on_end(["of the last trial"], lost)
    assert not ended
    crew._on_end(crew._others, lost)
    assert ended == [1]
    left = json.loads((tmp_path / LAST_WORDS).read_text())
    assert left == {"actor": "its id", "words": "its node has died", "certain": False, "memory": False}
