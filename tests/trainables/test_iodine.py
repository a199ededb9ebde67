"""IODINE as a whole: counts, symmetries, gradient flow, schedules, extremes."""

import math

import pytest
import torch

import trainables
from tests.trainables.iodine import LATENTS, both, count, fix_noise, images, model, norms, refinements
from trainables.iodine import Config, Model


@pytest.mark.parametrize(
    ("replicate", "image_size", "affine", "total"),
    [(True, 128, 197_120, 1_637_060), (False, 128, 524, 1_440_464), (False, 32, 524, 1_440_464)],
)
def test_published_parameter_counts(replicate, image_size, affine, total):
    with torch.device("meta"):
        m = trainables.build("iodine", {"replicate": replicate}, image_size)
    assert isinstance(m, Model)
    assert [count(layer) for layer in (m.decoder.first, *m.decoder.rest) if count(layer)] == [
        74_944,
        36_928,
        36_928,
        36_928,
        260,
    ]
    assert count(m.decoder) == 185_988
    assert [count(layer) for layer in m.refinement.conv if count(layer)] == [9_856, 36_928, 36_928, 36_928]
    assert count(m.refinement.linear) == 16_640
    assert count(m.refinement.lstm) == 1_050_624
    assert count(m.refinement.head) == 65_792
    assert count(*norms(m)) == affine
    assert m.posterior.numel() == 256
    assert count(m) == total


def test_published_affine_maps_are_per_element():
    with torch.device("meta"):
        m = trainables.build("iodine", {"replicate": True}, 64)
    shapes = [tuple(norm.weight.shape) for norm in norms(m)]
    assert shapes == [(1, 64, 64), (1, 64, 64), (3, 64, 64), (1, 64, 64), (128,), (128,)]


@pytest.mark.parametrize(("width", "total"), [(16, 37_408), (32, 142_896)])
def test_narrow_parameter_counts(width, total):
    keys = {"z_size": width, "dec_channels": width, "refine_channels": width, "lstm_dim": 2 * width}
    assert count(model(**keys)) == total


@both
def test_masks_share_out_each_pixel_and_colours_stay_in_range(replicate):
    m, x = model(replicate=replicate), images(2)
    output = m(x, 0)
    output.check(x)
    reconstruction = output.reconstruction.detach()
    assert 0 <= float(reconstruction.min()) and float(reconstruction.max()) <= 1
    assert output.masks.shape == (2, 4, 1, 32, 32)
    torch.testing.assert_close(output.reconstruction, (output.masks * output.appearances).sum(1))


@both
def test_permuting_the_noise_permutes_the_slots(replicate, monkeypatch):
    m, x, eps = model(replicate=replicate), images(2), torch.randn(3, 2, *LATENTS)
    order = torch.tensor([2, 0, 3, 1])
    fix_noise(monkeypatch, eps)
    before = m(x, 0)
    fix_noise(monkeypatch, eps[:, :, order])
    after = m(x, 0)
    torch.testing.assert_close(after.loss, before.loss, rtol=1e-5, atol=0)
    torch.testing.assert_close(after.reconstruction, before.reconstruction, rtol=0, atol=1e-4)
    torch.testing.assert_close(after.masks, before.masks[:, order], rtol=0, atol=1e-4)
    torch.testing.assert_close(after.appearances, before.appearances[:, order], rtol=0, atol=1e-4)
    assert (before.masks[:, 0] - before.masks[:, 1]).abs().max() > 1e-3


def test_images_do_not_see_each_other(monkeypatch):
    m, x, eps = model(), images(4), torch.randn(3, 4, *LATENTS)
    fix_noise(monkeypatch, eps)
    together = m(x, 0)
    fix_noise(monkeypatch, eps[:, 2:3])
    alone = m(x[2:3], 0)
    torch.testing.assert_close(alone.masks, together.masks[2:3], rtol=0, atol=1e-4)
    torch.testing.assert_close(alone.reconstruction, together.reconstruction[2:3], rtol=0, atol=1e-4)


