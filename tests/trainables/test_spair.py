"""SPAIR as a whole: the published counts, drawing, losses, schedules, extremes."""

import math

import pytest
import torch

from tests.trainables.spair import small
from trainables import build, noise
from trainables.distributions import bernoulli_kl
from trainables.spair import Config, Model
from trainables.spair.cells import Cells
from trainables.spair.count_prior import count_prior
from trainables.spair.model import blend
from trainables.spair.networks import BroadcastDecoder
from trainables.spatial_transformer import paste, segment


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_parameter_counts_are_the_published_ones():
    model = Model(Config(), 128)
    assert count(model) == 1_310_276
    assert {name: count(part) for name, part in model.cells.named_children()} == {
        "box": 66_108,
        "encoder": 518_656,
        "depth": 82_302,
        "presence": 72_201,
    }
    assert (count(model.backbone), count(model.decoder), model.cells.empty.numel()) == (419_500, 46_916, 70)
    assert (count(model.background.encoder), count(model.background.decoder)) == (74_920, 29_603)
    assert all(norm.num_groups == groups for norm, groups in zip(norms(model), (4, 8, 8, 16, 32, 10), strict=True))


def norms(model):
    return [module for module in model.modules() if isinstance(module, torch.nn.GroupNorm)]


@pytest.mark.parametrize(("grid", "size"), [(4, 128), (8, 128), (16, 128), (4, 64)])
def test_the_count_does_not_depend_on_the_grid(grid, size):
    assert count(Model(Config(bg_dim=1, grid=grid, glimpse=24), size)) == 1_308_638


def test_counts_with_other_backgrounds():
    model = Model(Config(bg_dim=1), 128)
    assert (count(model.background.encoder), count(model.background.decoder)) == (74_146, 28_739)
    assert count(Model(Config(bg_dim=0), 128)) == 1_205_753


