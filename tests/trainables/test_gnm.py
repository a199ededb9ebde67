"""GNM as a whole: the published counts, schedules and first losses, gradients, noise, the output's contract."""

import math

import pytest
import torch

from trainables import build, noise, typed_config
from trainables.gnm import Config, Model
from trainables.gnm.networks import Normal
from trainables.gnm.objects import draw

SMALL = Config(
    steps=100,
    feature_dim=16,
    hidden_dim=16,
    draw_steps=2,
    z_global_dim=4,
    z_what_dim=4,
    z_bg_dim=2,
    curriculum_frac=0.2,
)


def small(size=32, **changes):
    torch.manual_seed(0)
    return Model(typed_config.make(Config, {**vars(SMALL), **changes}), size)


def published(**changes):
    torch.manual_seed(0)
    return Model(Config(replicate=True, **changes), 128)


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def counts(module):
    return {name: count(part) for name, part in module.named_children()}


def test_parameter_counts_are_the_published_ones():
    with torch.device("meta"):
        model = Model(Config(), 128)
    assert count(model) == 8_636_446
    assert counts(model) == {
        "image_encoder": 632_608,
        "struct_draw": 5_957_376,
        "object_head": 51_467,
        "glimpse_decoder": 689_248,
        "background_encoder": 1_187_092,
        "background_prior": 26_452,
        "background_decoder": 92_203,
    }
    assert counts(model.struct_draw) == {
        "prior": 1_346_624,
        "posterior": 1_346_624,
        "latent_decoder": 2_648_576,
        "encoder_lstm": 266_752,
        "decoder_lstm": 201_216,
        "to_canvas": 147_584,
    }
    assert counts(model.object_head) == {"trunk": 33_536, "pres": 129, "where": 1_032, "depth": 258, "what": 16_512}


def test_parameter_counts_of_a_narrow_model():
    narrow = Config(feature_dim=64, hidden_dim=128, draw_steps=2, z_global_dim=16, z_what_dim=16, z_bg_dim=8)
    with torch.device("meta"):
        model = Model(narrow, 32)
    assert list(counts(model).values()) == [53_728, 762_112, 11_371, 42_976, 140_880, 4_912, 9_227]
    assert count(model) == 1_025_206


def test_boxes_start_where_they_are_told():
    where = small(scale_init=-0.5).object_head.where
    assert where.bias.tolist() == [-0.5] + 7 * [0.0]
    assert 0 < where.weight.abs().max() <= 0.01
    assert small().object_head.where.bias[0] == -1


def test_schedules_have_the_published_end_points():
    at = Model(Config(feature_dim=2, hidden_dim=2), 32).schedules
    assert [at(step)["tau"] for step in (0, 1000, 10_500, 20_000, 299_999)] == [1, 1, 0.75, 0.5, 0.5]
    assert [at(step)["rho"] for step in (0, 2000, 4000, 9000)] == [0.1, pytest.approx(0.0505), 0.001, 0.001]
    assert [at(step)["kl_global_weight"] for step in (0, 50_000, 100_000)] == [0, 0.5, 1]
    assert [at(step)["aux_where_weight"] for step in (0, 250, 500)] == [10, 5.5, 1]
    assert [at(step)["aux_bg_weight"] for step in (0, 25_000, 50_000)] == [50, 25.5, 1]


def test_terms_begin_where_the_published_ones_do():
    """Ranges over five seeds of the published model on a grey image, in nats; most depend on how many cells are on."""
    image = torch.full((2, 3, 128, 128), 0.5)
    torch.manual_seed(5)
    model = Model(Config(replicate=True), 128)
    with torch.no_grad(), noise.drawn_from(torch.Generator().manual_seed(0)):
        outputs = {step: model(image, step) for step in (0, 1, 1000)}
    assert 16_900 < outputs[0].loss < 21_000
    assert 26_100 < outputs[1].loss < 31_100  # alpha is fixed
    assert 14_800 < outputs[1000].loss < 15_800
    terms = outputs[1000].terms
    ranges = {
        "nll": (12_600, 13_400),
        "kl_what": (1195, 1787),
        "kl_where": (0.6, 1.5),
        "kl_pres": (4.6, 29),
        "aux_pres": (12, 41),
        "aux_where": (207, 574),
        "aux_depth": (1.4, 6.3),
        "aux_what": (154, 366),
    }
    for name, (low, high) in ranges.items():
        assert low < terms[name] < high, name
    assert 116 < terms["aux_bg"] * terms["aux_bg_weight"] < 315
    assert 1.6 < terms["kl_global"] * terms["kl_global_weight"] < 2.5


