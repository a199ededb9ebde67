"""How well slots explain pixels: a spatial mixture of normals, in log space throughout.

Axes: B batch, K slots, H W pixels, and C' = 3 where each colour channel is a mixture of its own, 1 where the three
channels of a pixel share one.
"""

import math
from typing import Literal

import torch
from torch import Tensor


def log_likelihoods(image: Tensor, colour: Tensor, sigma: float, mixture: Literal["channel", "pixel"]) -> Tensor:
    """(B, K, C', H, W): log-likelihood of ``image`` (B, 3, H, W) under each slot's ``colour`` (B, K, 3, H, W) alone.

    Without the constant 0.5 ln 2 pi of each channel, as in the benchmark.
    """
    per_channel = (image[:, None] - colour).square() * (-0.5 / sigma**2) - math.log(sigma)
    return per_channel if mixture == "channel" else per_channel.sum(2, keepdim=True)


def mixture_log_likelihood(log_masks: Tensor, likelihoods: Tensor) -> Tensor:
    """(B, 1, H, W): log-likelihood of each pixel (Greff et al. 2019, eq. 1).

    ``log_masks`` is (B, K, 1, H, W), ``likelihoods`` (B, K, C', H, W) in logs.
    """
    return (log_masks + likelihoods).logsumexp(1).sum(1, keepdim=True)


@torch.no_grad()
def leave_one_out(log_masks: Tensor, likelihoods: Tensor) -> Tensor:
    """(B, K, 1, H, W): log-likelihood of each pixel without slot k, whose share the others divide in proportion.

    Arguments as for :func:`mixture_log_likelihood`; a constant, because the refinement network takes it as data.
    """
    others = logsumexp_of_others(log_masks + likelihoods) - logsumexp_of_others(log_masks)
    return others.sum(2, keepdim=True)


def logsumexp_of_others(x: Tensor) -> Tensor:
    """log sum_{j != k} exp(x_j) along dimension 1, for every k; of the shape of ``x``.

    Total minus own is exact for all but the largest summand, next to which the rest may round away: there the rest
    is summed by itself.
    """
    largest, winner = x.max(1, keepdim=True)
    shares = (x - largest).exp()
    rest = x.scatter(1, winner, -math.inf).logsumexp(1, keepdim=True)
    others = largest + (shares.sum(1, keepdim=True) - shares).log()
    return others.scatter(1, winner, rest)
