"""Every model computes on two processes over gloo what it computes on one: gradients, terms and state."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import trainables
from tests.trainables import scenes
from tests.trainables.two_processes import SIZE, STATEFUL, one_step, relative_error, together, trial
from trainables import checkpoint
from trainables.parallel import ALONE, Team
from trainables.training import Diverged, Training

pytestmark = pytest.mark.xdist_group("pair")  # the two processes start once, not once per xdist worker

MODELS = trainables.names()
TOLERANCE = 1e-5
NOT_MEANS = {"dti_sprites": {"coverage"}, "marionette": {"sprites"}}
"""Terms that are no means over images: they are for TensorBoard, where the mean over the processes will do."""

SWAPPED = "genesis_v2"
"""The model whose checkpoints change hands: it has GECO's state and noise of two kinds."""


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What :func:`work` left: two processes start once, for all tests."""
    folder = tmp_path_factory.mktemp("pair")
    (folder / "by_one").mkdir()
    run = trial(SWAPPED)
    run.advance(2)
    checkpoint.save(folder / "by_one", run.state())
    together(work, folder)
    return folder


def work(team: Team, folder: Path) -> None:
    """What each of two processes computes; results are files with the process's rank in the name."""
    for name in MODELS:
        for late in (False, True):
            torch.save(one_step(name, late, team), folder / f"{name}_{late}_{team.rank}.pt")
        run = trial(name, team, micro_batch=1)
        run.advance(3)
        torch.save(weights(run), folder / f"{name}_weights_{team.rank}.pt")
    run = trial(SWAPPED, team)
    run.advance(2)
    if team.rank == 0:
        (folder / "by_two").mkdir()
        checkpoint.save(folder / "by_two", run.state())
    run = trial(SWAPPED, team)
    run.load_state(checkpoint.newest(folder / "by_one") or {})
    run.advance(2)
    torch.save(weights(run), folder / f"continued_{team.rank}.pt")
    if team.rank == 1:
        with torch.no_grad():
            next(run.model.parameters()).fill_(float("nan"))
    with pytest.raises(Diverged, match="training loss is nan"):
        run.advance(1)
    torch.save(validated(team), folder / f"validated_{team.rank}.pt")


def validated(team: Team = ALONE) -> tuple[dict[str, float], dict[str, Tensor]]:
    """A validation of SPAIR, which lowers its learning rate by the scores; every process has other images."""
    run = trial("spair", team)
    means = run.validate(scenes.split(2 + team.rank, SIZE))
    return means, weights(run)


def weights(run: Training) -> dict[str, Tensor]:
    """All state but the running statistics of BatchNorm, which each process has of its own images."""
    return {path: value for path, value in run.model.state_dict().items() if "running_" not in path}


def load(pair: Path, name: str) -> list[Any]:
    return [torch.load(pair / f"{name}_{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_two_processes_compute_what_one_does(name: str, late: bool, pair: Path) -> None:
    alone = one_step(name, late)
    first, second = load(pair, f"{name}_{late}")
    assert relative_error(first["gradients"], alone["gradients"]) < TOLERANCE
    means = alone["terms"].keys() - NOT_MEANS.get(name, set())
    for key in means:
        assert torch.isclose(first["terms"][key], alone["terms"][key], rtol=TOLERANCE, atol=1e-7), key
    for path, buffer in alone["buffers"].items():
        assert torch.allclose(first["buffers"][path], buffer, rtol=1e-4, atol=1e-7, equal_nan=True), path
    for part in ("gradients", "terms", "buffers"):
        for key, value in first[part].items():  # type: ignore[literal-required]
            assert torch.equal(value, second[part][key]), key  # type: ignore[literal-required]


@pytest.mark.parametrize("name", MODELS)
def test_micro_batches_compute_what_the_whole_batch_does(name: str) -> None:
    whole, parts = one_step(name, late=False), one_step(name, late=False, micro_batch=2)
    assert relative_error(parts["gradients"], whole["gradients"]) < TOLERANCE


@pytest.mark.parametrize("name", MODELS)
def test_processes_stay_alike(name: str, pair: Path) -> None:
    first, second = load(pair, f"{name}_weights")
    for path, value in first.items():
        assert torch.equal(value, second[path]), path


@pytest.mark.parametrize("name", STATEFUL)
def test_a_step_changes_the_state_that_is_compared(name: str) -> None:
    fresh = dict(trial(name).model.named_buffers())
    assert any(not torch.equal(value, fresh[path].float()) for path, value in one_step(name, True)["buffers"].items())


def test_a_checkpoint_of_two_processes_continues_on_one_and_the_other_way_round(pair: Path) -> None:
    whole = trial(SWAPPED)
    whole.advance(4)
    alone = trial(SWAPPED)
    alone.load_state(checkpoint.newest(pair / "by_two") or {})
    assert alone.step == 2
    alone.advance(2)
    for continued in (weights(alone), torch.load(pair / "continued_0.pt")):
        floats = {path: value.float() for path, value in continued.items()}
        assert relative_error(floats, {path: value.float() for path, value in weights(whole).items()}) < 1e-4
    assert alone.state()["shuffle"] == whole.state()["shuffle"]
    assert torch.equal(alone.state()["noise"], whole.state()["noise"])


def test_all_processes_get_the_scores_of_the_first(pair: Path) -> None:
    alone, state = validated()
    for rank in (0, 1):
        means, buffers = torch.load(pair / f"validated_{rank}.pt")
        assert means == pytest.approx(alone, nan_ok=True)
        assert torch.isclose(buffers["best_mse"], state["best_mse"]) and state["best_mse"].isfinite()
