"""Instance colouring by stick-breaking (Engelcke et al. 2021): attention masks from pixel embeddings."""

import torch
from torch import Tensor

ALPHA_MIN, ALPHA_MAX = 0.01, 0.99
"""Bounds of the share of its scope that a pixel gives to a cluster."""

MASK_FLOOR = 1e-5
"""Least mask in the divergence of two sets of masks."""


def clamp_alpha(alpha: Tensor) -> Tensor:
    """``alpha`` within its bounds, with the gradient of the identity, so that pixels beyond them still learn."""
    return alpha + (alpha.clamp(ALPHA_MIN, ALPHA_MAX) - alpha).detach()


def stick_breaking(embedding: Tensor, order: Tensor, sigma: Tensor, num_slots: int) -> Tensor:
    """Log attention masks (B, K, N) of the pixels' embeddings (B, E, N); their exponentials sum to 1 over K.

    Each of the first K - 1 clusters has a seed, a pixel that is little explained so far; ``order`` (B, N) in [0, 1)
    decides among them. From each pixel the cluster takes a share of what is left, by a Gaussian kernel of squared width
    ``sigma`` around the seed. The last cluster takes the rest. Gradients flow through the seeds' embeddings and the
    scope, not through the choice of the seeds.
    """
    log_scope = torch.zeros_like(order)  # (B, N)
    log_masks = []
    for _ in range(num_slots - 1):
        seed = (order * log_scope.detach().exp()).argmax(1)  # (B,)
        centre = embedding.gather(2, seed[:, None, None].expand(-1, embedding.shape[1], 1))  # (B, E, 1)
        alpha = clamp_alpha((-(embedding - centre).square().sum(1) / sigma).exp())  # (B, N)
        log_masks.append(log_scope + alpha.log())
        log_scope = log_scope + (1 - alpha).log()
    return torch.stack([*log_masks, log_scope], dim=1)


def mask_kl(log_masks: Tensor, log_others: Tensor) -> Tensor:
    """KL between two sets of masks, given by their logarithms (B, K, N), in nats, summed over pixels: (B,)."""
    p, q = (log.exp().clamp(min=MASK_FLOOR) for log in (log_masks, log_others))
    p, q = p / p.sum(1, keepdim=True), q / q.sum(1, keepdim=True)
    return (p * (p.log() - q.log())).sum((1, 2))
