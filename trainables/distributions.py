"""Densities, divergences and reparameterised samples that several models share; all elementwise, in float32.

Normals are given by mean and standard deviation, Bernoullis by logits: the logit keeps its precision where the
probability rounds to 0 or 1.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from trainables import noise


def sample_normal(mean: Tensor, std: Tensor) -> Tensor:
    """A reparameterised sample of N(mean, std), of the shape of ``mean``."""
    return mean + std * noise.normal(mean.shape, mean)


def normal_log_density(x: Tensor, mean: Tensor | float, std: Tensor | float) -> Tensor:
    """log N(x; mean, std), elementwise and broadcast."""
    # log2, because torch.compile takes a number that changes with the step through it, but not through log
    log_std = std.log() if isinstance(std, Tensor) else math.log2(std) * math.log(2)
    return -0.5 * ((x - mean) / std) ** 2 - log_std - 0.5 * math.log(2 * math.pi)


def normal_kl(mean: Tensor, std: Tensor, prior_mean: Tensor | float, prior_std: Tensor | float) -> Tensor:
    """KL(N(mean, std) || N(prior_mean, prior_std)) in nats, elementwise and broadcast."""
    ratio = std / prior_std
    return 0.5 * (ratio**2 + ((mean - prior_mean) / prior_std) ** 2 - 1) - ratio.log()


def mixture_log_density(
    x: Tensor,
    log_masks: Tensor,
    means: Tensor,
    std: Tensor | float,
    mixture: Literal["channel", "pixel"] = "channel",
) -> Tensor:
    """log sum_k m_k N(x; mean_k, std), of pixels ``x`` (B, 3, H, W) in a mixture of K slots.

    ``log_masks`` is (B, K, 1, H, W), ``means`` (B, K, 3, H, W), and a tensor ``std`` broadcasts against it. The
    published MONet, IODINE and Genesis-V2 make each colour channel a mixture of its own, by the same masks: then the
    result is (B, 3, H, W). With ``pixel`` a slot explains all three channels or none, and it is (B, 1, H, W).
    """
    density = normal_log_density(x[:, None], means, std)  # (B, K, 3, H, W)
    if mixture == "pixel":
        density = density.sum(2, keepdim=True)
    return (log_masks + density).logsumexp(1)


def bernoulli_kl(logits: Tensor, prior: Tensor | float) -> Tensor:
    """KL(Bernoulli(sigmoid(logits)) || Bernoulli(prior)) in nats, elementwise; ``prior`` is strictly inside (0, 1)."""
    if not isinstance(prior, Tensor):
        prior = logits.new_full((), prior)  # filled on the device; a tensor made on the host would have to be copied
    p = logits.sigmoid()
    return p * (F.logsigmoid(logits) - prior.log()) + (1 - p) * (F.logsigmoid(-logits) - (-prior).log1p())


def sample_relaxed_bernoulli(logits: Tensor, temperature: float) -> Tensor:
    """A binary concrete sample in (0, 1), of the shape of ``logits`` (Maddison et al. 2017, eq. 10-12)."""
    eps = torch.finfo(logits.dtype).eps
    u = noise.uniform(logits.shape, logits).clamp(eps, 1 - eps)
    return ((logits + u.log() - (-u).log1p()) / temperature).sigmoid()
