"""EfficientMORL's inference and decoder against the check points that need no reference: symmetries, limits, counts."""

import math

import pytest
import torch
from torch import Tensor, nn

import trainables
from tests.trainables.efficient_morl import HALFWAY, REFINED, explain, fix_noise, images, model
from trainables import noise
from trainables.efficient_morl import Config, Model
from trainables.efficient_morl.blocks import Position, normal
from trainables.efficient_morl.model import mean_kl


def count(*modules: nn.Module) -> int:
    """Parameters of modules."""
    return sum(p.numel() for module in modules for p in module.parameters())


@pytest.mark.parametrize("image_size", [32, 64, 96, 128])
@pytest.mark.parametrize(("num_slots", "layers"), [(11, 3), (5, 2), (3, 4)])
def test_published_parameter_counts(image_size, num_slots, layers):
    with torch.device("meta"):
        m = trainables.build("efficient_morl", {"num_slots": num_slots, "L": layers}, image_size)
    assert isinstance(m, Model)
    assert m.prior is not None and m.refiner is not None
    assert count(m.encoder.conv) == 312_256
    assert count(m.encoder.position) == count(m.decoder.position) == 320
    assert count(m.encoder.mlp) == 8_448
    p = m.posterior
    assert count(p.norm_q, p.norm_mu, p.norm_s) == 384
    assert count(p.to_q, p.to_k, p.to_v) == 12_288
    assert count(p.gru_mu, p.gru_s) == 49_920
    assert count(p.mlp_mu, p.mlp_s) == 33_152
    assert p.initial.numel() == 128
    assert count(m.prior) == 24_832
    assert count(m.decoder.conv) == 150_020
    assert count(m.refiner.mlp) == 41_152
    assert count(m.refiner.gru) == 24_960
    assert count(m.refiner.mu, m.refiner.s) == 8_320
    assert count(m.refiner) == 74_432
    assert count(m) == 666_500


def test_weights_that_would_be_dead_are_left_out():
    assert model(L=1).prior is None
    assert model(I_start=0, I_end=0).refiner is None


def test_published_initial_weights():
    m = trainables.build("efficient_morl", {}, 32)
    assert isinstance(m, Model) and m.refiner is not None
    conv = m.encoder.conv[2]
    assert float(conv.weight.detach().std()) == pytest.approx(0.02 * (2 / (2 * 64 * 25)) ** 0.5, rel=0.02)
    assert float(m.posterior.to_q.weight.detach().std()) == pytest.approx(0.02 / 8, rel=0.05)
    assert not any(layer.bias.any() for layer in (conv, m.refiner.mu, m.decoder.conv[0], m.posterior.mlp_s[2]))
    for cell in (m.posterior.gru_mu, m.posterior.gru_s):
        assert float(cell.weight_hh.detach().std()) == pytest.approx(1, rel=0.05)
        assert float(cell.bias_ih.detach().std()) == pytest.approx(1, rel=0.3)
    assert float(m.refiner.gru.weight_hh.detach().abs().max()) <= 1 / 8
    assert m.posterior.initial.tolist() == [0.0] * 64 + [1.0] * 64
    assert m.encoder.position.linear.bias.any()


@pytest.mark.parametrize("replicate", [False, True])
def test_the_initial_positions_of_decoder_and_encoder(replicate):
    """Xavier's gain of 0.02 holds for the decoder's projection, torch's default for the encoder's."""
    m = trainables.build("efficient_morl", {"replicate": replicate}, 32)
    decoder, encoder = (
        float(part.position.linear.weight.detach().square().mean().sqrt()) for part in (m.decoder, m.encoder)
    )
    assert decoder == pytest.approx(0.02 * (2 / (4 + 64)) ** 0.5, rel=0.15)  # 0.0034
    assert encoder == pytest.approx(0.5 / 3**0.5, rel=0.15)  # 0.289
    assert not m.decoder.position.linear.bias.any()


