"""One training step: timed, or its operations counted."""

import pytest
import torch

import trainables
from study import presets
from study.cluster import planning
from study.config import StudyConfig
from tests.trainables.test_compiled import Bad, as_it_was
from tests.trainables.test_contract import tiny
from trainables import compiled

__all__ = ["as_it_was"]  # after each test here too


@pytest.mark.parametrize(("preset", "images"), [("tiny", 3), ("paper", 1)])
def test_a_step_in_the_middle_of_a_trial_is_timed_on_the_images_of_a_pass(preset, images):
    study = StudyConfig(model="slot_attention", preset=preset, micro_batch=3, data="synthetic-(32,32)")
    model = trainables.build("slot_attention", tiny("slot_attention", batch_size=8, steps=1000), 32)
    seen = []
    model.register_forward_pre_hook(lambda _, arguments: seen.append((len(arguments[0]), arguments[1])))
    timed = planning.time_step(presets.resolve(study, has_gpu=False), model, torch.device("cpu"))
    assert timed.images == images and seen == [(images, 500)] * 2 and timed.failure is None
    assert timed.gpu is None and timed.remarks(8) == f", scaled up from {images}" and timed.remarks(images) == ""


@pytest.mark.parametrize(
    ("works", "peak", "says"),
    [
        (0.59, 4, "kernels run in 59% of a step: two trials at a time may train more together, try --gpus 0.5"),
        (0.97, 4, "kernels run in 97% of a step: a second trial at a time would gain little"),
        (0.59, 40, "kernels run in 59% of a step, but two trials do not fit into its 80 GiB"),
    ],
)
def test_whether_trials_should_share_a_gpu_depends_on_its_idle_time_and_memory(works, peak, says):
    assert planning.OnGpu(works, peak * 2**30, 80 * 2**30).advice() == says


@pytest.mark.gpu
def test_a_step_on_a_gpu_tells_how_it_uses_it():
    study = StudyConfig(model="slot_attention", preset="tiny", data="synthetic-(32,32)")
    model = trainables.build("slot_attention", tiny("slot_attention", batch_size=8, steps=1000), 32)
    timed = planning.time_step(presets.resolve(study, has_gpu=True), model, torch.device("cuda"), watched=True)
    assert timed.gpu is not None and 0 < timed.gpu.works <= 1 and 0 < timed.gpu.peak < timed.gpu.memory


@pytest.mark.parametrize("part", ["forward", "backward"])
def test_a_plan_says_that_it_is_one_without_torch_compile(part, monkeypatch):
    def backend(graph, inputs):
        if part == "forward":
            raise ValueError("no such kernel")
        return lambda *args: [Bad.apply(x) for x in graph(*args)]

    monkeypatch.setattr(compiled, "BACKEND", backend)
    study = StudyConfig(model="slot_attention", preset="tiny", data="synthetic-(32,32)", compile=True)
    model = trainables.build("slot_attention", tiny("slot_attention", batch_size=2, steps=1000), 32)
    timed = planning.time_step(presets.resolve(study, has_gpu=False), model, torch.device("cpu"))
    assert timed.remarks(2) == "; goes on without --compile, which failed: ValueError: no such kernel"


def test_a_batch_that_no_memory_holds_is_named():
    study = presets.resolve(StudyConfig(model="slot_attention", data="synthetic-(32,32)", preset="tiny"), has_gpu=False)
    model = trainables.build("slot_attention", tiny("slot_attention", batch_size=10**9), 32)
    with pytest.raises(ValueError, match="a step with 1,000,000,000 images does not fit into memory; give a smaller"):
        planning.time_step(study, model, torch.device("cpu"))


def test_the_operations_of_an_image_are_counted():
    model = trainables.build("slot_attention", {"num_iters": 1}, 32)
    more = trainables.build("slot_attention", {"num_iters": 3}, 32)
    assert 0 < planning.count_operations(model, 32) < planning.count_operations(more, 32)


@pytest.mark.parametrize("name", trainables.names())
def test_the_operations_of_every_model_can_be_counted(name):
    model = trainables.build(name, tiny(name), 32)
    assert planning.count_operations(model, 32) > 0
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in model.parameters())
