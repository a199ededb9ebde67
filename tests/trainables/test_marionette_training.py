"""MarioNette in training: helpful starts, optimisers, gradients, checkpoints, precision, refusals."""

from copy import deepcopy

import pytest
import torch

from tests.trainables.marionette import WIDE, small
from trainables import build, noise


def test_starts_that_help_small_models():
    image = torch.rand(5, 3, 32, 32) * 0.9 + 0.05
    plain, helped = small(), small(alpha_bias=-3.0, switch_bias=2.0, background_init="mean")
    alpha, darker = (model.sprites()[1][:, 3].logit() for model in (plain, helped))
    torch.testing.assert_close(darker, alpha - 3, rtol=1e-4, atol=1e-4)
    assert torch.equal(plain.sprites()[1][:, :3], helped.sprites()[1][:, :3])
    torch.testing.assert_close(helped.switch_head[-1].bias, plain.switch_head[-1].bias + 2)
    before = plain.background(image)
    with torch.no_grad():
        plain.initialise(image)
        helped.initialise(image)
    assert torch.equal(plain.background(image), before)
    torch.testing.assert_close(helped.background(image), image.mean(0).expand(5, -1, -1, -1))


def train(model, optimizers, image, steps):
    for step in steps:
        for optimizer in optimizers:
            optimizer.zero_grad()
        model(image, step).loss.backward()
        for optimizer in optimizers:
            optimizer.step()


def test_backgrounds_have_a_learning_rate_of_their_own():
    model = small(lr=0.25, lr_background=0.5)
    (optimizer,) = model.optimizers()
    others, backgrounds = optimizer.param_groups
    assert (others["lr"], backgrounds["lr"]) == (0.25, 0.5)
    assert others["weight_decay"] == backgrounds["weight_decay"] == 0.01
    assert {id(p) for p in backgrounds["params"]} == {id(p) for p in model.backgrounds.parameters()}
    assert len(others["params"]) + len(backgrounds["params"]) == len(list(model.parameters()))


def test_learning_rates_are_constant_or_half_a_cosine():
    assert [small().lr_scale(step) for step in (0, 50, 100)] == [[1.0]] * 3
    model = small(schedule="cosine")
    assert [model.lr_scale(step)[0] for step in (0, 25, 50, 100, 200)] == pytest.approx([1, 0.853553, 0.5, 0, 0])


@pytest.mark.parametrize(
    "changes", [{}, {"n_backgrounds": 1}, {"switch": "straight_through", "replicate": True, **WIDE}]
)
def test_every_parameter_learns(changes):
    model = small(**changes)
    model(torch.rand(2, 3, 32, 32), 50).loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all() and parameter.grad.any(), name


def test_reconstruction_alone_moves_switches_and_shifts():
    model = small()
    model(torch.rand(2, 3, 32, 32), 0).reconstruction.square().sum().backward()
    for part in (model.switch_head, model.shift_head, model.projection, model.sprites, model.background_projection):
        assert all(parameter.grad.any() for parameter in part.parameters())


def test_shifts_see_the_sprite_with_its_gradient():
    model = small()
    seen = []
    model.shift_encoder.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    image = torch.rand(1, 3, 32, 32)
    model(image, 0)
    (glimpses,) = seen
    assert glimpses.shape == (2 * 16, 7, 16, 16) and glimpses.requires_grad
    torch.testing.assert_close(glimpses[5, :3], image[0, :, 4:20, 4:20])
    assert torch.equal(glimpses[:16, :3], glimpses[16:, :3])  # both layers see the same
    assert not torch.allclose(glimpses[0, 3:], glimpses[16, 3:])


def test_training_explains_a_batch():
    torch.manual_seed(1)
    image = torch.full((4, 3, 32, 32), 0.2)
    image[:, 0, 6:16, 10:20] = 1
    model = small(lr=3e-3, lr_background=1e-2)
    before = (model(image, 0).reconstruction - image).square().mean()
    train(model, model.optimizers(), image, range(20))
    assert (model(image, 20).reconstruction - image).square().mean() < 0.5 * before


def test_resuming_is_bit_identical():
    image = torch.rand(2, 3, 32, 32)
    generator = torch.Generator().manual_seed(0)
    model = small(lambda_switch_frac=0.5)
    optimizers = model.optimizers()
    with noise.drawn_from(generator):
        train(model, optimizers, image, range(2))
        weights, state = deepcopy(model.state_dict()), deepcopy(optimizers[0].state_dict())
        random = generator.get_state()
        train(model, optimizers, image, [2, 3])

        copy = small(lambda_switch_frac=0.5)
        copy.load_state_dict(weights)
        resumed = copy.optimizers()
        resumed[0].load_state_dict(state)
        generator.set_state(random)
        train(copy, resumed, image, [2, 3])
    for (name, a), b in zip(model.state_dict().items(), copy.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
        assert not torch.equal(a, weights[name]), name


@pytest.mark.parametrize(
    "extremes",
    [
        dict(lr=0.3, lr_background=3.0, logit_scale=100.0),
        dict(lambda_beta=100.0, lambda_switch=100.0, switch_bias=20.0, alpha_bias=-30.0),
        dict(switch="straight_through", switch_bias=-20.0, alpha_bias=30.0, weight_decay=1.0, n_sprites=1),
    ],
)
def test_extreme_values_stay_finite(extremes):
    model, image = small(**extremes), torch.rand(2, 3, 32, 32).round()
    optimizers = model.optimizers()
    for step in range(3):
        assert model(image, step).loss.isfinite()
        train(model, optimizers, image, [step])
        assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_saturated_alphas_and_switches_keep_gradients_finite():
    model = small()
    with torch.no_grad():
        model.switch_head[-1].bias.fill_(200.0)
        model.sprites.decoder[-1].bias.view(4, -1)[3] = 200.0
    output = model(torch.rand(2, 3, 32, 32), 0)
    output.loss.backward()
    assert output.masks[:, 0].max() < 1e-6  # the ground is out of sight
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_autocast_keeps_everything_after_the_networks_in_float32():
    model, image = small().eval(), torch.rand(2, 3, 32, 32)
    exact = model(image, 0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(image, 0)
    output.loss.backward()
    for name in ("loss", "reconstruction", "masks", "boxes", "presence"):
        assert getattr(output, name).dtype == torch.float32, name
    output.check(image)
    torch.testing.assert_close(output.reconstruction, exact.reconstruction, rtol=0, atol=0.03)


@pytest.mark.parametrize(
    ("size", "changes", "says"),
    [
        (96, {"anchor_spacing": 32}, "anchor_spacing 32 does not fit images of 96 pixels"),
        (48, {}, "anchor_spacing 16 does not fit images of 48 pixels"),
        (128, {"anchor_spacing": 12}, "anchor_spacing is 12; it must be a power of two"),
        (128, {"background_dim": 4}, "background_dim is 4; it must be a multiple of 8"),
        (128, {"code_dim": 0}, "code_dim is 0"),
        (128, {"n_sprites": 0}, "n_sprites is 0"),
        (128, {"logit_scale": 0.0}, "logit_scale is 0.0"),
        (128, {"lambda_beta": -1.0}, "lambda_beta is -1.0"),
        (128, {"lambda_switch_frac": 1.5}, "lambda_switch_frac is 1.5"),
        (128, {"switch": "hard"}, "switch is 'hard'"),
    ],
)
def test_what_does_not_fit_is_refused(size, changes, says):
    with pytest.raises(ValueError, match=says):
        build("marionette", changes, size)