def test_narrow_posteriors_at_the_start():
    p = model(gru_init="default", s_init=-6.0, s_bias=-4.0).posterior
    assert p.initial.tolist() == [0.0] * 8 + [-6.0] * 8
    assert p.mlp_s[2].bias.tolist() == [-4.0] * 8 and not p.mlp_mu[2].bias.any()
    assert float(p.gru_mu.weight_hh.detach().abs().max()) <= 8**-0.5
    tokens = torch.randn(2, 50, 8)
    narrow, wide = (
        normal(built(tokens, 4)[-1])[1].detach().mean() for built in (p, model(gru_init="default").posterior)
    )
    assert float(narrow) < 0.5 * float(wide)


def test_positions_rise_and_fall_along_both_axes():
    ramps = Position(8, 5).ramps
    assert ramps[:, 2].T[:2].tolist() == [[1, 0.75, 0.5, 0.25, 0], [0, 0.25, 0.5, 0.75, 1]]
    assert ramps[2].T[2:].tolist() == [[0, 0.25, 0.5, 0.75, 1], [1, 0.75, 0.5, 0.25, 0]]


def test_a_grey_image_at_the_start():
    """The published model's ranges over five seeds, 64x64, K = 11, I = 3."""
    torch.manual_seed(0)
    m = trainables.build("efficient_morl", {"replicate": True}, 64)
    changes: list[float] = []
    m.refiner.register_forward_hook(
        lambda _, inputs, output: changes.append(float((output[0] - inputs[0]).detach().norm(dim=-1).mean()))
    )
    image = torch.full((2, 3, 64, 64), 0.5)
    with torch.no_grad():
        output = explain(m, image)
    output.check(image)
    for nll in ("nll_0", "nll"):
        assert float(output.terms[nll]) == pytest.approx(3 * 64 * 64 * math.log(0.1), rel=1e-5)
    assert 232 < float(output.terms["kl"]) < 267
    assert -125_880 < float(output.loss) < -125_630
    torch.testing.assert_close(output.masks, torch.full((2, 11, 1, 64, 64), 1 / 11), rtol=0, atol=1e-6)
    torch.testing.assert_close(output.reconstruction, image, rtol=0, atol=1e-5)
    assert changes == pytest.approx([0.009, 0.014, 0.017], rel=0.3)


def test_masks_share_out_each_pixel():
    m, x = model(), images(2)
    output = explain(m, x)
    output.check(x)
    assert 0 <= float(output.reconstruction.min()) and float(output.reconstruction.max()) <= 1
    blend = (output.masks * output.appearances).sum(1)
    torch.testing.assert_close(output.reconstruction, blend, rtol=0, atol=1e-5)


@pytest.mark.parametrize("step", [REFINED, HALFWAY])
def test_permuting_the_noise_permutes_the_slots(monkeypatch, step):
    m, x, pattern = model(), images(2), torch.randn(12, 2, 4, 8)
    order = torch.tensor([2, 0, 3, 1])
    fix_noise(monkeypatch, pattern)
    before = m(x, step)
    fix_noise(monkeypatch, pattern, lambda eps: eps[:, order])
    after = m(x, step)
    torch.testing.assert_close(after.loss, before.loss)
    torch.testing.assert_close(after.reconstruction, before.reconstruction, rtol=0, atol=1e-4)
    torch.testing.assert_close(after.masks, before.masks[:, order], rtol=0, atol=1e-4)
    torch.testing.assert_close(after.appearances, before.appearances[:, order], rtol=0, atol=1e-4)
    assert float((before.masks[:, 0] - before.masks[:, 1]).abs().max()) > 1e-3


def test_noise_is_drawn_per_layer_prior_and_refinement(monkeypatch):
    m, x, drawn = model(), images(2), []
    draw = noise.normal
    monkeypatch.setattr(noise, "normal", lambda shape, like: drawn.append(tuple(shape)) or draw(shape, like))
    for step, refinements in ((REFINED, 3), (HALFWAY, 1)):
        drawn.clear()
        m(x, step)
        assert drawn == [(2, 4, 8)] * (3 + 1 + 2 + refinements)


