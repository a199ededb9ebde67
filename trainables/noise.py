"""The only source of randomness in models.

Models call ``noise.normal(...)``, ``noise.uniform(...)`` and ``noise.permutation(...)`` through this module, never
``torch.randn`` and friends, for two reasons: a check from outside can replace the three functions by fixed patterns
and compare a model with a published implementation, and the training loop can give training and evaluation a
generator each (:func:`drawn_from`), so that a validation never shifts the random stream of training.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

_generator: ContextVar[torch.Generator | None] = ContextVar("noise_generator", default=None)


@contextmanager
def drawn_from(generator: torch.Generator) -> Iterator[None]:
    """Within this context all noise comes from ``generator``, which must live on the models' device."""
    token = _generator.set(generator)
    try:
        yield
    finally:
        _generator.reset(token)


def normal(shape: Sequence[int], like: Tensor) -> Tensor:
    """Standard normal numbers of ``shape``, on the device and with the dtype of ``like``."""
    return torch.randn(tuple(shape), generator=_generator.get(), device=like.device, dtype=like.dtype)


def uniform(shape: Sequence[int], like: Tensor) -> Tensor:
    """Numbers uniform in [0, 1) of ``shape``, on the device and with the dtype of ``like``."""
    return torch.rand(tuple(shape), generator=_generator.get(), device=like.device, dtype=like.dtype)


def permutation(n: int, like: Tensor) -> Tensor:
    """A random permutation of 0..n-1, shape (n,), int64, on the device of ``like``."""
    return torch.randperm(n, generator=_generator.get(), device=like.device)
