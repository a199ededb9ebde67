"""SPACE: the published counts, the pieces' known values, gradients, checkpoints, precision."""

import math
from copy import deepcopy

import pytest
import torch

from trainables import build, noise, typed_config
from trainables.space import Config, Model
from trainables.space.background import Background, Mixture, resize, stick_breaking
from trainables.space.foreground import compose, place
from trainables.space.model import boundary_loss, log_likelihood
from trainables.spatial_transformer import segment

SMALL = Config(
    steps=100,
    grid=4,
    glimpse=8,
    fg_width=0.25,
    z_what_dim=8,
    bg_components=3,
    bg_width=0.25,
    bg_hidden=16,
    z_mask_dim=4,
    z_comp_dim=4,
    fg_optimizer="adam",
    fg_lr=1e-3,
    boundary_off_frac=0.5,
)


def small(size=32, **changes):
    torch.manual_seed(0)
    return Model(typed_config.make(Config, {**vars(SMALL), **changes}), size)


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_parameter_counts_are_the_published_ones():
    model = Model(Config(), 128)
    fg, bg = model.foreground, model.background
    assert (count(model), count(fg), count(bg)) == (5_307_651, 2_357_167, 2_950_484)
    parts = [count(part) for part in fg.encoder.children()]
    assert parts == [445_008, 295_680, 295_296, 516, 516, 129, 258]
    assert [count(part) for part in fg.children()] == [1_037_403, 724_000, 595_764]
    assert {name: count(part) for name, part in bg.named_children()} == {
        "image_encoder": 375_296,
        "posterior_lstm": 41_472,
        "posterior_head": 4_160,
        "component_encoder": 328_448,
        "mask_decoder": 2_123_217,
        "component_decoder": 37_923,
        "prior_lstm": 25_088,
        "prior_head": 4_160,
        "component_prior": 10_432,
    }
    kinds = [type(module).__name__ for module in model.modules()]
    assert (kinds.count("BatchNorm2d"), kinds.count("GroupNorm")) == (12, 36)


@pytest.mark.parametrize(("size", "background"), [(32, 2_347_412), (64, 2_544_788), (96, 2_721_108)])
def test_parameter_counts_at_other_sizes(size, background):
    model = Model(Config(), size)
    assert (count(model.foreground), count(model.background)) == (2_357_167, background)


def test_parameter_count_at_half_width():
    model = Model(Config(grid=4, glimpse=16, fg_width=0.5, z_what_dim=16), 32)
    assert count(model.foreground) == 440_159


