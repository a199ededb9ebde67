"""A trial on two processes is the trial on one: every model's gradients, terms and state, over gloo, and back again."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor

import trainables
from tests.trainables import scenes
from tests.trainables.two_processes import SIZE, STATEFUL, Step, one_step, relative_error, together, trial
from trainables import checkpoint, noise, parallel
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


def load(pair: Path, name: str) -> list[Step]:
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


@pytest.mark.parametrize("name", sorted(STATEFUL.keys() & set(MODELS)))
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


def test_a_part_of_a_batch_gets_its_rows_of_the_noise() -> None:
    like = torch.zeros(())
    kinds = (noise.normal, noise.uniform)

    def draw(images: range | None, rows: int) -> tuple[list[Tensor], Tensor, Tensor, Tensor]:
        generator = torch.Generator().manual_seed(0)
        with noise.drawn_from(generator, images, 5):
            drawn = [kind((rows, 3), like) for kind in kinds]
            several = noise.normal((2 * rows, 3), like)
            with noise.shared():
                common = noise.uniform((4, 3), like)
            return [*drawn, several.view(rows, 2, 3)], common, noise.permutation(9, like), generator.get_state()

    whole, common, order, state = draw(None, 5)
    for images in (range(0, 2), range(2, 5)):
        rows, same, ordered, after = draw(images, len(images))
        for part, full in zip(rows, whole, strict=True):
            assert torch.equal(part, full[images.start : images.stop])
        assert torch.equal(same, common) and torch.equal(ordered, order) and torch.equal(after, state)
    with pytest.raises(AssertionError, match="noise of shape"):
        draw(range(0, 2), 3)


def test_a_batch_too_small_for_the_processes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"batch_size is 2, less than an image for each of 3 workers; use fewer"):
        trial("slot_attention", Team(1, 3), batch=2)


def test_alone_nothing_is_exchanged() -> None:
    values = {"loss": torch.tensor(2.0)}
    assert ALONE.total(values, torch.device("cpu")) == values and ALONE.from_first(lambda: 3) == 3
    assert np.concatenate([list(part) for part in ALONE.parts(7, 3)]).tolist() == list(range(7))
