"""EfficientMORL's objective: likelihoods, GECO, schedules, and the gradients of two stages of inference."""

import itertools
import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.trainables.efficient_morl import HALFWAY, REFINED, explain, gradients, images, model
from trainables import noise
from trainables.distributions import sample_normal
from trainables.efficient_morl import Model
from trainables.efficient_morl.blocks import normal
from trainables.efficient_morl.inference import normalise
from trainables.efficient_morl.model import loss_weights, mean_kl


def test_loss_weights_fall():
    assert loss_weights(0) == [3]
    assert loss_weights(1) == [2, 1.5]
    assert loss_weights(2) == pytest.approx([5 / 3, 4 / 3, 1])
    assert loss_weights(3) == [1.5, 1.25, 1, 0.75]
    assert [sum(loss_weights(n)) for n in range(4)] == [3, 3.5, 4, 4.5]


def test_likelihoods_by_hand():
    x, z = images(2), torch.randn(2, 4, 8)
    for likelihood in ("gaussian", "gmm"):
        m = model(likelihood=likelihood, sigma=0.3)
        nll, decoded = m.nll(x, z)

        def density(colour: Tensor, x: Tensor = x) -> Tensor:
            return torch.exp(-0.5 * ((x - colour) / 0.3) ** 2) / 0.3

        if likelihood == "gaussian":
            p = density(decoded.reconstruction)
        else:
            p = sum(decoded.masks[:, k] * density(decoded.colour[:, k]) for k in range(4))
        torch.testing.assert_close(nll, -p.log().sum() / 2, rtol=1e-4, atol=0)


def plain_loss(m: Model, image: Tensor, step: int, frozen: bool) -> Tensor:
    """The loss by plain arithmetic, nothing computed ahead. Unless ``frozen``, g keeps its graph before it is cut."""
    *below, raw = m.posterior(m.encoder(image), m.config.num_slots)
    refinements = m.refinements(step)
    loss, hidden = torch.zeros(()), None
    for i, weight in enumerate(loss_weights(refinements)):
        nll, _ = m.nll(image, sample_normal(*normal(raw)))
        if i == 0:
            kl, prior = m.hierarchical_kl([*below, raw])
        else:
            kl = mean_kl(normal(raw), prior)
        part = m.objective(nll, kl, step)
        loss = loss + weight * part
        if i < refinements:
            (g,) = torch.autograd.grad(part, raw, retain_graph=True, create_graph=not frozen)
            g = g.clone().detach() if frozen else g
            assert m.refiner is not None
            raw, hidden = m.refiner(raw, g if m.config.replicate else g * len(image), hidden)
    return loss


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("keys", [{}, {"replicate": True}, {"likelihood": "gmm"}, {"L": 1}, {"L": 2}])
def test_gradients_are_those_of_the_plain_loss(keys, frozen):
    """No gradient passes through what refinement reads; the decoder gets the gradient that was computed ahead."""
    m, x = model(16, geco_warmup_frac=0.0, **keys), images(3, 16)
    m.geco_raw += 1
    nn.init.normal_(m.posterior.initial)  # a state of zeros gives the GRU's weights no gradient
    with noise.drawn_from(torch.Generator().manual_seed(0)):
        plain = plain_loss(m, x, REFINED, frozen)
    ours = explain(m, x).loss
    torch.testing.assert_close(ours, plain)
    expected = gradients(m, plain)
    found = gradients(m, ours)
    assert found.keys() == expected.keys()
    # what the bias adds to the logits is the same for all slots: its gradient is rounding
    del found["posterior.norm_q.bias"]
    for name, g in found.items():
        error = float((g - expected[name]).abs().max() / expected[name].abs().max())
        assert error < 1e-4, name


