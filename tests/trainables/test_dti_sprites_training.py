"""How DTI-Sprites trains: schedules, optimisers, the reassignment of unused sprites, resuming."""

from pathlib import Path

import pytest
import torch

import trainables
from tests.trainables import scenes
from tests.trainables.dti_sprites import BENT, FROZEN, SMALL, THAWED, diverse, model
from trainables import checkpoint
from trainables.dti_sprites import Config, Model
from trainables.training import Task, Training


def test_published_schedules() -> None:
    with torch.device("meta"):
        m = trainables.build("dti_sprites", {"replicate": True}, 128)
        ours = trainables.build("dti_sprites", {}, 128)
    scales = {step: m.lr_scale(step) for step in (0, 500, 1000, 312_499, 312_500, 500_000)}
    expected = {0: (0, 0), 500: (0.5, 0.5), 1000: (1, 1), 312_499: (1, 1), 312_500: (1, 0.1), 500_000: (1, 0.01)}
    for step, pair in expected.items():
        assert scales[step] == pytest.approx(pair), step
    assert ours.lr_scale(0) == pytest.approx([1e-3, 1e-3]) and ours.lr_scale(999) == pytest.approx([1, 1])
    c = Config()
    assert c.freeze_frac * c.steps == pytest.approx(50_000) and c.projective_frac * c.steps == pytest.approx(187_500)


def test_optimisers_hold_every_parameter_once() -> None:
    m = model(lr=1e-3, encoder_lr_mult=2.0, sprite_lr_mult=3.0, weight_decay=1e-5)
    sprites, network = m.optimizers()
    held = [p for optimizer in (sprites, network) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(map(id, held)) == sorted(map(id, m.parameters()))
    assert [group["lr"] for group in sprites.param_groups] == pytest.approx([3e-3])
    assert [group["lr"] for group in network.param_groups] == pytest.approx([2e-3, 1e-3])
    assert sprites.param_groups[0]["weight_decay"] == 0 and network.param_groups[1]["weight_decay"] == 1e-5


def test_the_published_optimiser_steps_the_encoder_for_every_predictor_that_shares_it() -> None:
    m = model(replicate=True, num_slots=4, lr=1e-3)
    network = m.optimizers()[1]
    weight, bias = next(m.encoder.parameters()), m.occlusion_head.last.bias
    for parameter in m.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = weight.detach().clone(), bias.detach().clone()
    network.step()
    assert float((before[0] - weight).mean()) == pytest.approx(5e-3, rel=1e-3)  # 3 layers, background, occlusion
    assert float((before[1] - bias).mean()) == pytest.approx(1e-3, rel=1e-3)
    network.load_state_dict(network.state_dict())
    assert int(network.state[weight]["step"]) == 5


def reassigning(step: int, **keys) -> Model:
    """A model after one training step, whose sprites were used (1, 0.5, 0.001) when it is time to judge them."""
    m = diverse(reassign_every=5, **keys)
    optimizers = m.optimizers()
    output = m(scenes.images(4, 32), BENT)
    output.loss.backward()
    for optimizer in optimizers:
        optimizer.step()
    for k, usage in enumerate((1.0, 0.5, 0.001)):
        output.terms[f"usage_{k}"] = torch.tensor(usage)
    m.before = m.sprites.detach().clone()
    m.after_step(step, output)
    return m


def test_unused_sprites_become_the_most_used_one() -> None:
    m = reassigning(BENT + 4)
    assert float(m.reassigned) == 1 and not m.usage.any()
    noise_on_copy, noise_on_best = m.sprites[2] - m.before[0], m.sprites[0] - m.before[0]
    for added in (noise_on_copy, noise_on_best):
        assert 0 < float(added.detach().abs().max()) < 1e-3
    assert not torch.equal(noise_on_copy, noise_on_best)
    assert torch.equal(m.sprites[1], m.before[1])
    assert torch.equal(m.masks[2], m.masks[0]) and not torch.equal(m.masks[1], m.masks[0])
    for parameter in m.sprite_heads.parameters():
        assert torch.equal(parameter[:, 2], parameter[:, 0]) and not torch.equal(parameter[:, 1], parameter[:, 0])
    rows = [(m.sprites, 0), (m.masks, 0), *((p, 1) for p in m.sprite_heads.parameters())]
    memories = {id(p): state for optimizer in m._optimizers for p, state in optimizer.state.items()}
    for parameter, axis in rows:
        for key in ("exp_avg", "exp_avg_sq"):
            memory = memories[id(parameter)][key].movedim(axis, 0)
            assert torch.equal(memory[2], memory[0]) and memory[2].data_ptr() != memory[0].data_ptr()


@pytest.mark.parametrize(("step", "usage"), [(FROZEN + 4, 0.0), (BENT, 1.0)])
def test_nothing_is_reassigned_while_frozen_or_too_early(step: int, usage: float) -> None:
    m = reassigning(step)
    assert float(m.reassigned) == 0 and torch.equal(m.sprites, m.before)
    assert float(m.usage[0]) == usage


def test_nothing_is_reassigned_where_nothing_was_used() -> None:
    m = diverse(reassign_every=1)
    before = m.sprites.detach().clone()
    output = m(scenes.images(2, 32), THAWED)
    for k in range(3):
        output.terms[f"usage_{k}"] = torch.tensor(0.0)
    m.after_step(THAWED, output)
    assert torch.equal(m.sprites, before) and float(m.reassigned) == 0


def test_a_trial_resumes_in_the_middle_of_its_schedules(tmp_path: Path) -> None:
    """Interrupted after sprites have thawed, between two reassignments, before homographies begin."""
    task = Task("dti_sprites", 32, steps=12, reports=1, seed=0, metric="mIoU_fg")
    keys = {**SMALL, "steps": 12, "batch_size": 4, "reassign_every": 4, "lr": 1e-2}
    split = scenes.split(4, 32)

    def trial(number: int) -> Training:
        return Training(task, keys, number, split, torch.device("cpu"))

    whole = trial(0)
    whole.advance(5)
    assert whole.model.usage.any()
    path = checkpoint.save(tmp_path, whole.state())
    whole.advance(6)
    resumed = trial(1)
    resumed.load_state(checkpoint.load(path))
    terms = resumed.advance(6)
    assert terms["frozen"] == 0 and terms["projective"] == pytest.approx(5 / 6)
    for key, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[key]), key
    assert float(whole.model.reassigned) > 0
