"""MarioNette: the published counts and known values, its networks, its output and loss."""

import math

import pytest
import torch
import torch.nn.functional as F

from tests.trainables.marionette import WIDE, like, small
from trainables import noise
from trainables.marionette import Config, Model
from trainables.marionette.model import beta_density
from trainables.marionette.networks import PartialConv, choice, standardise


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def waves(batch, size):
    """(batch, 3, size, size): image b has b + 1 waves down, and channel c has c + 1 across."""
    line = 2 * math.pi * torch.arange(size) / size
    rows, columns = (torch.arange(1, n + 1)[:, None] * line for n in (batch, 3))
    return 0.5 + 0.5 * torch.sin(rows[:, None, :, None] + columns[None, :, None, :])


def test_parameter_counts_are_the_published_ones():
    with torch.device("meta"):
        model = Model(Config(replicate=True), 128)
    assert {name: count(part) for name, part in model.named_children()} == {
        "encoder": 1_333_888,
        "projection": 16_512,
        "shift_encoder": 1_486_592,
        "switch_head": 16_897,
        "shift_head": 17_026,
        "sprites": 4_351_744,
        "background_encoder": 8_624,
        "background_projection": 72,
        "backgrounds": 3_195_592,
    }
    assert count(model) == 10_426_947
    assert [count(down) for down in model.encoder.downs] == [151_680, 295_680, 295_680, 295_680]
    assert [count(head) for head in model.encoder.heads] == [147_584, 147_584]
    assert [count(down) for down in model.shift_encoder.downs] == [156_288, *[295_680] * 4]
    assert [count(down) for down in model.background_encoder.downs] == [840, *[1_200] * 6]
    assert model.sprites.latents.numel() == 19_200
    assert [count(layer) for layer in model.sprites.decoder] == [132_096, 2_048, 0, 4_198_400]


TINIEST = dict(n_layers=1, n_sprites=16, anchor_spacing=8, code_dim=32, shift_width=32)


@pytest.mark.parametrize(
    ("size", "changes", "total"),
    [
        (128, dict(background_dim=16), 13_599_363),
        (128, dict(background_dim=128), 59_827_587),
        (64, dict(anchor_spacing=8), 4_289_427),
        (64, dict(), 8_029_587),
        (32, dict(anchor_spacing=4), 2_310_627),
        (32, TINIEST, 616_035),
        (64, {**TINIEST, "anchor_spacing": 16}, 2_043_027),
    ],
)
def test_parameter_counts_of_other_configurations(size, changes, total):
    with torch.device("meta"):
        assert count(Model(Config(replicate=True, **changes), size)) == total


def test_narrow_layers_keep_the_published_groups_only_on_request():
    image = torch.rand(2, 3, 32, 32)
    for replicate, groups in ((True, 8), (False, 2)):
        model = small(replicate=replicate)
        last = model.background_encoder.downs[-1][-2]
        assert last.num_groups == groups
        seen = model.background_encoder(image)  # eight groups of one channel and pixel each are constant
        assert torch.allclose(seen[0], seen[1], atol=1e-2) == replicate


def test_a_single_background_needs_no_encoder():
    with torch.device("meta"):
        assert count(Model(Config(), 128)) == 10_426_947 - 8_624 - 72