@pytest.mark.parametrize(("sigma", "expected"), [(0.2, -33_939), (0.5, 11_098)])
def test_likelihood_of_a_perfect_reconstruction(sigma, expected):
    model = small(128, sigma=sigma).eval()
    with torch.no_grad():
        model.object_head.pres.bias.fill_(-100.0)  # nothing before a grey background
        model.background_decoder.layers[-1].weight.zero_()
        model.background_decoder.layers[-1].bias.zero_()
        nll = model(torch.full((1, 3, 128, 128), 0.5), 0).terms["nll"]
    assert float(nll) == pytest.approx(expected, abs=1)


def test_the_loss_is_the_weighted_sum_of_its_terms():
    output = small(kl_weight=0.5, prior_kl_weight=0.25)(torch.rand(2, 3, 32, 32), step=10)
    terms = output.terms
    weights = {"kl_pres": 0.25, "kl_where": 0.25, "kl_depth": 0.25, "kl_what": 0.25, "kl_bg": 0.25}
    weights |= {"aux_pres": 1.0, "aux_depth": 1.0, "aux_what": 1.0}
    weights |= {name: terms[f"{name}_weight"] for name in ("kl_global", "aux_where", "aux_bg")}
    kl = sum(weight * terms[name] for name, weight in weights.items())
    torch.testing.assert_close(output.loss, terms["nll"] + 0.5 * kl)


def test_the_same_features_have_no_divergence():
    model = small()
    features = torch.randn(2, 16, 4, 4)
    with torch.no_grad():
        posterior, prior = model.object_head(features), model.object_head(features)
    kl = model._object_kl(posterior, prior, draw(posterior, 1.0, sample=True), 0.1)
    for name in ("kl_where", "kl_depth", "kl_what"):
        assert not kl[name].any(), name
    assert kl["kl_pres"].abs().max() < 1e-6
    assert min(float(kl[name].sum()) for name in kl if name.startswith("aux")) > 0


def test_boxes_have_an_auxiliary_prior():
    model = small(scale_prior_mean=-0.7, scale_prior_std=0.2, shift_prior_std=0.4)
    with torch.no_grad():
        posterior = model.object_head(torch.randn(2, 16, 4, 4))
    expected = Normal(torch.tensor([-0.7, 0, 0, 0]).expand(2, 16, 4), torch.tensor([0.2, 0.3, 0.4, 0.4]))
    latents = draw(posterior, 1.0, sample=True)
    assert model._object_kl(posterior, posterior, latents, 0.1)["aux_where"].min() > 0
    kl = model._object_kl(posterior._replace(where=expected), posterior, latents, 0.1)
    assert not kl["aux_where"].any()


def test_only_the_encoder_sees_centred_images():
    centred, plain = small(input_mean=0.5, input_std=0.25).eval(), small().eval()
    image = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        output, reference = centred(image, 0), plain((image - 0.5) / 0.25, 0)
    torch.testing.assert_close(output.boxes, reference.boxes)
    torch.testing.assert_close(output.reconstruction, reference.reconstruction)
    assert output.loss < reference.loss  # which compares with an image that no decoder can draw


def gradients(model, step):
    """Names of the parameters without a gradient."""
    model.zero_grad()
    model(torch.rand(2, 3, model.image_size, model.image_size), step).loss.backward()
    lazy = set()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        if not parameter.grad.any():
            lazy.add(name)
    return lazy


def test_every_parameter_learns():
    model = published()
    assert gradients(model, 2000) == set()
    prior = {f"struct_draw.prior.{name}" for name, _ in model.struct_draw.prior.named_parameters()}
    assert gradients(model, 0) == prior  # the weight of z_g's KL rises from 0


def test_alpha_is_fixed_for_a_while_after_the_first_step():
    model, image = small().eval(), torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        outputs = [model(image, step).reconstruction for step in (0, 1, 19, 20, 99)]
    assert torch.equal(outputs[0], outputs[3]) and torch.equal(outputs[0], outputs[4])
    assert torch.equal(outputs[1], outputs[2]) and not torch.allclose(outputs[0], outputs[1], atol=0.01)


def test_the_published_curriculum_ends_at_step_500():
    model, image = Model(Config(feature_dim=2, hidden_dim=2), 32).eval(), torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        before, at, first = (model(image, step).reconstruction for step in (499, 500, 0))
    assert torch.equal(at, first) and not torch.equal(before, first)


def test_noise_comes_in_the_documented_order(monkeypatch):
    drawn = []
    for name in ("uniform", "normal"):

        def record(shape, like, name=name):
            drawn.append((name, *shape))
            return torch.full(tuple(shape), 0.5)

        monkeypatch.setattr(noise, name, record)
    model, image = small(), torch.rand(3, 3, 32, 32)
    model(image, step=0)
    objects = [("uniform", 3, 16, 1), ("normal", 3, 16, 4), ("normal", 3, 16, 1), ("normal", 3, 16, 4)]
    assert drawn == [("normal", 3, 2), ("normal", 3, 4), ("normal", 3, 4), *objects]
    drawn.clear()
    model.eval()(image, step=0)
    assert not drawn
    for key in ("sample_posterior", "replicate"):
        small(**{key: True}).eval()(image, step=0)
        assert len(drawn) == 7
        drawn.clear()