def test_narrow_norms_keep_four_channels_per_group():
    norms = [module for module in small().modules() if isinstance(module, torch.nn.GroupNorm)]
    assert norms and all(norm.num_channels // norm.num_groups >= 4 or norm.num_groups == 1 for norm in norms)


@pytest.mark.parametrize("scale", [1, 50])
def test_background_masks_sum_to_one(scale):
    torch.manual_seed(0)
    logits = scale * torch.randn(2, 4, 1, 8, 8).sign() if scale > 1 else torch.randn(2, 4, 1, 8, 8)
    masks = stick_breaking(logits)
    assert masks.shape == (2, 5, 1, 8, 8)
    torch.testing.assert_close(masks.sum(1), torch.ones(2, 1, 8, 8), rtol=0, atol=1e-6)
    v = logits.sigmoid()
    torch.testing.assert_close(masks[:, 1], v[:, 1] * (1 - v[:, 0]), rtol=1e-5, atol=1e-6)


def test_a_single_background_component_takes_every_pixel():
    torch.manual_seed(0)
    background = Background(typed_config.make(Config, {**vars(SMALL), "bg_components": 1}), 32)
    mixture = background(torch.rand(2, 3, 32, 32), sample=True)
    assert torch.equal(mixture.masks, torch.ones(2, 1, 1, 32, 32))
    assert torch.equal(mixture.image, mixture.components[:, 0])


def test_masks_keep_the_benchmarks_argmax():
    torch.manual_seed(0)
    alphas = torch.rand(3, 6, 1, 16, 16) ** 3
    masks = segment(alphas)
    torch.testing.assert_close(masks.sum(1), torch.ones(3, 1, 16, 16), rtol=0, atol=1e-6)
    assert masks.min() >= 0
    published = torch.cat([1 - alphas.sum(1, keepdim=True), alphas], dim=1)
    assert (published < 0).any()
    assert torch.equal(masks.argmax(1), published.argmax(1))


def cells(N, **changes):
    """Arguments of ``compose`` for N opaque white glimpses that fill the image."""
    ones = torch.ones(1, N, 1)
    where = torch.tensor([1.0, 1.0, 0.0, 0.0]).expand(1, N, 4)
    glimpse = torch.ones(1, N, 3, 32, 32)
    arguments = dict(appearance=glimpse, alpha=glimpse[:, :, :1], z_pres=ones, z_depth=0 * ones, z_where=where)
    return compose(**{**arguments, **changes}, size=128)


def test_absent_objects_leave_the_background():
    torch.manual_seed(0)
    canvas = cells(4, z_pres=torch.zeros(1, 4, 1))
    assert not canvas.alpha.any() and not canvas.image.any()
    assert float(boundary_loss(canvas)) == pytest.approx(9212.1266, rel=1e-5)
    image, ground = torch.rand(1, 3, 128, 128), mixture_of(torch.rand(1, 2, 3, 128, 128), torch.rand(1, 1, 1, 128, 128))
    density = torch.distributions.Normal(0.0, 0.15).log_prob
    behind = (density(image[:, None] - ground.components) + ground.log_masks).logsumexp(1)
    expected = torch.logaddexp(density(image) + math.log(1e-5), behind + math.log(1 + 1e-5))
    torch.testing.assert_close(log_likelihood(image, canvas.image, canvas.alpha, ground, 0.15), expected)


def test_a_pasted_frame_overlaps_with_what_it_cuts():
    free = cells(1, alpha=torch.zeros(1, 1, 1, 32, 32))
    assert float(free.frame.max()) == pytest.approx(1000 / 1024)
    assert not free.frame[..., 28:100, 28:100].any()
    assert boundary_loss(cells(1)) > boundary_loss(free) + 1000


def mixture_of(components, masks):
    """A Mixture of ``components`` (B, 2, 3, H, W) with ``masks`` (B, 1, 1, H, W) and their complement."""
    masks = torch.cat([masks, 1 - masks], dim=1)
    return Mixture((masks * components).sum(1), components, masks, (masks + 1e-5).log(), {})


def test_likelihood_of_a_perfect_explanation():
    image = torch.rand(1, 3, 128, 128)
    ground = mixture_of(image[:, None].expand(-1, 2, -1, -1, -1), torch.ones(1, 1, 1, 128, 128))
    total = log_likelihood(image, image, torch.full((1, 1, 128, 128), 0.5), ground, 0.15).double().sum()
    assert 0.5 < float(total) - 48_079.6 < 3.5


def test_the_nearer_object_wins():
    depth = torch.tensor([[[-3.0], [3.0]]])
    colours = torch.stack([torch.ones(3, 32, 32), torch.zeros(3, 32, 32)])[None]
    image = cells(2, appearance=colours, z_depth=depth).image
    assert (image[..., 2:-2, 2:-2] > 0.999).all()  # a pasted glimpse fades at its own edge


def test_cells_are_numbered_row_by_row():
    z_where = place(torch.zeros(1, 64, 2), torch.zeros(1, 64, 2))
    assert z_where[0, 9].tolist() == [0.5, 0.5, -0.625, -0.625]
    assert z_where[0, 7].tolist() == [0.5, 0.5, 0.875, -0.875]
    moved = place(torch.zeros(1, 64, 2), torch.full((1, 64, 2), 50.0))
    assert moved[0, 9, 2:].tolist() == pytest.approx([-0.375, -0.375])


def test_schedules_follow_the_benchmark():
    model = Model(Config(grid=4), 32)
    assert model.schedules(0) == model.schedules(4_000) == {"pi": 0.1, "mu_s": -1.0, "tau": 2.5}
    assert model.schedules(7_000)["pi"] == pytest.approx(0.055)
    assert model.schedules(10_000)["pi"] == 0.01
    assert model.schedules(15_000)["mu_s"] == pytest.approx(-1.5)
    assert model.schedules(20_000) == model.schedules(159_999) == {"pi": 0.01, "mu_s": -2.0, "tau": 2.5}


def test_only_the_foreground_warms_up():
    model = small(fg_warmup_frac=0.1)
    assert [model.lr_scale(step) for step in (0, 4, 9, 99)] == [[0.1, 1], [0.5, 1], [1, 1], [1, 1]]
    assert small().lr_scale(0) == [1, 1]
    fg, bg = model.optimizers()
    assert sum(len(group["params"]) for o in (fg, bg) for group in o.param_groups) == len(list(model.parameters()))
    assert fg.param_groups[0]["lr"] == model.config.fg_lr and bg.param_groups[0]["lr"] == model.config.bg_lr


@pytest.mark.parametrize("components", [1, 3])
def test_every_parameter_learns(components):
    model, image = small(bg_components=components), torch.rand(2, 3, 32, 32)
    train(model, model.optimizers(), image, range(2))  # the first LSTM state starts at zero: no gradient at step 0
    model.zero_grad()
    model(image, step=10).loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), name


