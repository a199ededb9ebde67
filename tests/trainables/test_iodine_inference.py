"""What IODINE infers with, against closed forms and limits: likelihoods, gradients, evidence."""

import math

import pytest
import torch
from torch import Tensor

from tests.trainables.iodine import LATENTS, both, fix_noise, images, mixtures, model, refinements, show
from trainables.distributions import normal_kl
from trainables.iodine import Model
from trainables.iodine.likelihood import leave_one_out, log_likelihoods, logsumexp_of_others, mixture_log_likelihood


@mixtures
def test_a_perfect_explanation_costs_the_same_whatever_the_masks(mixture):
    m, x = model(mixture=mixture), images(2)
    show(m, x[:, None].expand(-1, 4, -1, -1, -1), 5 * torch.randn(2, 4, 1, 32, 32))
    output = m(x, 0)
    perfect = 3 * 32 * 32 * math.log(0.1)
    for t in (1, 2, 3):
        assert float(output.terms[f"nll_{t}"]) == pytest.approx(perfect, rel=1e-5)
    kl = sum(t / 3 * float(output.terms[f"kl_{t}"]) for t in (1, 2, 3))
    assert float(output.loss.detach()) == pytest.approx(2 * perfect + kl, rel=1e-5)


def kl_at(m: Model, scale: float) -> Tensor:
    """(4, 8): the KL of each latent at mean 0 and ``scale``."""
    posterior = torch.cat([torch.zeros(4, 8), torch.full((4, 8), scale)], dim=1)
    return normal_kl(*m.moments(posterior), 0.0, 1.0)


def test_kl_of_known_posteriors():
    ours, published = model(), model(replicate=True)
    assert float(model(num_iters=1)(images(1), 0).terms["kl_1"]) == pytest.approx(32 * 0.0203739, rel=1e-4)
    for m in (ours, published):
        torch.testing.assert_close(kl_at(m, 0.541325), torch.zeros(4, 8), rtol=0, atol=1e-6)
    torch.testing.assert_close(kl_at(published, -30.0), torch.full((4, 8), 14.5), rtol=0, atol=1e-3)
    torch.testing.assert_close(kl_at(ours, -30.0), torch.full((4, 8), 6.4078), rtol=0, atol=1e-3)
    assert kl_at(published, -200.0).isinf().all()


def test_a_vanishing_variance_keeps_the_gradient_finite():
    m = model()
    posterior = torch.cat([torch.zeros(1, 4, 8), torch.full((1, 4, 8), -200.0)], dim=2).requires_grad_()
    mean, std = m.moments(posterior)
    (normal_kl(mean, std, 0.0, 1.0).sum() + (mean + std).sum()).backward()
    assert posterior.grad is not None and posterior.grad.isfinite().all()


@mixtures
def test_one_slot_has_the_likelihood_of_a_normal(mixture):
    x, r = images(2), torch.rand(2, 1, 3, 32, 32)
    log_masks = torch.zeros(2, 1, 1, 32, 32, requires_grad=True)
    nll = -mixture_log_likelihood(log_masks, log_likelihoods(x, r, 0.2, mixture)).sum()
    expected = (x - r[:, 0]).square().sum() / (2 * 0.2**2) + x.numel() * math.log(0.2)
    torch.testing.assert_close(nll, expected)
    nll.backward()
    share = -3.0 if mixture == "channel" else -1.0
    torch.testing.assert_close(log_masks.grad, torch.full((2, 1, 1, 32, 32), share))


