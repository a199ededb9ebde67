"""From pixels to clusters in Genesis-V2: embeddings, stick-breaking and pooling, against the equations written out."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import trainables
from data.loader import as_tensors
from search_spaces.genesis_v2 import TINY
from tests.trainables import scenes
from trainables import metrics
from trainables.genesis_v2 import Model
from trainables.genesis_v2.clustering import clamp_alpha, mask_kl, stick_breaking


def model(**keys: Any) -> Model:
    """A freshly initialised narrow model."""
    torch.manual_seed(0)
    built = trainables.build("genesis_v2", {"num_slots": 4, "feat_dim": 16, "bottleneck_dim": 32, **keys}, 32)
    assert isinstance(built, Model)
    return built


def images(batch: int) -> Tensor:
    """Uniform noise (B, 3, 32, 32)."""
    return torch.rand(batch, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def attention(m: Model, image: Tensor, order: Tensor) -> Tensor:
    """Attention masks (B, K, N) with the seeds drawn by ``order`` (B, N)."""
    return stick_breaking(m.embedding(m.unet(image)), order, m.log_sigma.exp(), m.config.num_slots).exp()


def test_the_scope_shrinks_within_its_bounds() -> None:
    embedding = torch.randn(3, 8, 50)
    log_masks = stick_breaking(embedding, torch.rand(3, 50), torch.tensor(1.0), 6)
    assert float(log_masks[:, :-1].exp().max()) <= 0.99 + 1e-6
    scope = 1 - torch.cat([torch.zeros(3, 1, 50), log_masks.exp().double().cumsum(1)], dim=1)  # (B, K + 1, N)
    assert (scope.diff(dim=1) <= 1e-7).all()
    for t in range(6):
        assert float(scope[:, t].min()) >= 1e-2**t - 1e-6 and float(scope[:, t].max()) <= 0.99**t + 1e-6


def test_a_seed_has_the_largest_product_of_order_and_scope() -> None:
    """And it keeps 1 % of its scope."""
    embedding, order = torch.randn(2, 8, 40), torch.rand(2, 40)
    masks = stick_breaking(embedding, order, torch.tensor(0.5), 5).exp()
    scope = torch.ones(2, 40)
    for k in range(4):
        seed = (order * scope).argmax(1)
        if k == 0:
            assert torch.equal(seed, order.argmax(1))
        torch.testing.assert_close(masks[range(2), k, seed], 0.99 * scope[range(2), seed])
        scope = scope - masks[:, k]
    assert torch.equal(stick_breaking(embedding, order, torch.tensor(0.5), 5).exp(), masks)
    assert not torch.equal(stick_breaking(embedding, order.flip(1), torch.tensor(0.5), 5).exp(), masks)


def test_a_fresh_model_clusters_by_place() -> None:
    """The gate is shut, and alpha falls to 0.5 at a squared distance of 1 / K."""
    m, order = model(num_slots=11), torch.rand(1, 1024)
    masks = attention(m, images(1), order)
    assert torch.equal(attention(m, 1 - images(1), order), masks)
    assert float(m.log_sigma.detach()) == pytest.approx(-2.0314, abs=1e-4)
    line = torch.zeros(1, 8, 2)
    line[0, 7, 1] = 11**-0.5
    alpha = stick_breaking(line, torch.tensor([[0.9, 0.1]]), m.log_sigma.exp(), 2).exp()[0, 0]
    torch.testing.assert_close(alpha, torch.tensor([0.99, 0.5]))
    torch.testing.assert_close(model(sigma_init_scale=3.0).log_sigma.exp(), torch.tensor(3 / (4 * math.log(2))))


def test_stick_breaking_equals_a_loop_over_images_and_pixels() -> None:
    """Against the same equations written out for one image."""
    embedding, order = torch.randn(3, 8, 30), torch.rand(3, 30)
    together = stick_breaking(embedding, order, torch.tensor(2.0), 4)
    for i in range(3):
        alone = stick_breaking(embedding[i : i + 1], order[i : i + 1], torch.tensor(2.0), 4)
        assert torch.equal(alone[0], together[i])
        scope = [1.0] * 30
        for k in range(3):
            seed = max(range(30), key=lambda n: float(order[i, n]) * scope[n])
            for n in range(30):
                distance = float((embedding[i, :, n] - embedding[i, :, seed]).square().sum())
                alpha = min(max(math.exp(-distance / 2), 0.01), 0.99)
                assert float(together[i, k, n].exp()) == pytest.approx(scope[n] * alpha, rel=1e-3)
                scope[n] *= 1 - alpha


def test_the_clamp_passes_gradients_through() -> None:
    alpha = torch.tensor([0.0, 0.005, 0.3, 1.0], requires_grad=True)
    clamped = clamp_alpha(alpha)
    torch.testing.assert_close(clamped, torch.tensor([0.01, 0.01, 0.3, 0.99]))
    clamped.sum().backward()
    assert torch.equal(alpha.grad, torch.ones(4))


def test_pooling_averages_under_the_masks() -> None:
    m, f = model().posterior, torch.randn(2, 16, 32, 32)
    masks = torch.rand(2, 4, 1024)
    g = m.features(f).flatten(2)
    mean, std = m(f, masks)
    pooled = (masks[1, 2] * g[1]).sum(1) / (masks[1, 2].sum() + 1e-5)
    expected = m.latent(pooled)
    torch.testing.assert_close(mean[1, 2], expected[:16], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(std[1, 2], nn.functional.softplus(expected[16:] + 0.5), rtol=1e-4, atol=1e-5)
    m = model(pool_coordinates=True).posterior
    masks = torch.zeros(2, 4, 32, 32)
    masks[..., 31, 0] = 1  # the lower left pixel
    expected = m.latent(torch.cat([m.features(f)[1, :, 31, 0], torch.tensor([1.0, -1.0])]))
    torch.testing.assert_close(m(f, masks.flatten(2))[0][1, 2], expected[:16], rtol=1e-3, atol=1e-3)


def test_the_masks_divergence() -> None:
    p = torch.tensor([[0.7, 0.2], [0.3, 0.8]])[None].log()
    q = torch.tensor([[0.5, 0.2], [0.5, 0.8]])[None].log()
    assert float(mask_kl(p, p)) == 0
    assert float(mask_kl(p, q)) == pytest.approx(0.7 * math.log(1.4) + 0.3 * math.log(0.6), rel=1e-3)
    nothing = torch.tensor([[0.0], [-math.inf]])[None]
    assert float(mask_kl(nothing, nothing.flip(1))) == pytest.approx(math.log(1e5), rel=1e-3)


def test_an_embedding_may_begin_with_its_own_pixel() -> None:
    m, x = model(context_init=0.0, gate_init=1.0), images(1)
    x[:] = x[:, :, :1, :1]
    x[..., 8:, :] = 1 - x[..., 8:, :]  # two flat colours
    own = m.embedding(m.unet(x)) - m.embedding.grid.flatten(1)
    own = own.unflatten(2, (32, 32))
    torch.testing.assert_close(own[..., :8, :], own[..., :1, :1].expand(-1, -1, 8, 32), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(own[..., 8:, :], own[..., 31:, 31:].expand(-1, -1, 24, 32), rtol=1e-3, atol=1e-4)
    assert (own[..., 0, 0] - own[..., 31, 31]).abs().max() > 1e-2
    features = m.unet(x)
    assert (features[:, 8:, 12] - features[:, 8:, 28]).abs().max() > 1e-2, "the other half knows places"


def test_the_cpu_preset_begins_with_clusters_of_one_colour() -> None:
    torch.manual_seed(0)
    m = trainables.build("genesis_v2", TINY, 32)
    assert isinstance(m, Model)
    image, labels = as_tensors(*scenes.split(20, 32).gather(np.arange(20)), torch.device("cpu"))
    with torch.no_grad():
        masks = attention(m, image, torch.rand(20, 1024)).view(20, -1, 32, 32)
    assert metrics.summarise(metrics.score(masks, labels))["mIoU_fg"] > 0.3  # a 4x4 grid of patches: 0.08