def test_reconstruction_alone_moves_the_boxes():
    model = small()
    model(torch.rand(2, 3, 32, 32), step=10).reconstruction.sum().backward()
    for head in (model.foreground.encoder.shift, model.foreground.encoder.scale):
        assert head.weight.grad.any()


def test_noise_comes_in_the_documented_order(monkeypatch):
    drawn = []
    for name in ("uniform", "normal"):

        def record(shape, like, name=name):
            drawn.append((name, *shape))
            return torch.full(tuple(shape), 0.5)

        monkeypatch.setattr(noise, name, record)
    model, image = small(), torch.rand(2, 3, 32, 32)
    model(image, step=0)
    fg = [("uniform", 2, 16, 1)] + [("normal", 2, 16, D) for D in (1, 2, 2, 8)]
    assert drawn == [*fg, *[("normal", 2, 4)] * 3, ("normal", 6, 4)]
    drawn.clear()
    model.eval()(image, step=0)
    assert not drawn
    for key in ("sample_posterior", "replicate"):
        small(**{key: True}).eval()(image, step=0)
        assert len(drawn) == 9
        drawn.clear()


def test_the_batch_decodes_as_one_by_one():
    """Decoding masks together and splitting the broadcast latent's first convolution must not change the result."""
    background = small().eval().background
    z = torch.randn(6, 4)
    together = background.mask_decoder(z).sigmoid()
    looped = torch.cat([background.mask_decoder(one[None]) for one in z]).sigmoid()
    torch.testing.assert_close(together, looped, rtol=0, atol=1e-6)

    decoder = background.component_decoder
    spread = torch.cat([z[..., None, None].expand(-1, -1, 40, 40), decoder.coordinates.expand(6, -1, -1, -1)], dim=1)
    plain = decoder.head(decoder.rest(decoder.first(spread))).sigmoid()
    torch.testing.assert_close(decoder(z), plain, rtol=0, atol=1e-6)
    x, y = decoder.coordinates[0]
    assert x[0, 0] == -1 and x[0, -1] == 1 and y[-1, 0] == 1 and y[0, -1] == -1


def test_the_loss_is_the_sum_of_its_terms():
    model = small(kl_weight=0.5, boundary_weight=2.0)
    output = model(torch.rand(2, 3, 32, 32), step=10)
    kl = sum(value for name, value in output.terms.items() if name.startswith("kl_"))
    torch.testing.assert_close(output.loss, output.terms["nll"] + 0.5 * kl + output.terms["boundary"])
    assert len([name for name in output.terms if name.startswith("kl_")]) == 7
    assert "boundary" not in model(torch.rand(2, 3, 32, 32), step=50).terms
    assert "boundary" not in small(boundary_weight=0.0)(torch.rand(1, 3, 32, 32), step=0).terms


def test_fixed_alpha_reaches_only_the_mixture():
    model, image = small(fix_alpha_frac=0.2).eval(), torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        free, fixed, after = (model(image, step) for step in (0, 19, 20))
    assert torch.equal(free.reconstruction, after.reconstruction)
    assert not torch.allclose(fixed.reconstruction, free.reconstruction)
    assert torch.equal(fixed.terms["boundary"], free.terms["boundary"])


@pytest.mark.parametrize(("size", "grid"), [(32, 4), (64, 4), (64, 8), (96, None), (128, 8)])
@pytest.mark.parametrize("B", [1, 2])
def test_output_keeps_the_contract(size, grid, B):
    model, image = small(size, grid=grid), torch.rand(B, 3, size, size)
    N = (grid or size // 16) ** 2
    for mode in (True, False):
        with torch.no_grad():
            output = model.train(mode)(image, step=0)
        output.check(image)
        assert output.masks.shape[1] == 1 + N and output.boxes.shape == (B, N, 4)
        assert output.loss.isfinite()


def test_appearances_are_seen_through_their_boxes():
    model, image = small().eval(), torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        output = model(image, step=0)
    x0, y0, x1, y1 = output.boxes[0, 5].round().int().tolist()
    cell = output.appearances[0, 6]
    assert cell[:, y0 + 1 : y1 - 1, x0 + 1 : x1 - 1].min() > 0
    cell[:, max(y0 - 1, 0) : y1 + 1, max(x0 - 1, 0) : x1 + 1] = 0
    assert not cell.any()


def train(model, optimizers, image, steps):
    for step in steps:
        for optimizer in optimizers:
            optimizer.zero_grad()
        model(image, step).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), model.clip_norm())
        for optimizer in optimizers:
            optimizer.step()


