"""Who takes which images, and what two processes exchange over gloo: the toy's steps, which are worked out by hand."""

import dataclasses
import math
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

from tests.trainables import scenes, toy
from tests.trainables.two_processes import together, trial
from trainables import checkpoint, compiled, parallel
from trainables.parallel import ALONE, Team
from trainables.training import Diverged

pytestmark = pytest.mark.xdist_group("toys")  # the two processes start once, not once per xdist worker

TOYS: list[dict[str, Any]] = [{}, {"grad_clip": 0.05}, {"batch_size": 5}]
"""Hyperparameters of the toy, which two processes train as it is worked out by hand."""


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What :func:`work` found on rank 0 and on rank 1."""
    folder = tmp_path_factory.mktemp("pair")
    with toy.findable():
        run = toy.training()
        run.advance(2)
        checkpoint.save(folder, run.state())
    together(work, folder)
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


def work(team: Team, folder: Path) -> None:
    """What each of two processes computes."""
    with toy.findable():
        steps = {}
        for micro_batch in (None, 1, 2):
            for config in TOYS:
                run = toy.training(dataclasses.replace(toy.TASK, micro_batch=micro_batch), team=team, **config)
                means = run.advance(3)
                steps[f"{micro_batch} {config}"] = (toy.state(run), means)
        run = toy.training(number=team.rank, team=team)  # rank 0's weights are copied to all
        run.advance(1)
        unlike = [toy.state(run)[name] for name in "abcd"]
        run = toy.training(team=team)
        run.load_state(checkpoint.newest(folder) or {})
        run.advance(3)
        continued = toy.state(run)
        means = run.validate(scenes.split(4 + team.rank, toy.SIZE))
        run = toy.training(team=team, bad_gradient_at=2)
        with pytest.raises(Diverged) as error:
            run.advance(3)
        compiled.BACKEND = "aot_eager"  # in a process of its own
        run = toy.training(dataclasses.replace(toy.TASK, micro_batch=2, compile=True), team=team)
        run.advance(5)
        by_torch = (toy.state(run), run.remarks())
    asked: list[int] = []
    found: dict[str, Any] = {
        "steps": steps,
        "unlike": unlike,
        "continued": continued,
        "compiled": by_torch,
        "validated": means["loss"],
        "bad": (str(error.value), toy.state(run)),
        "of rank 0": team.from_first(lambda: asked.append(team.rank) or f"rank {team.rank}"),
        "asked": asked,
        "total": team.total({"x": torch.tensor(team.rank + 1.0), "y": torch.tensor(5)}, torch.device("cpu")),
    }
    torch.save(found, folder / f"{team.rank}.pt")


@pytest.mark.parametrize("config", TOYS, ids=str)
@pytest.mark.parametrize("micro_batch", [None, 1, 2])
def test_two_processes_take_the_steps_worked_out_by_hand(
    micro_batch: int | None, config: dict[str, Any], pair: list[dict[str, Any]]
) -> None:
    with toy.findable():
        expected, means = toy.by_hand(toy.state(toy.training(**config)), steps=3, **config)
    for state, terms in (found["steps"][f"{micro_batch} {config}"] for found in pair):
        assert state == pytest.approx(expected, rel=1e-5)
        assert terms == pytest.approx(means, rel=1e-5)


def test_a_bad_gradient_ends_the_trial_on_all_processes_and_leaves_no_bad_weights(pair: list[dict[str, Any]]) -> None:
    first, second = (found["bad"] for found in pair)
    assert first == second
    assert first[0] == "gradient norm is nan"
    assert all(math.isfinite(value) for value in first[1].values())


def test_two_processes_continue_what_one_began_and_compile_what_they_begin(pair: list[dict[str, Any]]) -> None:
    with toy.findable():
        expected, _ = toy.by_hand(toy.state(toy.training()), steps=5)
    for found in pair:
        assert found["continued"] == pytest.approx(expected, rel=1e-5)
        state, remarks = found["compiled"]
        assert state == pytest.approx(expected, rel=1e-5) and remarks == []


def test_all_processes_begin_with_the_weights_of_the_first(pair: list[dict[str, Any]]) -> None:
    assert pair[0]["unlike"] == pair[1]["unlike"]


def test_sums_and_results_of_rank_0_are_the_same_on_all(pair: list[dict[str, Any]]) -> None:
    for found in pair:
        assert found["of rank 0"] == "rank 0"
        assert {name: float(value) for name, value in found["total"].items()} == {"x": 3.0, "y": 10.0}
    assert [found["asked"] for found in pair] == [[0], []]
    assert pair[0]["validated"] == pair[1]["validated"]


def test_a_process_that_does_not_come_is_not_waited_for_as_long_as_for_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "RENDEZVOUS_TIMEOUT", timedelta(seconds=1))
    monkeypatch.setattr(parallel, "TIMEOUT", timedelta(seconds=20))
    team = Team(0, 2)
    with pytest.raises(dist.DistStoreError, match="1 is here"):
        parallel.join(team, torch.device("cpu"), parallel.open_meeting_point(team, "127.0.0.1"))
    assert not dist.is_initialized()


@pytest.mark.parametrize("batch", [2, 3, 5, 8, 64])
@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("micro_batch", [None, 1, 2, 3, 100])
def test_every_image_has_one_process_and_all_processes_have_as_many_parts(
    batch: int, size: int, micro_batch: int | None
) -> None:
    if batch < size:
        return
    parts = [Team(rank, size).parts(batch, micro_batch) for rank in range(size)]
    assert [image for team in parts for part in team for image in part] == list(range(batch))
    assert len({len(team) for team in parts}) == 1
    lengths = [len(part) for team in parts for part in team]
    assert min(lengths) > 0 and max(lengths) <= max(micro_batch or batch, 2)
    assert max(lengths) - min(lengths) <= 1
    if size == 1 and micro_batch:
        assert max(lengths) <= micro_batch


def test_a_batch_too_small_for_the_processes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"batch_size is 2, less than an image for each of 3 workers; use fewer"):
        trial("slot_attention", Team(1, 3), batch=2)


def test_alone_nothing_is_exchanged() -> None:
    values = {"loss": torch.tensor(2.0)}
    assert ALONE.total(values, torch.device("cpu")) == values and ALONE.from_first(lambda: 3) == 3
    assert np.concatenate([list(part) for part in ALONE.parts(7, 3)]).tolist() == list(range(7))
