"""The loop that all models share: continuing, accumulating, and noticing bad numbers."""

import dataclasses

import numpy as np
import pytest
import torch

from data.loader import Split
from trainables import checkpoint
from trainables.scoring import panel
from trainables.training import Diverged, Task, Training

TASK = Task(model="slot_attention", image_size=32, steps=8, reports=4, seed=0, metric="mIoU_fg", validation_images=20)
SMALL = {"batch_size": 8, "num_slots": 6, "steps": 8}


@pytest.fixture(scope="module")
def split(tmp_path_factory) -> Split:
    """Forty plain scenes as a trial sees them."""
    from data import convert, spec

    index = convert.prepare(spec.parse("synthetic:plain-(32,32)"), cache=str(tmp_path_factory.mktemp("cache")))
    (shard,) = index.shards("val")
    return Split([index.read(shard).slice(0, 40).combine_chunks()])


def training(split, task=TASK, **hyperparameters):
    from search_spaces.slot_attention import TINY

    return Training(task, {**TINY, **SMALL, **hyperparameters}, 0, split, torch.device("cpu"))


def flat(run):
    return np.concatenate([p.detach().numpy().ravel() for p in run.model.parameters()])


def test_a_trial_continued_from_a_checkpoint_equals_an_uninterrupted_one(split, tmp_path):
    whole = training(split)
    reports = [whole.report(split) for _ in range(4)]
    first = training(split)
    first.report(split)
    checkpoint.save(tmp_path, first.state())
    second = training(split)
    second.load_state(checkpoint.newest(tmp_path))
    continued = [second.report(split) for _ in range(3)]
    assert np.array_equal(flat(whole), flat(second))
    assert [r["objective"] for r in reports[1:]] == [r["objective"] for r in continued]
    assert [r["report"] for r in continued] == [2, 3, 4] and continued[-1]["done"]


def test_validation_does_not_shift_the_noise_of_training(split):
    once, often = training(split), training(split)
    once.advance(4)
    for _ in range(4):
        often.advance(1)
        often.validate(split)
        panel(often.model, split, step=often.step)
    assert np.array_equal(flat(once), flat(often))


def test_micro_batches_give_the_gradient_of_the_full_batch(split, monkeypatch):
    from trainables import noise

    # The same noise for every image, so that splitting the batch does not change it.
    def alike(shape, like):
        return torch.linspace(-1, 1, int(np.prod(shape[1:]))).view(1, *shape[1:]).expand(shape)

    monkeypatch.setattr(noise, "normal", alike)
    whole = training(split)
    parts = training(split, dataclasses.replace(TASK, micro_batch=3))
    logged = [run.advance(1) for run in (whole, parts)]
    assert logged[0]["loss"] == pytest.approx(logged[1]["loss"], rel=1e-5)
    gradients = [
        torch.cat([p.grad.ravel() for p in run.model.parameters() if p.grad is not None]) for run in (whole, parts)
    ]
    assert torch.allclose(*gradients, rtol=1e-3, atol=1e-4 * float(gradients[0].abs().max()))


def test_bad_numbers_end_a_trial_with_the_reason(split):
    run = training(split)
    with torch.no_grad():
        next(run.model.parameters()).fill_(float("nan"))
    with pytest.raises(Diverged, match="training loss is nan"):
        run.report(split)


def test_the_learning_rate_follows_the_models_schedule(split):
    run = training(split, lr=0.5)
    seen = []
    for step in range(4):
        run.advance(1)
        seen.append(run.optimizers[0].param_groups[0]["lr"])
        assert seen[-1] == pytest.approx(0.5 * run.model.lr_scale(step)[0])
    assert len(set(seen)) > 1


def test_a_checkpoint_of_another_model_is_refused(split):
    state = training(split).state()
    for change, says in (({"model": "space"}, "model is 'space'"), ({"image_size": 64}, "image_size is 64")):
        with pytest.raises(ValueError, match=says):
            training(split).load_state({**state, **change})


def test_a_checkpoint_of_other_hyperparameters_is_refused(split):
    state = training(split, lr=0.5).state()
    with pytest.raises(ValueError, match=r"other hyperparameters \(lr\)"):
        training(split, lr=0.25).load_state(state)


def test_a_gpu_checkpoint_goes_on_without_one(split, tmp_path):
    first = training(split)
    first.report(split)
    checkpoint.save(tmp_path, first.state() | {"device": "cuda", "noise": torch.zeros(16, dtype=torch.uint8)})
    runs = []
    for _ in range(2):
        runs.append(training(split))
        runs[-1].load_state(checkpoint.newest(tmp_path))
        runs[-1].report(split)
    assert runs[0].step == 4
    assert np.array_equal(flat(runs[0]), flat(runs[1])), "fresh random numbers, but repeatable ones"


def test_the_newest_checkpoint_is_the_highest_step_inside_and_a_cut_one_is_passed_over(split, tmp_path):
    run = training(split)
    for folder in ("checkpoint_000001", "checkpoint_000000"):  # numbered from 0 again after a restart
        (tmp_path / folder).mkdir()
        run.report(split)
        path = checkpoint.save(tmp_path / folder, run.state())
    assert checkpoint.newest(tmp_path)["step"] == 4
    path.write_bytes(path.read_bytes()[:1000])
    assert checkpoint.newest(tmp_path)["step"] == 2
    with pytest.raises(ValueError, match="cannot be read"):
        checkpoint.load(path)
    assert checkpoint.newest(tmp_path / "nowhere") is None


def test_a_checkpoint_cannot_run_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "pwned"), "w"))

    torch.save({"step": 1, "evil": Evil()}, tmp_path / "step_000000001.pt")
    assert checkpoint.newest(tmp_path) is None
    assert not (tmp_path / "pwned").exists()