def test_resuming_is_bit_identical():
    image = torch.rand(2, 3, 32, 32)
    generator = torch.Generator().manual_seed(0)
    model = small(fg_optimizer="rmsprop")
    optimizers = model.optimizers()
    with noise.drawn_from(generator):
        train(model, optimizers, image, range(2))
        weights = deepcopy(model.state_dict())
        states = deepcopy([optimizer.state_dict() for optimizer in optimizers])
        random = generator.get_state()
        train(model, optimizers, image, [2])

        copy = small(fg_optimizer="rmsprop")
        copy.load_state_dict(weights)
        resumed = copy.optimizers()
        for optimizer, state in zip(resumed, states, strict=True):
            optimizer.load_state_dict(state)
        generator.set_state(random)
        train(copy, resumed, image, [2])
    for (name, a), b in zip(model.state_dict().items(), copy.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    for name, parameter in model.named_parameters():
        assert not torch.equal(parameter, weights[name]), name


def test_training_explains_a_batch():
    torch.manual_seed(1)
    image = torch.full((4, 3, 32, 32), 0.2)
    image[:, 0, 6:16, 10:20] = 1
    model = small(bg_components=1)
    before = (model(image, 0).reconstruction - image).square().mean()
    train(model, model.optimizers(), image, range(20))
    assert (model(image, 20).reconstruction - image).square().mean() < 0.75 * before


@pytest.mark.parametrize(
    "extremes",
    [
        dict(sigma=0.01, pi_start=1e-30, pi_end=1 - 1e-6, tau_start=0.05, tau_end=0.05),
        dict(sigma=5.0, kl_weight=100.0, mu_s_start=-9.0, mu_s_end=9.0, tau_start=50.0, boundary_weight=100.0),
        dict(fg_lr=0.3, bg_lr=0.3, grad_clip=None),
    ],
)
def test_extreme_values_stay_finite(extremes):
    model, image = small(**extremes), torch.rand(2, 3, 32, 32)
    train_clip = model.clip_norm() or math.inf
    optimizers = model.optimizers()
    for step in range(3):
        loss = model(image, step).loss
        assert loss.isfinite()
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), train_clip, error_if_nonfinite=True)
        for optimizer in optimizers:
            optimizer.step()


def test_saturated_heads_keep_finite_gradients():
    model = small()
    with torch.no_grad():
        for head in (model.foreground.encoder.scale, model.foreground.encoder.depth, model.foreground.encoder.shift):
            head.bias.fill_(-200.0)
    output = model(torch.rand(2, 3, 32, 32), step=0)
    output.loss.backward()
    assert output.loss.isfinite()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_autocast_keeps_the_loss_of_several_background_components_in_float32():
    model, image = small(bg_components=3), torch.rand(2, 3, 32, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(image, step=0)
    output.loss.backward()
    assert output.loss.dtype == output.reconstruction.dtype == output.masks.dtype == torch.float32
    assert output.loss.isfinite()
    output.check(image)


@pytest.mark.parametrize(
    ("size", "changes", "says"),
    [
        (48, {}, "image size 48"),
        (96, {"grid": 8}, "grid 8 does not fit images of 96 pixels; use one of 3, 6, 12"),
        (128, {"glimpse": 24}, "glimpse is 24"),
        (128, {"bg_components": 0}, "bg_components is 0"),
        (128, {"pi_end": 0.0}, "pi_end is 0.0"),
        (128, {"tau_end": 0.0}, "tau_end is 0.0"),
        (128, {"pi_first_frac": 0.5}, "pi_first_frac is 0.5"),
        (128, {"boundary_off_frac": 1.5}, "boundary_off_frac is 1.5"),
        (128, {"kl_weight": -1.0}, "kl_weight is -1.0"),
        (128, {"fg_optimizer": "sgd"}, "fg_optimizer is 'sgd'"),
    ],
)
def test_what_does_not_fit_is_refused(size, changes, says):
    with pytest.raises(ValueError, match=says):
        build("space", changes, size)


def test_resize_leaves_fitting_maps_alone():
    x = torch.rand(1, 1, 128, 128)
    assert resize(x, 128) is x
    assert resize(x, 96).shape == (1, 1, 96, 96)