def test_priors_are_those_of_the_step_before():
    """All steps' priors are computed at once; a step's must not see that step's latent."""
    struct_draw = small().struct_draw
    features = torch.randn(2, 16, 4, 4)
    with noise.drawn_from(torch.Generator().manual_seed(0)):
        one = struct_draw(features, sample=True)
    struct_draw.steps = 1
    with noise.drawn_from(torch.Generator().manual_seed(0)):
        other = struct_draw(features, sample=True)
    torch.testing.assert_close(one.kl[:, :1], other.kl)
    assert one.kl.shape == (2, 2, 4) and one.z.shape == (2, 8) and one.canvas.shape == features.shape
    assert torch.equal(one.z[:, :4], other.z) and not torch.allclose(one.kl[:, 0], one.kl[:, 1])


@pytest.mark.parametrize(("size", "N"), [(32, 16), (64, 16), (96, 36), (128, 16)])
@pytest.mark.parametrize("B", [1, 2])
def test_output_keeps_the_contract(size, N, B):
    model, image = small(size), torch.rand(B, 3, size, size)
    for mode in (True, False):
        with torch.no_grad():
            output = model.train(mode)(image, step=0)
        output.check(image)
        assert output.masks.shape[1] == 1 + N and output.boxes.shape == (B, N, 4)
        assert output.appearances.shape[1] == 1 + N
        assert output.loss.isfinite()


def test_reconstruction_alone_moves_boxes_and_depths():
    model = small()
    model(torch.rand(2, 3, 32, 32), step=50).reconstruction.square().sum().backward()
    for head in (model.object_head.where, model.object_head.depth, model.object_head.pres):
        assert head.weight.grad.any()


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_learning_rate(schedule):
    model = small(schedule=schedule)
    expected = [1, 1, 1] if schedule == "constant" else [1, 0.5, 0]
    assert [model.lr_scale(step)[0] for step in (0, 50, 100)] == pytest.approx(expected)


@pytest.mark.parametrize(
    "extremes",
    [
        dict(sigma=0.01, rho_start=1e-30, rho_end=1 - 1e-6, tau_end=0.01, scale_prior_std=1e-3),
        dict(sigma=5.0, kl_weight=100.0, scale_prior_mean=-20.0, scale_init=20.0, aux_bg_start=1e4),
        dict(std_bias=-200.0, scale_init=-50.0),
        dict(std_bias=20.0, curriculum_frac=1.0, curriculum_alpha=0.999),
        dict(lr=0.3, optimizer="adam", grad_clip=None),
    ],
)
def test_extreme_values_stay_finite(extremes):
    model, image = small(**extremes), torch.rand(2, 3, 32, 32)
    optimizer = model.optimizers()[0]
    for step in (0, 10, 99):
        loss = model(image, step).loss
        assert loss.isfinite()
        optimizer.zero_grad()
        loss.backward()
        limit = model.clip_norm() or math.inf
        torch.nn.utils.clip_grad_norm_(model.parameters(), limit, error_if_nonfinite=True)
        optimizer.step()


@pytest.mark.parametrize("value", [-200.0, 200.0])
def test_saturated_heads_keep_finite_gradients(value):
    model = small()
    with torch.no_grad():
        for head in (model.object_head.where, model.object_head.depth, model.object_head.pres, model.object_head.what):
            head.bias.fill_(value)
        model.glimpse_decoder.layers[-1][0].bias.fill_(value)
    output = model(torch.rand(2, 3, 32, 32), step=50)
    output.loss.backward()
    assert output.loss.isfinite()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("size", "changes", "says"),
    [
        (48, {}, "image size 48 does not fit GNM; use 32, 64, 96, 128"),
        (32, {"feature_dim": 1}, "feature_dim is 1"),
        (32, {"draw_steps": 0}, "draw_steps is 0"),
        (32, {"tau_end": 0.0}, "tau_end is 0.0"),
        (32, {"input_std": 0.0}, "input_std is 0.0"),
        (32, {"shift_prior_std": 0.0}, "shift_prior_std is 0.0"),
        (32, {"kl_weight": -1.0}, "kl_weight is -1.0"),
        (32, {"rho_end": 0.0}, "rho_end is 0.0"),
        (32, {"curriculum_alpha": 1.0}, "curriculum_alpha is 1.0"),
        (32, {"aux_bg_frac": 1.5}, "aux_bg_frac is 1.5"),
        (32, {"rho_first_frac": 0.5}, "rho_first_frac is 0.5"),
        (32, {"tau_first_frac": 0.5}, "tau_first_frac is 0.5"),
        (32, {"schedule": "linear"}, "schedule is 'linear'"),
    ],
)
def test_what_does_not_fit_is_refused(size, changes, says):
    with pytest.raises(ValueError, match=says):
        build("gnm", changes, size)