def test_narrow_norms_keep_four_channels_per_group():
    assert all(norm.num_channels // norm.num_groups >= 4 or norm.num_groups == 1 for norm in norms(small()))


@pytest.mark.parametrize(("changes", "low", "high"), [({}, 6, 40), ({"bg_dim": 1, "sigma_start": 0.15}, 3, 80)])
def test_the_first_loss_is_as_measured(changes, low, high):
    """A grey image at 128 pixels: measured 12,460 to 12,600 and -46,390 to -45,550 over five seeds."""
    torch.manual_seed(0)
    model, image = Model(Config(**changes), 128), torch.full((2, 3, 128, 128), 0.5)
    with torch.no_grad():
        output = model(image, 0)
    terms = {name: float(value) for name, value in output.terms.items()}
    bound = 3 * 128**2 * (math.log(model.config.sigma_start) + 0.5 * math.log(2 * math.pi))
    error = float((output.reconstruction - image).square().sum()) / 2
    assert low < error < high
    assert terms["nll"] == pytest.approx(bound + error / 2 / model.config.sigma_start**2, rel=1e-5)
    assert 780 < 2.7 * terms["kl_where"] < 960 and 280 < 2.7 * terms["kl_what"] < 330
    assert 2.5 < 2.7 * terms["kl_depth"] < 9 and 175 < 2.7 * terms["kl_pres"] < 215
    assert terms["kl_bg"] == pytest.approx(model.config.bg_dim, rel=0.1)
    assert 4 < terms["count_hard"] < 10.5


def test_the_decoder_is_the_plain_broadcast_decoder():
    torch.manual_seed(0)
    decoder, z = BroadcastDecoder(5, 4, 8, 0.25), torch.randn(3, 5)
    spread = torch.cat([z[..., None, None].expand(-1, -1, 16, 16), decoder.coordinates.expand(3, -1, -1, -1)], 1)
    torch.testing.assert_close(decoder(z), decoder.layers(spread).sigmoid(), rtol=0, atol=1e-6)
    y, x = decoder.coordinates[0]
    assert y[0, -1] == -1 and y[-1, 0] == 1 and x[-1, 0] == -1 and x[0, -1] == 1


def test_the_canvas_is_the_published_sum():
    torch.manual_seed(0)
    colours, alphas = torch.rand(2, 4, 3, 8, 8), torch.rand(2, 4, 1, 8, 8) ** 4
    ground, distances = torch.rand(2, 1, 3, 8, 8), torch.rand(2, 4, 1) + 0.01
    weights = blend(alphas, distances)
    ours = (weights * colours).sum(1) + (1 - weights.sum(1)) * ground[:, 0]
    importance = (alphas / distances[..., None, None]).clamp(min=0.01)
    drawn = (colours * alphas + ground * (1 - alphas)) * importance
    torch.testing.assert_close(ours, drawn.sum(1) / importance.sum(1).clamp(min=1e-6), rtol=0, atol=1e-6)


def test_an_object_leaves_the_empty_cells_their_share():
    alphas = torch.zeros(1, 16, 1, 128, 128)
    where = torch.tensor([[[0.375, 0.375, 0.1, 0.1]]])
    alphas[:, 3] = paste(torch.ones(1, 1, 1, 24, 24), where, 128)[:, 0]
    weight = float(blend(alphas, torch.full((1, 16, 1), 0.5))[0, 3, 0, 70, 70])
    assert weight == pytest.approx(2 / 2.15) and weight == pytest.approx(0.930, abs=1e-3)


def test_the_nearer_object_wins():
    weights = blend(torch.ones(1, 2, 1, 4, 4), torch.tensor([[[0.1], [0.9]]]))[0, :, 0, 2, 2]
    assert weights.tolist() == pytest.approx([10 / (10 + 1 / 0.9), 1 / 0.9 / (10 + 1 / 0.9)])


@pytest.mark.parametrize("bg_dim", [0, 2])
def test_without_objects_the_background_is_left(bg_dim):
    model = small(bg_dim=bg_dim).eval()
    with torch.no_grad():
        model.cells.presence[-1].bias.fill_(-100.0)
        output = model(torch.rand(2, 3, 32, 32), 0)
    torch.testing.assert_close(output.reconstruction, output.appearances[:, 0], rtol=0, atol=1e-6)
    assert (output.masks[:, 0] == 1).all() and output.terms["count_hard"] == 0
    assert bg_dim or not output.reconstruction.any()


def test_masks_keep_the_benchmarks_argmax():
    torch.manual_seed(0)
    alphas = torch.rand(3, 6, 1, 16, 16) ** 3
    masks = segment(alphas)
    torch.testing.assert_close(masks.sum(1), torch.ones(3, 1, 16, 16), rtol=0, atol=1e-6)
    assert masks.min() >= 0
    published = torch.cat([1 - alphas.sum(1, keepdim=True), alphas], dim=1)
    assert (published < 0).any()
    assert torch.equal(masks.argmax(1), published.argmax(1))


def at_the_prior(model, N=16):
    """Cells whose posteriors are their priors; none is present."""
    mean, one = torch.zeros(1, N, 4), torch.ones(1, N, 1)
    size = torch.tensor([model.config.size_prior_mean] * 2 + [0.0] * 2).expand(1, N, 4)
    std = torch.tensor([0.5, 0.5, 1.0, 1.0]).expand(1, N, 4)
    what = torch.zeros(1, N, model.config.z_what_dim)
    logit = torch.logit(count_prior(0 * mean[..., 0], 0.3).double()).float()[..., None]
    return Cells(size, std, mean, what, what + 1, what, 0 * one, one, one, logit, 0 * one)


def test_at_the_prior_nothing_costs():
    model = small()
    cells = at_the_prior(model)
    for name, value in model.cell_kl(cells, 0.3).items():
        assert float(value) == pytest.approx(0, abs=1e-5), name
    moved = cells._replace(where_mean=cells.where_mean + 0.1, what_std=2 * cells.what_std, logit=cells.logit + 1)
    kl = {name: float(value) for name, value in model.cell_kl(moved, 0.3).items()}
    # in nats: 0.5 (0.1 / 0.5)^2 for each side, 0.5 (0.1)^2 for each shift
    assert kl["where"] == pytest.approx(16 * (2 * 0.02 + 2 * 0.005), rel=1e-4)
    assert kl["what"] == pytest.approx(16 * 5 * (1.5 - math.log(2)), rel=1e-4)
    assert kl["pres"] > 0 and kl["depth"] == pytest.approx(0, abs=1e-6)
    assert (bernoulli_kl(torch.randn(100), 0.3) >= 0).all()


def test_absent_cells_may_go_free():
    model = small(kl_by_presence=True)
    cells = at_the_prior(model)
    cells = cells._replace(what_mean=cells.what_mean + 1, presence=cells.presence + 0.25)
    assert float(model.cell_kl(cells, 0.3)["what"]) == pytest.approx(0.25 * 16 * 5 * 0.5)


def test_the_loss_is_the_sum_of_its_terms():
    model = small(kl_weight=0.5, presence_weight=3.0)
    terms = (output := model(torch.rand(2, 3, 32, 32), step=10)).terms
    kl = terms["kl_where"] + terms["kl_what"] + terms["kl_depth"] + 3 * terms["kl_pres"]
    torch.testing.assert_close(output.loss, terms["nll"] + 0.5 * kl + terms["kl_bg"])


def test_schedules_follow_the_benchmark():
    model = build("spair", {"fg_width": 0.1}, 32)
    assert model.schedules(0) == {"sigma": 0.5, "prior": 1e-4}
    assert model.schedules(25_000) == pytest.approx({"sigma": 0.3249965, "prior": 0.4950599}, abs=1e-7)
    assert model.schedules(49_998)["sigma"] > 0.15
    assert model.schedules(49_999) == model.schedules(249_999) == {"sigma": 0.15, "prior": 0.99}
    assert small(sigma_ramp_frac=0.0, prior_ramp_frac=0.0).schedules(0) == {"sigma": 0.15, "prior": 0.99}


def test_the_learning_rate_drops_once_on_a_plateau():
    model = small(plateau_patience=2, plateau_scale=0.3)
    scales = []
    for mse in (5.0, 4.0, 4.5, 4.0, 3.9, 3.9, 3.9, 3.9, 3.8, 3.9, 3.9, 3.9, 3.9):
        model.on_validation({"MSE": mse})
        scales += model.lr_scale(0)
    assert scales == pytest.approx([1.0] * 7 + [0.3] * 6)
    copy = small()
    copy.load_state_dict(model.state_dict())
    assert copy.lr_scale(0) == pytest.approx([0.3]) and float(copy.best_mse) == pytest.approx(3.8)


def test_the_published_learning_rate_drops_after_a_fixed_number_of_reports():
    model = small(plateau_patience=3, replicate=True)
    scales = []
    for mse in (5.0, 4.0, 3.0, 2.0, 1.0, 0.5, 0.4, 0.3, 0.2):
        model.on_validation({"MSE": mse})
        scales += model.lr_scale(0)
    assert scales == [1.0] * 3 + [0.5] * 6


def test_noise_comes_in_the_documented_order(monkeypatch):
    drawn = []
    for name in ("uniform", "normal"):

        def record(shape, like, name=name):
            drawn.append((name, *shape))
            return torch.full(tuple(shape), 0.5)

        monkeypatch.setattr(noise, name, record)
    model, image = small(), torch.rand(2, 3, 32, 32)
    model(image, step=0)
    cell = [("normal", 2, 4), ("normal", 2, 5), ("normal", 2, 1), ("uniform", 2, 1)]
    assert drawn == [*cell * 16, ("normal", 2, 2)]
    drawn.clear()
    model.eval()(image, step=0)
    assert not drawn
    output = small(replicate=True).eval()(image, step=0)
    assert len(drawn) == 65 and float(output.terms["count_hard"]) % 0.5 == 0


def test_the_gain_leaves_the_decoders_last_layers_alone():
    ones, twos = (dict(small(init_gain=gain).named_parameters()) for gain in (1.0, 2.0))
    doubled = {name for name in ones if torch.equal(2 * ones[name], twos[name]) and ones[name].any()}
    assert {name for name in ones if torch.equal(ones[name], twos[name])} == set(ones) - doubled
    coders = {"cells.encoder", "decoder.layers", "background.encoder", "background.decoder.layers"}
    assert {name.rsplit(".", 2)[0] for name in doubled} == coders
    lasts = {"decoder.layers.8", "background.decoder.layers.8"}
    assert not any(name.endswith("bias") or name.rsplit(".", 1)[0] in lasts for name in doubled)


def test_appearances_may_start_sharp():
    image = torch.rand(1, 3, 32, 32)
    published, sharp = (
        model.cells(image, model.backbone(image).flatten(2).mT, torch.zeros(1, 16, 11), 1.0, False)
        for model in (small(), small(what_std_bias=-2.0))
    )
    raw = published.what_std.expm1().log()
    torch.testing.assert_close(sharp.what_std[:, 0], torch.nn.functional.softplus(raw - 2)[:, 0])
    assert torch.equal(sharp.what_mean[:, 0], published.what_mean[:, 0])


@pytest.mark.parametrize("grid", [2, 4])
def test_every_parameter_learns(grid):
    model = small(grid=grid)
    model(torch.rand(2, 3, 32, 32), step=10).loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), name