@both
@mixtures
def test_gradients_are_the_closed_forms(replicate, mixture):
    m, x = model(replicate=replicate, mixture=mixture), images(3)
    given = refinements(m, x)
    assert len(given) == 2
    g = 1 / 3 if replicate else 1.0
    for _, scene, gradients, posterior, _ in given:
        responsibility = (scene.log_masks + scene.likelihoods).softmax(1)  # (B, K, C', H, W)
        colour = -g * responsibility * (x[:, None] - scene.colour) / 0.1**2
        mask = -g * responsibility.sum(2, keepdim=True)
        torch.testing.assert_close(gradients.colour, colour.detach(), rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(gradients.log_masks, mask.detach(), rtol=1e-4, atol=1e-3)
        assert gradients.posterior.shape == posterior.shape and gradients.posterior.any()
        assert not any(gradient.requires_grad for gradient in gradients)
        # a slot that takes more of a pixel never explains it worse
        assert float(gradients.log_masks.max()) <= 0
        total = torch.full((3, 1, 32, 32), -g * scene.likelihoods.shape[2])
        torch.testing.assert_close(gradients.log_masks.sum(1), total, rtol=1e-4, atol=0)


@mixtures
def test_the_posteriors_gradient_is_that_of_the_energy(mixture, monkeypatch):
    """Against central differences along the gradient, where they are largest beside the rounding."""
    m, x, eps = model(mixture=mixture, num_iters=2), images(1), torch.randn(2, 1, *LATENTS)
    fix_noise(monkeypatch, eps)
    gradient = refinements(m, x)[0][2].posterior
    direction = gradient / gradient.norm()

    @torch.no_grad()
    def energy(shift: float) -> float:
        mean, std = m.moments(m.posterior.expand(1, 4, -1) + shift * direction)
        scene = m.explain(x, mean + std * eps[0], m.config.sigma)
        return float(normal_kl(mean, std, 0.0, 1.0).double().sum() - scene.log_p.double().sum())

    assert (energy(0.01) - energy(-0.01)) / 0.02 == pytest.approx(float(gradient.norm()), rel=0.01)


@pytest.mark.parametrize("sigma", [0.1, 0.02])
@mixtures
def test_leave_one_out_is_the_mixture_without_the_slot(sigma, mixture):
    torch.manual_seed(0)
    log_masks = (6 * torch.randn(2, 5, 1, 16, 16)).log_softmax(1)
    likelihoods = log_likelihoods(images(2, 16), torch.rand(2, 5, 3, 16, 16), sigma, mixture)
    found = leave_one_out(log_masks, likelihoods)
    for k in range(5):
        others = [j for j in range(5) if j != k]
        rest = log_masks[:, others].log_softmax(1)
        expected = mixture_log_likelihood(rest, likelihoods[:, others])
        torch.testing.assert_close(found[:, k], expected, rtol=1e-5, atol=1e-3)


def test_leaving_out_one_of_two_equal_slots_changes_nothing():
    likelihoods = log_likelihoods(images(1), torch.rand(1, 1, 3, 32, 32).expand(1, 2, -1, -1, -1), 0.1, "channel")
    log_masks = torch.randn(1, 2, 1, 32, 32).log_softmax(1)
    log_p = mixture_log_likelihood(log_masks, likelihoods)[:, None].expand(-1, 2, -1, -1, -1)
    torch.testing.assert_close(leave_one_out(log_masks, likelihoods), log_p, rtol=1e-5, atol=1e-3)


def test_what_remains_beside_a_dominant_summand_is_exact():
    x = torch.tensor([[0.0, -50.0, -60.0], [-50.0, -50.0, -1000.0], [3.0, 3.0, 3.0]])
    expected = [[-50 + math.log1p(math.exp(-10)), 0, 0], [-50, -50, -50 + math.log(2)], [3 + math.log(2)] * 3]
    torch.testing.assert_close(logsumexp_of_others(x), torch.tensor(expected), rtol=1e-6, atol=0)


def test_published_gradients_shrink_with_the_batch(monkeypatch):
    m, x, eps = model(replicate=True), images(4), torch.randn(3, 4, *LATENTS)
    fix_noise(monkeypatch, eps)
    together = refinements(m, x)[0][2]
    fix_noise(monkeypatch, eps[:, 2:3])
    alone = refinements(m, x[2:3])[0][2]
    for shrunk, whole in zip(together, alone, strict=True):
        torch.testing.assert_close(4 * shrunk[2:3], whole, rtol=1e-4, atol=1e-3)


@both
def test_the_refinement_network_sees_the_evidence_in_the_published_order(replicate):
    m, x = model(replicate=replicate), images(2)
    image, scene, gradients, _, state = refinements(m, x)[1]
    assert state[0].shape == state[1].shape == (8, 16)
    maps = m.refinement.maps(image, scene, gradients).unflatten(0, (2, 4))
    for k in range(4):
        assert torch.equal(maps[:, k, :3], x)  # each slot its own image
    assert torch.equal(maps[:, :, 3:6], scene.colour)
    torch.testing.assert_close(maps[:, :, 6:7].exp().sum(1), torch.ones(2, 1, 32, 32))
    assert torch.equal(maps[:, :, 7:8], scene.logits)
    explains = maps[:, :, 8:9].exp() if replicate else maps[:, :, 8:9]
    torch.testing.assert_close(explains.sum(1), torch.ones(2, 1, 32, 32))
    alone = leave_one_out(scene.log_masks, scene.likelihoods)
    log_p = scene.log_p[:, None].expand(-1, 4, -1, -1, -1)
    for first, raw in ((9, gradients.colour), (12, gradients.log_masks), (13, log_p), (14, alone)):
        raw = raw.detach()
        mean, variance = raw.mean((2, 3, 4), keepdim=True), raw.var((2, 3, 4), keepdim=True, correction=0)
        normal = (raw - mean) / (variance + 1e-5).sqrt()
        torch.testing.assert_close(maps[:, :, first : first + raw.shape[2]], normal, rtol=1e-3, atol=1e-3)
    line = torch.linspace(-1, 1, 32)
    torch.testing.assert_close(maps[1, 2, 15:], torch.stack([line[:, None].expand(32, 32), line.expand(32, 32)]))
    assert maps.shape[2] == 17