def test_kl_of_equal_normals_is_zero_and_a_perfect_prior_costs_nothing():
    m = model()
    assert m.prior is not None
    q = torch.randn(2, 4, 16) * 3
    assert float(mean_kl(normal(q), normal(q))) == pytest.approx(0, abs=1e-5)
    # a prior net that gives every slot the raw numbers 0.3, which are all the lower layers' too
    nn.init.zeros_(m.prior.mu.weight)
    nn.init.zeros_(m.prior.s.weight)
    nn.init.constant_(m.prior.mu.bias, 0.3)
    nn.init.constant_(m.prior.s.bias, 0.3)
    below = torch.full((2, 4, 16), 0.3)
    kl, prior = m.hierarchical_kl([below, below, q])
    mean, std = normal(q)
    expected = (0.5 * (std**2 + mean**2 - 1) - std.log()).sum() / 2
    torch.testing.assert_close(kl, expected)
    torch.testing.assert_close(prior, normal(below))
    kl, prior = m.hierarchical_kl([q])
    torch.testing.assert_close(kl, expected)
    assert not prior[0].any() and (prior[1] == 1).all()


def test_the_raw_number_is_the_variance_before_its_softplus():
    mean, std = normal(torch.tensor([3.0, -1.0, -200.0, 200.0]))
    assert mean.tolist() == [3, -1]
    assert std.tolist() == pytest.approx([1e-5**0.5, 80**0.5])


def test_attention_sums_to_one_over_slots_and_its_weights_over_tokens():
    p = model().posterior.double()
    attention = p.attend(torch.randn(2, 4, 8).double(), torch.randn(2, 50, 8).double())
    assert attention.shape == (2, 4, 50)
    one = torch.full((2, 50), 1 + 4e-8, dtype=torch.float64)
    torch.testing.assert_close(attention.sum(1), one, rtol=0, atol=1e-12)
    assert float((attention.sum(2) - 50 / 4).detach().abs().min()) > 1e-3
    # values of all ones make the update the sum of the weights
    fed: list[Tensor] = []
    p.gru_mu.register_forward_pre_hook(lambda _, inputs: fed.append(inputs[0]))
    nn.init.constant_(p.to_v.weight, 1 / 8)
    p(torch.ones(2, 50, 8).double(), 4)
    torch.testing.assert_close(torch.stack(fed), torch.ones(3, 8, 8, dtype=torch.float64))


def test_layers_follow_the_equations(monkeypatch):
    """Against the same equations written out for one image, the GRUs as one cell with block-diagonal weights."""
    p = model(L=2).posterior
    tokens, eps = torch.randn(1, 10, 8), torch.randn(2, 1, 4, 8)
    fix_noise(monkeypatch, eps)
    k, v = tokens[0] @ p.to_k.weight.T, tokens[0] @ p.to_v.weight.T
    cells = (p.gru_mu, p.gru_s)

    def gates(kind: str, x: Tensor) -> tuple[Tensor, ...]:
        """Three gates of mean and variance parameter side by side, each (K, 2D)."""
        parts = [[w.chunk(3)[gate] for w in (getattr(c, f"weight_{kind}") for c in cells)] for gate in range(3)]
        biases = [torch.cat([getattr(c, f"bias_{kind}").chunk(3)[gate] for c in cells]) for gate in range(3)]
        return tuple(x @ torch.block_diag(*w).T + b for w, b in zip(parts, biases, strict=True))

    state = p.initial.expand(4, -1)
    for layer in range(2):
        mu, s = state.chunk(2, 1)
        z = mu + (torch.log1p(s.exp()) + 1e-5).sqrt() * eps[layer, 0]
        logits = p.norm_q(z) @ p.to_q.weight.T @ k.T / 8**0.5
        a = logits.exp() / logits.exp().sum(0) + 1e-8
        u = (a / a.sum(1, keepdim=True)) @ v
        (r, i, n), (hr, hi, hn) = gates("ih", torch.cat([u, u], 1)), gates("hh", state)
        update = torch.sigmoid(i + hi)
        state = (1 - update) * torch.tanh(n + torch.sigmoid(r + hr) * hn) + update * state
        mu, s = state.chunk(2, 1)
        state = torch.cat([mu + p.mlp_mu(p.norm_mu(mu)), s + p.mlp_s(p.norm_s(s))], 1)
    torch.testing.assert_close(p(tokens, 4)[1][0], state, rtol=1e-4, atol=1e-5)