def test_autocast_keeps_the_gradients():
    m, x = model(likelihood="gmm"), images(2)
    exact = gradients(m, explain(m, x).loss)
    with torch.autocast("cpu", torch.bfloat16):
        output = explain(m, x)
        plain = explain_plain(m, x)
    output.check(x)
    assert output.loss.dtype == output.masks.dtype == torch.float32
    found, expected = gradients(m, output.loss), gradients(m, plain)
    total = sum(float(g.square().sum()) for g in expected.values()) ** 0.5
    for name, g in found.items():
        assert g.isfinite().all()
        assert float((g - expected[name]).norm()) < 1e-2 * total, name
    cosine = F.cosine_similarity(*(torch.cat([g.flatten() for g in gs.values()]) for gs in (found, exact)), dim=0)
    assert float(cosine) > 0.95


def explain_plain(m: Model, x: Tensor) -> Tensor:
    """:func:`plain_loss` with the noise of :func:`explain`, the slots in float32."""
    with noise.drawn_from(torch.Generator().manual_seed(0)):
        return plain_loss(m, x, REFINED, True)


def test_gradients_that_refinement_reads_are_normalised():
    g = torch.randn(2, 4, 16) * torch.tensor([1e-3, 1.0]).repeat_interleave(8)
    halves = normalise(g).unflatten(-1, (2, 8))
    torch.testing.assert_close(halves.mean(-1), torch.zeros(2, 4, 2), rtol=0, atol=1e-6)
    variance = halves.var(-1, unbiased=False)
    assert float(variance.max()) <= 1
    assert float(variance[..., 0].max()) < 0.6 and float(variance[..., 1].min()) > 0.999
    raw = g.unflatten(-1, (2, 8)).var(-1, unbiased=False)
    torch.testing.assert_close(variance, raw / (raw + 1e-5))


def test_every_parameter_gets_a_gradient_unless_nothing_is_refined():
    m, x = model(I_end=0), images(2)
    found = gradients(m, explain(m, x, REFINED).loss)
    assert found.keys() == dict(m.named_parameters()).keys()
    assert all(g.isfinite().all() and g.any() for g in found.values())
    found = gradients(m, explain(m, x, HALFWAY).loss)
    missing = dict(m.named_parameters()).keys() - found.keys()
    assert missing == {name for name, _ in m.named_parameters() if name.startswith("refiner.")} != set()


def test_published_start_reaches_the_encoder():
    """The initial gain leaves the encoder gradients of 1e-10, which must not round to nothing."""
    m = model(init_gain=0.02)
    found = gradients(m, explain(m, images(1)).loss)
    assert all(found[name].any() for name in found)


def geco(m: Model, miss: float, steps: range) -> list[float]:
    """GECO's raw multiplier after each of ``steps``, at a likelihood ``miss`` nats above the target."""
    output = SimpleNamespace(terms={"nll": torch.tensor(m.geco_target + miss)})
    history = []
    for step in steps:
        m.after_step(step, output)  # type: ignore[arg-type]
        history.append(float(m.geco_raw))
    return history


def test_geco_weighs_the_likelihood_but_its_average_does_not():
    m = model()
    m.geco_raw.fill_(2.0)
    for average in (0.0, -300.0):
        m.geco_average.fill_(average)
        nll, kl = torch.tensor(-7000.0, requires_grad=True), torch.tensor(5.0, requires_grad=True)
        loss = m.objective(nll, kl, 1000)
        assert float(loss) == pytest.approx(5 - math.log1p(math.exp(2)) * average)
        for g, expected in zip(torch.autograd.grad(loss, (nll, kl)), (math.log1p(math.exp(2)), 1), strict=True):
            assert float(g) == pytest.approx(expected)
    assert float(m.objective(nll, kl, 999)) == -7000 + 5
    assert float(model(use_geco=False, kl_weight=2.0).objective(nll, kl, 5000)) == -7000 + 2 * 5


