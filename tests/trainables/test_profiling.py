"""A profile of a trial's first steps: which they are, what is written, and that the trial is the same."""

import gzip
import json

import pytest
import torch

from tests.trainables import toy
from tests.trainables.toy import TASK, state
from trainables import profiling


@pytest.fixture(autouse=True)
def _findable():
    with toy.findable():
        yield


@pytest.mark.parametrize(
    ("steps", "first", "last"), [(30, 6, 10), (11, 6, 10), (10, 6, 10), (7, 3, 7), (3, 2, 3), (2, 2, 2), (1, 1, 1)]
)
@pytest.mark.filterwarnings("ignore:Profiler won't be using warmup")
def test_the_first_steps_are_left_out_where_there_are_enough(tmp_path, steps, first, last):
    run = toy.training(TASK.__class__("toy", toy.SIZE, steps, 1, toy.SEED, "MSE", validation_images=7))
    run.profile(tmp_path / "profile")
    run.advance(steps)
    assert {path.name for path in (tmp_path / "profile").iterdir()} == {
        profiling.TABLE,
        f"steps_{first}_to_{last}.pt.trace.json.gz",
    }
    with gzip.open(tmp_path / "profile" / f"steps_{first}_to_{last}.pt.trace.json.gz", "rt") as file:
        names = [event.get("name", "") for event in json.load(file)["traceEvents"]]
    steps_seen = {name for name in names if name.startswith("ProfilerStep#")}
    assert len(steps_seen) == last - first + 1
    assert sum(name == "Optimizer.step#SGD.step" for name in names) == 2 * len(steps_seen)  # the toy has two


def test_the_table_has_the_costliest_operations_first(tmp_path):
    run = toy.training()
    run.profile(tmp_path)
    run.advance(10)
    heading, _, _, _, *rows = (tmp_path / profiling.TABLE).read_text().splitlines()
    assert heading == "10 costliest operations of steps 6 to 10, on a CPU:" and len(rows) == profiling.SHOWN
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    shares = [float(cell[3].removesuffix(" %")) for cell in cells]
    assert shares == sorted(shares, reverse=True) and 50 < sum(shares) <= 100.1
    calls = {name: int(count) for name, count, *_ in cells}
    assert calls["Python, between operations"] == 1 and calls["Optimizer.step#SGD.step"] == 2


def test_a_profiled_trial_is_the_trial_that_it_is_without(tmp_path):
    profiled, plain = toy.training(), toy.training()
    profiled.profile(tmp_path)
    assert [profiled.advance(3), profiled.advance(7)] == [plain.advance(3), plain.advance(7)]
    assert state(profiled) == state(plain)


def test_a_trial_that_failed_leaves_no_recording_behind(tmp_path):
    run = toy.training()
    run.profile(tmp_path)
    run.advance(8)
    assert torch.autograd._profiler_enabled()
    run.close()
    assert not torch.autograd._profiler_enabled() and not list(tmp_path.iterdir())
    toy.training().close()