@pytest.mark.parametrize(
    ("size", "layers", "spacing", "centre", "edge", "corner", "mean", "mse"),
    [
        (128, 2, 16, 0.275028, 0.329102, 0.390625, 0.288663, 0.170334),
        (32, 1, 8, 0.329102, 0.390625, 0.4375, 0.358948, 0.146029),
        (64, 1, 16, 0.329102, 0.390625, 0.4375, 0.358948, 0.146094),
    ],
)
def test_uniform_sprites_give_the_known_picture(size, layers, spacing, centre, edge, corner, mean, mse):
    """With the last layers at zero every sprite and the ground are half grey, half there, and nothing moves."""
    model = small(size, n_layers=layers, anchor_spacing=spacing, code_dim=8, n_backgrounds=1)
    silence(model)
    image = waves(2, size)
    with torch.no_grad():
        output = model(image, 0)
        x, middle = output.reconstruction, size // 2
        known = {x[0, 0, middle, middle]: centre, x[1, 1, 0, middle]: edge, x[1, 2, middle, -1]: edge}
        for value, expected in {**known, x[0, 0, 0, 0]: corner, x[1, 0, -1, 0]: corner, x.mean(): mean}.items():
            assert float(value) == pytest.approx(expected, abs=1e-6)
        assert float(output.terms["mse"]) == pytest.approx(mse, abs=1e-6)
        torch.testing.assert_close(output.masks[0, 0, 0, middle, middle], torch.tensor(0.75 ** (4 * layers)))
        alpha_only = small(size, n_layers=layers, anchor_spacing=spacing, code_dim=8, switch_scales_colour=False)
        silence(alpha_only)
        torch.testing.assert_close(alpha_only(image, 0).reconstruction, torch.full_like(image, 0.5))


def silence(model):
    """Zero the last layer of both heads and both decoders."""
    for part in (model.switch_head, model.shift_head, model.sprites.decoder, model.backgrounds.decoder):
        torch.nn.init.zeros_(part[-1].weight)
        torch.nn.init.zeros_(part[-1].bias)


def test_the_loss_starts_where_the_published_one_does():
    torch.manual_seed(0)
    model = Model(Config(), 64)
    with torch.no_grad():
        terms = model(waves(2, 64), 0).terms
    assert 0.13 < terms["mse"] < 0.2
    assert 0.3 < terms["switch"] < 0.65
    assert 1.2 < terms["beta_switch"] <= 1.5 and 0.02 < terms["beta_choice"] < 0.05


def test_partial_convolutions_keep_constants_constant():
    conv = PartialConv(2, 3, 8)
    with torch.no_grad():
        conv.weight.copy_(torch.rand(3, 2, 1, 1).expand(-1, -1, 3, 3))
        y = conv(torch.full((1, 2, 8, 8), 0.7))
        torch.testing.assert_close(y, y[..., :1, :1].expand_as(y))
        assert not torch.allclose(F.conv2d(torch.ones(1, 2, 8, 8), conv.weight, padding=1)[..., 0, 0], y[..., 4, 4])


@pytest.mark.parametrize("stride", [1, 2])
def test_partial_convolutions_are_plain_away_from_borders(stride):
    conv, x = PartialConv(2, 3, 8, stride), torch.rand(2, 2, 8, 8)
    plain = F.conv2d(x, conv.weight, conv.bias, stride, 1)
    y = conv(x)
    inner = slice(1, -1) if stride == 1 else slice(1, None)
    torch.testing.assert_close(y[..., inner, inner], plain[..., inner, inner])
    bias = conv.bias[:, None]
    torch.testing.assert_close(y[..., 0, inner] - bias, 1.5 * (plain[..., 0, inner] - bias))


def test_a_partial_convolution_of_one_pixel_is_nine_times_its_centre():
    conv, x = PartialConv(2, 3, 1), torch.rand(4, 2, 1, 1)
    expected = conv.bias + 9 * x[..., 0, 0] @ conv.weight[:, :, 1, 1].mT
    torch.testing.assert_close(conv(x)[..., 0, 0], expected)


@pytest.mark.parametrize("d", [32, 128])
def test_logits_stay_within_the_root_of_the_width(d):
    torch.manual_seed(0)
    queries, codes = standardise(3 + 7 * torch.randn(50, d)), standardise(torch.randn(9, d))
    for rows in (queries, codes):
        torch.testing.assert_close(rows.mean(1), torch.zeros(len(rows)), rtol=0, atol=1e-5)
        torch.testing.assert_close(rows.norm(dim=1), torch.full((len(rows),), d**0.5), rtol=1e-4, atol=0)
    assert (queries @ codes.mT / d**0.5).abs().max() <= d**0.5 + 1e-4
    torch.testing.assert_close(choice(queries, codes), (queries @ codes.mT / d**0.5).softmax(1))