def test_the_first_layer_of_the_decoder_is_a_convolution_of_the_tiled_latent():
    m, z = model(), torch.randn(2, 4, 8)
    tiled = z.flatten(0, 1)[:, :, None, None] + m.decoder.position().permute(2, 0, 1)
    assert tiled.shape[2:] == (42, 42)
    colour, logits = m.decoder.conv(tiled).unflatten(0, (2, 4)).split([3, 1], 2)
    for ours, plain in zip(m.decoder(z), (colour.sigmoid(), logits.log_softmax(1)), strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("keys", [{}, {"L": 1}, {"likelihood": "gmm"}, {"I_start": 0, "I_end": 0}])
def test_evaluation_without_gradients_is_the_same(keys):
    m, x = model(**keys).eval(), images(3)
    with_gradients = explain(m, x)
    with torch.no_grad():
        without = explain(m, x)
    assert not any(tensor.requires_grad for tensor in (without.loss, without.reconstruction, without.masks))
    torch.testing.assert_close(without.loss, with_gradients.loss.detach())
    torch.testing.assert_close(without.masks, with_gradients.masks)
    assert all(parameter.grad is None for parameter in m.parameters())
    for parameter in m.parameters():
        parameter.requires_grad_(False)
    with torch.no_grad():
        torch.testing.assert_close(explain(m, x).loss, without.loss)


def test_images_do_not_see_each_other(monkeypatch):
    m, x, pattern = model(), images(4), torch.randn(12, 4, 4, 8)
    fix_noise(monkeypatch, pattern)
    together = m(x, REFINED)
    fix_noise(monkeypatch, pattern[:, 2:3])
    alone = m(x[2:3], REFINED)
    torch.testing.assert_close(alone.masks, together.masks[2:3], rtol=0, atol=1e-4)
    torch.testing.assert_close(alone.reconstruction, together.reconstruction[2:3], rtol=0, atol=1e-4)


def test_the_published_refinement_depends_on_the_batch_size(monkeypatch):
    """It reads the gradient of the batch's mean, so small that the 1e-5 of the normalisation counts."""
    x, pattern = images(1), torch.randn(12, 1, 4, 8)
    change = {}
    for replicate in (False, True):
        m = model(replicate=replicate, sigma=100.0, kl_weight=0.0)
        shown = []
        for batch in (1, 4):
            fix_noise(monkeypatch, pattern.expand(-1, batch, -1, -1))
            with torch.no_grad():
                shown.append(m(x.expand(batch, -1, -1, -1), REFINED).masks[:1])
        change[replicate] = float((shown[0] - shown[1]).abs().max())
    assert change[False] < 1e-5 and change[True] > 1e-3


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("L", 0),
        ("z_dim", 0),
        ("dec_layers", 0),
        ("I_start", -1),
        ("I_end", -1),
        ("I_eval", -1),
        ("warmup_frac", -0.1),
        ("geco_warmup_frac", 1.1),
        ("half_life_frac", 0.0),
        ("geco_eta", 0.0),
        ("geco_target_mse", 0.0),
        ("init_gain", 0.0),
        ("weight_decay", -1.0),
        ("kl_weight", -1.0),
        ("kernel_size", 4),
        ("encoder_strides", "1,3"),
        ("likelihood", "laplace"),
        ("optimizer", "sgd"),
    ],
)
def test_bad_values_are_named(key, value):
    with pytest.raises(ValueError, match=key):
        trainables.build("efficient_morl", {key: value}, 32).optimizers()


def test_refinement_must_be_learnt_first():
    with pytest.raises(ValueError, match="I_eval"):
        model(I_start=0, I_end=0, I_eval=1)
    with pytest.raises(ValueError, match="I_end"):
        model(I_start=0)
    assert model(I_start=1, I_eval=5).config.I_eval == 5


def test_a_grid_must_double_into_the_image():
    with pytest.raises(ValueError, match="dec_layers is 3"):
        model(36, decoder="deconv", dec_layers=3)
    image = images(1, 36)
    model(36, decoder="deconv", dec_layers=2)(image, 0).check(image)


def test_defaults_are_the_published_configuration():
    c = Config()
    assert (c.lr, c.batch_size, c.steps, c.num_slots, c.grad_clip) == (4e-4, 32, 500_000, 11, 5.0)
    assert c.geco_target_mse == pytest.approx(103.533 / 49_152, rel=1e-4)