def test_reconstruction_alone_moves_boxes_depth_and_presence():
    model = small()
    model(torch.rand(2, 3, 32, 32), step=10).reconstruction.square().sum().backward()
    for net, outputs in ((model.cells.box, slice(0, 8)), (model.cells.depth, slice(0, 2)), (model.cells.presence, 0)):
        assert net[-1].bias.grad[outputs].all()


def test_output_keeps_the_contract_at_every_grid():
    for size, grid, cells in [(32, 2, 4), (64, None, 16), (96, None, 36), (96, 3, 9), (128, 8, 64)]:
        model, image = small(size, grid=grid), torch.rand(1, 3, size, size)
        for mode in (True, False):
            with torch.no_grad():
                output = model.train(mode)(image, step=0)
            output.check(image)
            assert output.masks.shape[1] == 1 + cells and output.boxes.shape == (1, cells, 4)


def test_appearances_are_seen_through_their_boxes():
    model, image = small().eval(), torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        output = model(image, step=0)
    x0, y0, x1, y1 = output.boxes[0, 5].round().int().tolist()
    cell = output.appearances[0, 6]
    assert cell[:, y0 + 1 : y1 - 1, x0 + 1 : x1 - 1].min() > 0
    cell[:, max(y0 - 1, 0) : y1 + 1, max(x0 - 1, 0) : x1 + 1] = 0
    assert not cell.any()