def test_masks_weigh_what_each_segment_shows():
    model, image = small(64), torch.rand(3, 3, 64, 64)
    for mode in (True, False):
        with torch.no_grad():
            output = model.train(mode)(image, 0)
        output.check(image)
        assert output.masks.shape == (3, 1 + 2 * 8 * 8, 1, 64, 64) and output.masks.max() <= 1
        shown = (output.masks * output.appearances).sum(1)
        torch.testing.assert_close(shown, output.reconstruction, rtol=0, atol=1e-5)
        benchmark = torch.cat([1 - output.masks[:, 1:].sum(1, keepdim=True), output.masks[:, 1:]], dim=1)
        assert torch.equal(benchmark.argmax(1), output.masks.argmax(1))


def test_without_switches_only_the_ground_is_left():
    model, image = small(), torch.rand(2, 3, 32, 32)
    torch.nn.init.constant_(model.switch_head[-1].bias, -1e4)
    with torch.no_grad():
        output = model(image, 0)
        assert torch.equal(output.reconstruction, model.background(image))
    assert torch.equal(output.masks[:, 0], torch.ones(2, 1, 32, 32))
    assert not output.presence.any()


def test_saturated_choices_look_the_same_hard_and_soft():
    image, models = torch.rand(2, 3, 32, 32), []
    for hard_eval in ("off", "all"):
        model = small(hard_eval=hard_eval, logit_scale=1e5).eval()
        with torch.no_grad():
            model.switch_head[-1].weight.mul_(1e5)
        models.append(model)
    with torch.no_grad():
        soft, hard = (model(image, 0) for model in models)
    assert 0 < hard.presence.mean() < 1
    torch.testing.assert_close(soft.reconstruction, hard.reconstruction, rtol=0, atol=1e-5)
    assert torch.equal(soft.masks.argmax(1), hard.masks.argmax(1))


def test_hard_evaluation_rounds_switches():
    image, soft = torch.rand(1, 3, 32, 32), small(n_layers=1)
    hard = like(soft, hard_eval="switch")
    torch.nn.init.constant_(soft.switch_head[-1].bias, 99.0)
    torch.nn.init.constant_(hard.switch_head[-1].bias, 1.0)
    with torch.no_grad():
        assert (hard(image, 0).presence > 0.5).all()
        assert not torch.allclose(hard(image, 0).reconstruction, soft(image, 0).reconstruction)
        hard.eval()
        soft.eval()
        torch.testing.assert_close(hard(image, 0).reconstruction, soft(image, 0).reconstruction)


@pytest.mark.parametrize(("hard_eval", "whole"), [("off", False), ("switch", False), ("all", True)])
def test_hard_evaluation_may_show_whole_sprites(hard_eval, whole):
    model, image = small(hard_eval=hard_eval), torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        sprites = model.sprites()[1].flatten(1)
        for mode in (True, False):
            tiles = model.train(mode).choose(image).tiles.flatten(0, 3).flatten(1)
            nearest = torch.cdist(tiles, sprites, compute_mode="donot_use_mm_for_euclid_dist").amin(1)
            assert (nearest == 0).all() if whole and not mode else (nearest > 0).all()


def test_straight_through_switches_round_and_learn():
    soft, image = small(n_layers=1), torch.rand(1, 3, 32, 32)
    torch.nn.init.constant_(soft.switch_head[-1].bias, 1.0)  # all above 1/2
    through = like(soft, switch="straight_through")
    output = through(image, 0)
    torch.nn.init.constant_(soft.switch_head[-1].bias, 99.0)
    soft.eval(), through.eval()
    with torch.no_grad():
        torch.testing.assert_close(through(image, 0).reconstruction, soft(image, 0).reconstruction)
    output.reconstruction.sum().backward()
    assert through.switch_head[0].weight.grad.any()


def test_the_beta_terms_have_their_known_values():
    C = 150
    uniform, undecided = beta_density(torch.full((1, C), 1 / C)), beta_density(torch.tensor(0.5))
    expected = 0.5 * (1.5 + 6 * (C - 1) / C**2)
    assert float((uniform.mean() + undecided) / 2) == pytest.approx(expected, rel=1e-5)
    decided = beta_density(torch.eye(4))
    assert decided.max() < 1e-4 and beta_density(torch.rand(100)).min() >= decided.min()