def test_geco_moves_after_its_warmup_in_training_only():
    m = model(128)
    assert m.geco_target == pytest.approx(-108_000)
    assert geco(m, 1000, range(990, 1000)) == [pytest.approx(0.55)] * 10
    assert float(m.geco_average) == 0
    history = geco(m, 1000, range(1000, 1011))
    assert history[0] == pytest.approx(0.55)
    assert float(m.geco_average) == pytest.approx(-1000, rel=1e-4)
    assert [b - a for a, b in itertools.pairwise(history)] == pytest.approx([1e-3] * 10, rel=1e-2)
    m = model(128)
    assert geco(m, -1000, range(990, 1020)) == [pytest.approx(0.55)] * 30
    with torch.no_grad():
        model(16).eval()(images(1, 16), 2000)
    assert float(m.geco_raw) == pytest.approx(0.55)


def test_geco_follows_the_size_and_has_a_ceiling():
    """A small image misses its target by fewer nats, and counts as much."""
    assert model(32).geco_target == pytest.approx(model(128).geco_target / 16)
    rise = [geco(model(size), 1000 * size**2 / 128**2, range(1000, 1005))[-1] for size in (32, 128)]
    assert rise[0] == pytest.approx(rise[1])
    assert geco(model(128, geco_eta=1.0), 1000, range(1000, 1005))[-1] == 10
    assert geco(model(128, geco_eta=1.0, replicate=True), 1000, range(1000, 1005))[-1] > 1000


def test_the_target_is_an_error_whatever_sigma():
    m = model(32, sigma=0.25, geco_target_mse=0.01)
    m.decoder.register_forward_hook(lambda *_: (torch.full((1, 1, 3, 32, 32), 0.1), torch.zeros(1, 1, 1, 32, 32)))
    nll, _ = m.nll(torch.zeros(1, 3, 32, 32), torch.zeros(1, 4, 8))
    assert float(nll) == pytest.approx(m.geco_target, rel=1e-5)


def test_published_schedules():
    m = model(replicate=True)
    expected = {0: 0, 5_000: 0.5 * 0.5**0.05, 10_000: 0.933, 100_000: 0.5}
    assert {step: m.lr_scale(step)[0] for step in expected} == pytest.approx(expected, rel=1e-3)
    assert model(warmup_frac=0.0).lr_scale(0) == [1.0]
    assert model(warmup_frac=0.1, steps=100).lr_scale(0) == [0.1]
    assert [m.refinements(step) for step in (0, 99_999, 100_000, 200_000)] == [3, 3, 1, 1]
    m = model(I_eval=2)
    assert m.refinements(0) == 3 and m.eval().refinements(0) == m.refinements(HALFWAY) == 2
    assert float(m(images(1), 0).terms["refinements"]) == 2


@pytest.mark.parametrize(
    "keys",
    [
        {"sigma": 1e-3},
        {"sigma": 10.0, "kl_weight": 1e3},
        {"likelihood": "gmm", "sigma": 1e-3},
        {"init_gain": 10.0},
        {"s_init": -100.0, "s_bias": -100.0},
        {"s_init": 1000.0, "s_bias": 1000.0},
        {"num_slots": 1},
        {"z_dim": 1, "L": 1, "dec_layers": 1},
        {"encoder_strides": "2,2,2,2,2,2", "decoder": "deconv"},
    ],
)
def test_extreme_values_stay_finite(keys):
    m = model(geco_warmup_frac=0.0, geco_eta=1e6, **keys)
    optimizer = m.optimizers()[0]
    for step in range(3):
        x = images(1) * step  # black first
        output = m(x, step)
        output.check(x)
        optimizer.zero_grad()
        output.loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in m.parameters())
        nn.utils.clip_grad_norm_(m.parameters(), 5.0)
        optimizer.step()
        m.after_step(step, output)
    assert output.loss.isfinite()


def test_a_slot_that_owns_nothing_keeps_finite_gradients():
    m, x = model(likelihood="gmm", sigma=0.01), images(1)
    logits = torch.tensor([0.0, -1e4, -1e4, 1e4]).view(1, 4, 1, 1, 1).expand(1, 4, 1, 32, 32)
    m.decoder.register_forward_hook(lambda _, inputs, output: (output[0], (output[1] + logits).log_softmax(1)))
    output = explain(m, x)
    output.check(x)
    assert all(g.isfinite().all() for g in gradients(m, output.loss).values())