@pytest.mark.parametrize(
    "extremes",
    [
        dict(sigma=0.01, sigma_start=0.01, prior_start=1e-30, prior_end=1.0, tau=0.01),
        dict(sigma=5.0, sigma_start=50.0, kl_weight=100.0, size_prior_mean=-9.0, tau=50.0, kl_by_presence=True),
        dict(lr=0.1, grad_clip=None, anchor_frac=1.0, size_prior_mean=9.0, replicate=True, prior_start=1e-30),
    ],
)
def test_extreme_values_stay_finite(extremes):
    model, image = small(**extremes), torch.rand(2, 3, 32, 32)
    (optimizer,) = model.optimizers()
    for step in range(3):
        loss = model(image, step).loss
        assert loss.isfinite()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), model.clip_norm() or math.inf, error_if_nonfinite=True)
        optimizer.step()


@pytest.mark.parametrize("bias", [-1e4, 1e4])
def test_saturated_heads_keep_finite_gradients(bias):
    model = small()
    with torch.no_grad():
        for net, outputs in ((model.cells.box, 4), (model.cells.depth, 1), (model.cells.presence, 1)):
            net[-1].bias[:outputs] = bias
        model.cells.box[-1].bias[4:8] = -200.0  # standard deviations that underflow
    output = model(torch.rand(2, 3, 32, 32), step=0)
    output.loss.backward()
    assert output.loss.isfinite()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("size", "changes", "says"),
    [
        (48, {}, "image size 48"),
        (128, {"grid": 10}, "grid 10 does not fit images of 128 pixels; use one of 4, 8, 16"),
        (128, {"z_what_dim": 0}, "z_what_dim is 0"),
        (128, {"bg_dim": -1}, "bg_dim is -1"),
        (128, {"glimpse": 1}, "glimpse is 1"),
        (128, {"tau": 0.0}, "tau is 0.0"),
        (128, {"kl_weight": -1.0}, "kl_weight is -1.0"),
        (128, {"prior_start": 0.0}, "prior_start is 0.0"),
        (128, {"anchor_frac": 1.5}, "anchor_frac is 1.5"),
        (128, {"prior_ramp_frac": 1.5}, "prior_ramp_frac is 1.5"),
        (128, {"optimizer": "sgd"}, "optimizer 'sgd'"),
    ],
)
def test_what_does_not_fit_is_refused(size, changes, says):
    with pytest.raises(ValueError, match=says):
        build("spair", changes, size).optimizers()