def test_one_iteration_refines_nothing():
    m = model(num_iters=1)
    output = m(images(2), 0)
    torch.testing.assert_close(output.loss, output.terms["nll_1"] + output.terms["kl_1"])
    output.loss.backward()
    assert all(p.grad is None for p in m.refinement.parameters())
    assert all(p.grad is not None and p.grad.any() for p in m.decoder.parameters())
    assert m.posterior.grad is not None and m.posterior.grad.any()


@both
@pytest.mark.parametrize("num_iters", [2, 3])
def test_every_parameter_gets_a_gradient(replicate, num_iters):
    m = model(replicate=replicate, num_iters=num_iters)
    m(images(2), 0).loss.backward()
    for name, parameter in m.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        # a single refinement meets the LSTM's state at zero
        assert parameter.grad.any() or (num_iters == 2 and name == "refinement.lstm.weight_hh"), name


@pytest.mark.parametrize("enabled", [False, True])
def test_the_callers_grad_mode_is_kept(enabled):
    m, x = model().eval(), images(2)
    with torch.set_grad_enabled(enabled):
        output = m(x, 0)
        assert torch.is_grad_enabled() == enabled
    tensors = [output.loss, output.reconstruction, output.masks, output.appearances]
    assert all(tensor.requires_grad == enabled for tensor in tensors)
    assert m.decoder.first.weight.grad is None


def test_gradients_or_not_the_explanation_is_the_same(monkeypatch):
    m, x, eps = model(), images(2), torch.randn(3, 2, *LATENTS)
    fix_noise(monkeypatch, eps)
    trained = m(x, 0)
    fix_noise(monkeypatch, eps)
    with torch.no_grad():
        evaluated = m.eval()(x, 0)
    for key in ("loss", "masks", "reconstruction"):
        torch.testing.assert_close(getattr(evaluated, key), getattr(trained, key).detach())


@pytest.mark.parametrize(
    ("weigh_first", "weights"), [(True, [0.25, 0.5, 0.75, 1.0]), (False, [0.0, 1 / 3, 2 / 3, 1.0])]
)
def test_the_loss_weighs_late_iterations_more(weigh_first, weights):
    output = model(num_iters=4, kl_weight=0.5, weigh_first=weigh_first)(images(2), 0)
    energies = [output.terms[f"nll_{t}"] + 0.5 * output.terms[f"kl_{t}"] for t in (1, 2, 3, 4)]
    expected = sum(weight * energy for weight, energy in zip(weights, energies, strict=True))
    torch.testing.assert_close(output.loss, expected)


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_the_first_decoder_layer_is_a_convolution(kernel):
    m = model(dec_kernel=kernel)
    z = torch.randn(2, *LATENTS)
    extent = 32 + 4 * (kernel - 1)
    line = torch.linspace(-1, 1, extent)
    tiled = torch.cat(
        [
            z.flatten(0, 1)[..., None, None].expand(-1, -1, extent, extent),
            line.expand(8, 1, extent, extent),
            line[:, None].expand(8, 1, extent, extent),
        ],
        dim=1,
    )
    colour, logits = m.decoder(z)
    expected = m.decoder.rest(m.decoder.first(tiled)).unflatten(0, (2, 4))
    torch.testing.assert_close(colour, expected[:, :, :3].sigmoid(), rtol=0, atol=1e-5)
    torch.testing.assert_close(logits, expected[:, :, 3:], rtol=0, atol=1e-5)


@pytest.mark.parametrize("image_size", [32, 64])
def test_an_untrained_published_model_shows_grey_in_equal_shares(image_size):
    torch.manual_seed(0)
    m = trainables.build("iodine", {"replicate": True}, image_size)
    with torch.no_grad():
        output = m(torch.full((1, 3, image_size, image_size), 0.5), 0)
    perfect = 3 * image_size**2 * math.log(0.1)
    assert float(output.loss) == pytest.approx(3 * (perfect + 28.69), abs=1.0)
    assert float(output.terms["nll_5"]) == pytest.approx(perfect, abs=0.2)
    assert 28.6 < float(output.terms["kl_5"]) < 29.1
    torch.testing.assert_close(output.masks, torch.full_like(output.masks, 1 / 11), rtol=0, atol=1e-6)


@both
@pytest.mark.parametrize("image_size", [32, 96])
def test_sizes_share_their_weights(image_size, replicate):
    m, x = model(image_size, replicate=replicate, num_slots=2), images(1, image_size)
    assert count(m) - count(*norms(m)) == count(model()) - count(*norms(model()))
    with torch.no_grad():
        m(x, 0).check(x)


