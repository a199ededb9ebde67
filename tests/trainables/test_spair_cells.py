"""SPAIR's cells: geometry, order, context, presence, and the prior on their number."""

import itertools
import math

import pytest
import torch

from tests.trainables.spair import small
from trainables import noise
from trainables.distributions import bernoulli_kl
from trainables.spair.cells import box, draw, wavefronts
from trainables.spair.count_prior import count_prior, prior_table, sequential_prior
from trainables.spatial_transformer import crop, paste, pixel_boxes


def inputs(model, B=2):
    """An image, the features of its cells and noise."""
    torch.manual_seed(1)
    image = torch.rand(B, 3, model.image_size, model.image_size)
    features = model.backbone(image).flatten(2).mT
    return image, features, draw(features.shape[1], model.config.z_what_dim, features)


def test_a_box_has_the_published_place_and_size():
    cells = small(128).cells
    z_where = cells.place(box(torch.zeros(1, 16, 4)))
    x0, y0, x1, y1 = pixel_boxes(z_where, 128)[0, 1 * 4 + 2].tolist()
    assert ((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0) == pytest.approx((80, 48, 24, 24))
    smallest = cells.place(box(torch.tensor([-2.197, -2.197, 0, 0]).expand(1, 16, 4)))
    assert (smallest[0, 0, :2] * 128).tolist() == pytest.approx([4.8, 4.8], abs=1e-3)


def test_a_box_stays_near_its_cell():
    low, high = (box(torch.full((4,), value)).tolist() for value in (-1e4, 1e4))
    assert low == pytest.approx([0, 0, -0.5, -0.5], abs=1e-4) and high == pytest.approx([1, 1, 1.5, 1.5], abs=1e-4)
    assert low[0] > 0, "a box of no size has no inverse"


def test_width_goes_with_x_and_height_with_y():
    wide = torch.tensor([[[0.5, 0.25, 0.25, -0.25]]])
    pasted = paste(torch.ones(1, 1, 1, 24, 24), wide, 128)[0, 0, 0]
    rows, columns = (pasted.amax(dim) > 0.5 for dim in (1, 0))
    assert (int(columns.sum()), int(rows.sum())) == (64, 32)
    assert columns.nonzero().float().mean() > 63.5 > rows.nonzero().float().mean()


def test_a_glimpse_survives_the_way_to_the_image_and_back():
    line = torch.linspace(-2, 2, 24)
    bump = (-(line[:, None] ** 2 + (line - 0.5) ** 2) / 1.5).exp().expand(1, 1, 1, 24, 24)
    for side in (0.25, 0.375):
        z_where = torch.tensor([[[side, side, 0.1, -0.2]]])
        back = crop(paste(bump, z_where, 128)[:, 0], z_where, 24)
        assert (back - bump)[..., 1:-1, 1:-1].abs().max() < 0.02


@pytest.mark.parametrize("grid", [1, 2, 3, 4, 8])
def test_waves_visit_every_cell_after_those_it_sees(grid):
    seen: set[tuple[int, int]] = set()
    waves = wavefronts(grid)
    assert len(waves) == 3 * grid - 2
    for wave in waves:
        cells = [divmod(i, grid) for i in range(grid**2)[wave]]
        for row, column in cells:
            for neighbour in ((row - 1, column - 1), (row - 1, column), (row - 1, column + 1), (row, column - 1)):
                assert neighbour in seen or not all(0 <= axis < grid for axis in neighbour)
        assert not seen.intersection(cells)
        seen.update(cells)
    assert len(seen) == grid**2


@pytest.mark.parametrize("grid", [1, 2, 4])
def test_waves_and_raster_order_agree(grid):
    model = small(grid=grid)
    arguments = (*inputs(model), 1.0, False)
    waves = model.cells(*arguments)
    model.cells.order([slice(i, i + 1) for i in range(grid**2)])
    for name, a, b in zip(waves._fields, waves, model.cells(*arguments), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5, msg=name)


def test_a_cell_is_inferred_as_published():
    """Cell (1, 0) in plain words: what each network sees, in the published order."""
    model = small(fg_width=0.1)
    cells, (image, features, noises) = model.cells, inputs(model)
    inferred = cells(image, features, noises, 1.0, False)
    shape = box(inferred.where)
    z_where, depth = cells.place(shape), inferred.depth.sigmoid()
    latent = torch.cat([inferred.presence, inferred.where, depth, inferred.what], -1)
    empty = cells.empty.expand(2, -1)
    base = torch.cat([features[:, 4], empty, latent[:, 0], latent[:, 1], empty, empty], -1)

    where, passed = cells.box(base).split([8, cells.box[-1].out_features - 8], -1)
    torch.testing.assert_close(where[:, :4], inferred.where_mean[:, 4])
    torch.testing.assert_close(where[:, 4:].exp().log1p(), inferred.where_std[:, 4])
    torch.testing.assert_close(inferred.where_mean + inferred.where_std * noises[..., :4], inferred.where)
    glimpse = crop(image, z_where[:, 4:5], 8)[:, 0].flatten(1)
    what = cells.encoder(torch.cat([features[:, 4], shape[:, 4], glimpse], -1))
    torch.testing.assert_close(what[:, :5], inferred.what_mean[:, 4])
    seen = torch.cat([base, shape[:, 4], inferred.what[:, 4]], -1)
    raw, passed = cells.depth(torch.cat([seen, passed.relu()], -1)).tensor_split([2], -1)
    torch.testing.assert_close(raw[:, :1], inferred.depth_mean[:, 4])
    logit = cells.presence(torch.cat([seen, depth[:, 4], passed.relu()], -1))
    torch.testing.assert_close(logit, inferred.logit[:, 4])
    torch.testing.assert_close((logit + noises[:, 4, -1:]).sigmoid(), inferred.presence[:, 4])


def test_noise_reaches_only_the_cells_below_and_to_the_right():
    model = small()
    with torch.no_grad():
        image, features, noises = inputs(model)
        before = model.cells(image, features, noises, 1.0, False)
        noises[:, 5] += 1  # row 1, column 1
        after = model.cells(image, features, noises, 1.0, False)
    moved = {i for i in range(16) if not torch.equal(before.where[:, i], after.where[:, i])}
    # a cell sees the cell up to the right, so that the cone widens by one to the left per row
    cone = {(1, 1), (1, 2), (1, 3), *((row, column) for row in (2, 3) for column in range(4))}
    assert moved == {4 * row + column for row, column in cone}


def test_cells_at_the_edge_see_the_empty_latent():
    model = small()
    arguments = (*inputs(model), 1.0, False)
    before = model.cells(*arguments)
    (gradient,) = torch.autograd.grad(before.where_mean[:, 0].sum(), model.cells.empty)
    assert gradient.any(), "a corner has five empty neighbours"
    with torch.no_grad():
        model.cells.empty += 1
    after = model.cells(*arguments)
    assert not torch.isclose(before.where_mean[:, 0], after.where_mean[:, 0]).any()


def test_presence_is_soft_in_training_and_hard_in_evaluation():
    model = small()
    image, features, noises = inputs(model)
    soft = model.cells(image, features, noises, 1.0, False)
    assert ((soft.presence > 0) & (soft.presence < 1)).all()
    soft.presence.sum().backward()
    assert model.cells.presence[-1].bias.grad > 0
    hard = model.cells(image, features, 0 * noises, 1.0, True)
    assert torch.equal(hard.presence, (hard.logit > 0).float())
    assert torch.equal(hard.where, hard.where_mean) and torch.equal(hard.what, hard.what_mean)


def test_noise_is_drawn_cell_by_cell(monkeypatch):
    drawn = []

    def record(shape, like):
        drawn.append(tuple(shape))
        return torch.full(tuple(shape), 0.5 + len(drawn))

    monkeypatch.setattr(noise, "normal", record)
    monkeypatch.setattr(noise, "uniform", lambda shape, like: record(shape, like) * 0 + 0.75)
    noises = draw(3, 7, torch.zeros(2, 1))
    assert drawn == [(2, 4), (2, 7), (2, 1), (2, 1)] * 3
    assert noises[0, 1, [0, 4, 11]].tolist() == [5.5, 6.5, 7.5]
    assert float(noises[0, 0, 12]) == pytest.approx(math.log(3))
    monkeypatch.setattr(noise, "uniform", lambda shape, like: torch.zeros(shape))
    assert draw(1, 7, torch.zeros(2, 1)).isfinite().all()


def test_known_values_of_the_count_prior():
    assert float(prior_table(16, 0.99)[0, 0]) == pytest.approx(0.484932, abs=1e-6)
    assert float(prior_table(16, 1e-4)[0, 0]) == pytest.approx(6.2506e-6, abs=1e-10)
    laplace = prior_table(16, 1.0)
    for i, c in itertools.combinations_with_replacement(range(16), 2):
        assert float(laplace[c, i]) == pytest.approx((i + 1) / (c + 2))
    assert float(laplace[3, 2]) == pytest.approx(0.6) and float(laplace[0, 0]) == pytest.approx(0.5)
    assert prior_table(16, 1e-30).isfinite().all()


@pytest.mark.parametrize("p", [1e-4, 0.3, 0.99])
def test_the_count_prior_obeys_the_chain_rule(p):
    def probability(string, table):
        count, product = 0, 1.0
        for i, present in enumerate(string):
            product *= float(table[i, count]) if present else 1 - float(table[i, count])
            count += present
        return product

    table = prior_table(4, p)
    strings = list(itertools.product((0, 1), repeat=4))
    for string in strings:
        count = sum(string)
        expected = p**count / sum(p**k for k in range(5)) / math.comb(4, count)
        assert probability(string, table) == pytest.approx(expected, rel=1e-9)
    assert sum(probability(string, table) for string in strings) == pytest.approx(1)
    string = (0, 1, 1, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 1)
    expected = p**5 / sum(p**k for k in range(17)) / math.comb(16, 5)
    assert probability(string, prior_table(16, p)) == pytest.approx(expected, rel=1e-9)


def test_the_published_prior_is_the_same_until_it_underflows():
    present = (torch.rand(64, 16, generator=torch.Generator().manual_seed(0)) < 0.4).float()
    logit = torch.zeros(64, 16)
    for p, tolerance in ((0.3, 1e-4), (0.99, 1e-4), (1e-4, 0.03)):
        ours, published = count_prior(present, p), sequential_prior(present, p)
        torch.testing.assert_close(ours, published, rtol=1e-4 if p > 0.1 else 0.1, atol=1e-6)
        gap = bernoulli_kl(logit, ours).sum(1) - bernoulli_kl(logit, published).sum(1)
        assert gap.abs().max() < tolerance
    crowd = torch.ones(1, 16)
    assert float(sequential_prior(crowd, 1e-4)[0, 15]) == pytest.approx(1e-6)
    assert float(count_prior(crowd, 1e-4)[0, 15]) > 1e-5


def test_no_gradient_passes_through_the_prior():
    model = small()
    cells = model.cells(*inputs(model), 1.0, False)
    logit = cells.logit.detach().requires_grad_()
    presence = (logit + 0.3).sigmoid()
    kl = model.cell_kl(cells._replace(logit=logit, presence=presence), 0.3)["pres"]
    (gradient,) = torch.autograd.grad(kl.sum(), logit)
    q, prior = logit.detach().double().sigmoid(), count_prior(presence.detach().round()[..., 0], 0.3).double()
    own = q * (1 - q) * (logit.detach().double() - torch.logit(prior)[..., None])
    torch.testing.assert_close(gradient.double(), own, rtol=1e-3, atol=1e-6)
