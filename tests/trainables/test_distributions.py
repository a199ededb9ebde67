"""Densities, divergences and samples against ``torch.distributions``."""

import pytest
import torch

from trainables import noise
from trainables.distributions import (
    bernoulli_kl,
    mixture_log_density,
    normal_kl,
    normal_log_density,
    sample_normal,
    sample_relaxed_bernoulli,
)


def test_divergences():
    torch.manual_seed(0)
    mean, std = torch.randn(50), torch.rand(50) + 0.1
    assert normal_kl(mean, std, mean, std).abs().max() < 1e-6
    assert float(normal_kl(torch.tensor(-1.0), torch.tensor(0.1), -1.0, 0.1)) == pytest.approx(0, abs=1e-6)
    logits = 3 * torch.randn(50)
    assert bernoulli_kl(logits, logits.sigmoid()).abs().max() < 1e-6
    assert normal_kl(mean, std, 0.3, 0.7).min() >= 0 and bernoulli_kl(logits, 0.01).min() >= 0
    p, q = torch.distributions.Normal(mean, std), torch.distributions.Normal(0.3, 0.7)
    torch.testing.assert_close(normal_kl(mean, std, 0.3, 0.7), torch.distributions.kl_divergence(p, q))
    p, q = torch.distributions.Bernoulli(logits=logits), torch.distributions.Bernoulli(0.01)
    torch.testing.assert_close(bernoulli_kl(logits, 0.01), torch.distributions.kl_divergence(p, q))


def test_log_density():
    torch.manual_seed(0)
    x, mean, std = torch.randn(3, 50).unbind()
    expected = torch.distributions.Normal(mean, std.exp()).log_prob(x)
    torch.testing.assert_close(normal_log_density(x, mean, std.exp()), expected)
    expected = torch.distributions.Normal(0.5, 0.15).log_prob(x)
    torch.testing.assert_close(normal_log_density(x, 0.5, 0.15), expected)


def test_samples_have_their_mean_and_deviation():
    torch.manual_seed(0)
    mean = torch.tensor([-2.0, 3.0]).expand(20_000, 2)
    sample = sample_normal(mean, torch.tensor([0.1, 2.0]))
    torch.testing.assert_close(sample.mean(0), mean[0], rtol=0, atol=0.06)
    torch.testing.assert_close(sample.std(0), torch.tensor([0.1, 2.0]), rtol=0.05, atol=0)


def test_presence_is_relaxed(monkeypatch):
    monkeypatch.setattr(noise, "uniform", lambda shape, like: torch.full(tuple(shape), 0.5))
    logits = torch.linspace(-8.8, 8.8, 9, requires_grad=True)
    z = sample_relaxed_bernoulli(logits, 2.5)
    assert z[[0, -1]].tolist() == pytest.approx([0.02875, 0.97125], abs=1e-5)
    assert (z.diff() > 0).all()
    z.sum().backward()
    assert (logits.grad > 0).all()
    for u in (0.0, 1.0):
        monkeypatch.setattr(noise, "uniform", lambda shape, like, u=u: torch.full(tuple(shape), u))
        assert sample_relaxed_bernoulli(logits, 0.3).isfinite().all()


def test_mixture_of_each_channel_or_of_the_pixel():
    torch.manual_seed(0)
    x, means = torch.rand(2, 3, 4, 4), torch.rand(2, 5, 3, 4, 4)
    log_masks, std = torch.randn(2, 5, 1, 4, 4).log_softmax(1), torch.rand(5, 1, 1, 1) + 0.1
    density = torch.distributions.Normal(means, std).log_prob(x[:, None].expand_as(means)).exp()
    torch.testing.assert_close(mixture_log_density(x, log_masks, means, std), (log_masks.exp() * density).sum(1).log())
    whole = (log_masks.exp() * density.prod(2, keepdim=True)).sum(1).log()
    torch.testing.assert_close(mixture_log_density(x, log_masks, means, std, "pixel"), whole)