def test_sigma_moves_in_a_straight_line():
    m = model(sigma_start=0.3, sigma_warmup_frac=0.5, steps=100)
    assert [m.sigma(step) for step in (0, 25, 50, 1000)] == pytest.approx([0.3, 0.2, 0.1, 0.1])
    assert float(m(images(1), 25).terms["sigma"]) == pytest.approx(0.2)
    assert model().sigma(0) == 0.1


def test_learning_rates():
    assert {model().lr_scale(step)[0] for step in (0, 10, 10**6)} == {1.0}
    decay = {"exp": [1, 0.1**0.5, 0.1, 0.1], "cosine": [1, 0.5, 0, 0]}
    for schedule, expected in decay.items():
        m = model(schedule=schedule, steps=100)
        assert [m.lr_scale(step)[0] for step in (0, 50, 100, 200)] == pytest.approx(expected)
    m = model(warmup_frac=0.1, steps=100)
    assert [m.lr_scale(step)[0] for step in (0, 4, 9, 50)] == pytest.approx([0.1, 0.5, 1, 1])


@pytest.mark.parametrize(
    "keys",
    [
        {"sigma": 0.005, "mixture": "channel"},
        {"sigma": 0.005, "mixture": "pixel", "kl_weight": 0.0},
        {"sigma": 5.0, "kl_weight": 100.0, "num_slots": 2},
        {"init_gain": 10.0, "scale_init": 20.0},
        {"init_gain": 1e-4, "scale_init": -200.0},
        {"num_iters": 8, "z_size": 1, "lstm_dim": 1, "refine_channels": 1, "dec_channels": 1, "dec_layers": 1},
    ],
)
def test_extreme_settings_stay_finite(keys):
    m = model(**keys)
    x = torch.cat([torch.zeros(1, 3, 32, 32), torch.ones(1, 3, 32, 32), images(1)])
    optimizer = m.optimizers()[0]
    for step in range(3):
        output = m(x, step)
        output.check(x)
        optimizer.zero_grad()
        output.loss.backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in m.parameters())
        optimizer.step()
    assert output.loss.isfinite()


def test_bfloat16_keeps_the_sensitive_parts_in_float32(monkeypatch):
    m, x, eps = model(), images(2), torch.randn(3, 2, *LATENTS)
    fix_noise(monkeypatch, eps)
    exact = m(x, 0)
    fix_noise(monkeypatch, eps)
    with torch.autocast("cpu", torch.bfloat16):
        output = m(x, 0)
        fix_noise(monkeypatch, eps)
        _, scene, gradients, posterior, state = refinements(m, x)[1]
    tensors = [output.loss, output.masks, *scene, *gradients, posterior, *state]
    assert {tensor.dtype for tensor in tensors} == {torch.float32}
    torch.testing.assert_close(output.loss, exact.loss, rtol=0.05, atol=0)
    output.loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in m.parameters())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_slots", 1),
        ("num_iters", 0),
        ("z_size", 0),
        ("dec_layers", 0),
        ("dec_kernel", 2),
        ("init_gain", 0.0),
        ("sigma_start", 0.0),
        ("warmup_frac", 1.1),
        ("sigma_warmup_frac", -0.1),
        ("kl_weight", -1.0),
        ("weight_decay", -1.0),
        ("schedule", "linear"),
        ("mixture", "image"),
    ],
)
def test_bad_values_are_named(key, value):
    with pytest.raises(ValueError, match=key):
        trainables.build("iodine", {key: value}, 32)


def test_a_single_iteration_must_be_weighed():
    with pytest.raises(ValueError, match="num_iters"):
        trainables.build("iodine", {"num_iters": 1, "weigh_first": False}, 32)


def test_defaults_are_the_published_configuration():
    c = Config()
    assert (c.lr, c.batch_size, c.steps, c.grad_clip, c.optimizer) == (3e-4, 32, 1_000_000, 5.0, "adam")
    assert (c.num_slots, c.num_iters, c.sigma, c.kl_weight, c.mixture) == (11, 5, 0.1, 1.0, "channel")
