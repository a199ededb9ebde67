"""The prior of presence: geometric in the number of objects, applied cell by cell (Crawford and Pineau 2019).

An image of N cells holds k objects with probability p^k / (1 + p + ... + p^N), any k cells alike. So the prior of a
cell depends on how many cells came before it and how many of them hold an object.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor

PRESENCE_FLOOR = 1e-6
"""Probabilities of presence, prior and posterior, keep this distance from 0 and 1."""


def count_prior(present: Tensor, p: float) -> Tensor:
    """Prior probability (B, N) of presence of each cell, given those before it in ``present`` (B, N), of 0 and 1."""
    N = present.shape[1]
    before = (present.cumsum(1) - present).long()  # (B, N)
    table = prior_table(N, p, present.device).clamp(PRESENCE_FLOOR, 1 - PRESENCE_FLOOR).to(present.dtype)
    return table[torch.arange(N, device=present.device), before]


@lru_cache(maxsize=4)  # p stays the same for most of a trial
def prior_table(cells: int, p: float, device: torch.device | None = None) -> Tensor:
    """Probability (N, N), float64 on ``device``, that cell i is present after c objects, by i and c; c is at most i.

    Backwards: a start of i cells is as likely as its two continuations together. In logarithms, because p^N
    underflows float32 from about 11 objects on at p = 1e-4.
    """
    k = torch.arange(cells + 1, dtype=torch.float64, device=device)
    log_ways = math.lgamma(cells + 1) - torch.lgamma(k + 1) - torch.lgamma(cells - k + 1)
    log_start = math.log(p) * k - log_ways  # (i + 1,): of i cells with c objects, up to a constant; now for i = N
    table = torch.zeros(cells, cells, dtype=torch.float64, device=device)
    for i in reversed(range(cells)):
        present = log_start[1:]
        log_start = torch.logaddexp(log_start[:-1], present)
        table[i, : i + 1] = (present - log_start).exp()
    return table


def sequential_prior(present: Tensor, p: float) -> Tensor:
    """What :func:`count_prior` gives, as published: the posterior over k is updated cell by cell in float32.

    At a small ``p`` it underflows after many objects; its sum is then below 1.
    """
    N = present.shape[1]
    k = torch.arange(N + 1, dtype=present.dtype, device=present.device)
    posterior = p**k / (p**k).sum()  # (N + 1,), then (B, N + 1)
    count = torch.zeros_like(present[:, :1])  # (B, 1)
    priors = []
    for i, z in enumerate(present.split(1, dim=1)):
        share = (k - count).relu() / (N - i)  # (B, N + 1)
        priors.append((posterior * share).sum(1))
        posterior = posterior * torch.where(z > 0, share, 1 - share)
        posterior = posterior / posterior.sum(1, keepdim=True).clamp(min=1e-6)
        count = count + z
    return torch.stack(priors, dim=1).clamp(PRESENCE_FLOOR, 1 - PRESENCE_FLOOR)