def test_the_loss_is_the_sum_of_its_terms():
    model = small(lambda_beta=0.3, lambda_switch=0.7, lambda_switch_frac=0.5)
    for step, price in ((0, 0.0), (25, 0.35), (50, 0.7), (99, 0.7)):
        output = model(torch.rand(2, 3, 32, 32), step)
        terms = output.terms
        assert float(terms["lambda_switch"]) == pytest.approx(price)
        beta = 0.3 * (terms["beta_choice"] + terms["beta_switch"]) / 2
        torch.testing.assert_close(output.loss, terms["mse"] + beta + price * terms["switch"])
        torch.testing.assert_close(terms["switch"], output.presence.mean())
    assert float(small()(torch.rand(1, 3, 32, 32), 0).terms["lambda_switch"]) == pytest.approx(5e-3)


@pytest.mark.parametrize(("backgrounds", "learns"), [(1, False), (2, True)])
def test_a_choice_of_one_background_teaches_nothing(backgrounds, learns):
    model = small(n_backgrounds=backgrounds, replicate=True, **WIDE)
    model(torch.rand(2, 3, 32, 32), 0).loss.backward()
    for part in (model.background_encoder, model.background_projection):
        assert all((p.grad is not None and bool(p.grad.any())) == learns for p in part.parameters())


@pytest.mark.parametrize(("codes", "pictures", "learns"), [(1, 1, True), (0, 1, True), (1, 0, True), (0, 0, False)])
def test_sprites_learn_by_choice_and_by_decoder(codes, pictures, learns):
    model = small()
    keep = (codes, pictures)
    model.sprites.register_forward_hook(
        lambda _module, _inputs, both: tuple(x if k else x.detach() for x, k in zip(both, keep, strict=True))
    )
    model(torch.rand(2, 3, 32, 32), 0).loss.backward()
    gradient = model.sprites.latents.grad
    assert (gradient is not None and bool(gradient.any())) == learns


def test_the_order_of_the_dictionary_does_not_show():
    model, image = small().eval(), torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        before = model(image, 0).reconstruction
        assert torch.equal(before, model(image, 0).reconstruction)
        model.sprites.latents.copy_(model.sprites.latents[[1, 0, 2, 5, 4, 3]])
        torch.testing.assert_close(model(image, 0).reconstruction, before, rtol=0, atol=1e-6)
        model.sprites.latents[0] += torch.randn(16)
        assert not torch.allclose(model(image, 0).reconstruction, before, atol=1e-6)


def test_one_permutation_per_forward(monkeypatch):
    drawn = []

    def record(n, like):
        drawn.append(n)
        return torch.tensor([2, 0, 3, 1])

    monkeypatch.setattr(noise, "permutation", record)
    model, image = small(**WIDE), torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        shuffled = model(image, 0)
        assert drawn == [4]
        fixed = model.eval()(image, 0)
        assert drawn == [4]
        published = small(replicate=True, **WIDE).eval()(image, 0)
        assert drawn == [4, 4]
    assert not torch.allclose(shuffled.reconstruction, fixed.reconstruction)
    torch.testing.assert_close(published.reconstruction, shuffled.reconstruction)
    # the same anchor keeps its number, whatever the order
    support = (output.masks.amax((0, 2)) > 0 for output in (shuffled, fixed))
    assert torch.equal(*support)


@pytest.mark.parametrize(("size", "spacing"), [(32, 4), (64, 16), (96, 16), (96, 8), (128, 32)])
def test_sizes_that_the_grid_fits(size, spacing):
    model, image = small(size, anchor_spacing=spacing, code_dim=8), torch.rand(1, 3, size, size)
    with torch.no_grad():
        output = model(image, 0)
    output.check(image)
    assert output.masks.shape[1] == 1 + 2 * (size // spacing) ** 2
