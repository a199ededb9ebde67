"""The only source of randomness in models.

Models call ``noise.normal(...)``, ``noise.uniform(...)`` and ``noise.permutation(...)`` through this module, never
``torch.randn`` and friends, for two reasons: a check from outside can replace the three functions by fixed patterns
and compare a model with a published implementation, and the training loop can give training and evaluation a
generator each (:func:`drawn_from`), so that a validation never shifts the random stream of training.

Noise belongs to the images of a batch. A process or a micro-batch with some of them draws for all and takes the rows of
its own, so the result does not depend on how a batch is split. Numbers that all images share are drawn within
:func:`shared`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import torch
from torch import Tensor


class _Source(NamedTuple):
    """Where numbers come from, and for which ``images`` of a ``batch`` they are (None: for all)."""

    generator: torch.Generator | None = None
    images: range | None = None
    batch: int = 0


_source: ContextVar[_Source] = ContextVar("noise_source", default=_Source())  # noqa: B039  # immutable


@contextmanager
def drawn_from(generator: torch.Generator, images: range | None = None, batch: int = 0) -> Iterator[None]:
    """Within this context all noise comes from ``generator``, which must live on the models' device.

    With ``images``, models see only these of a batch of ``batch`` images, and get the rows of the whole batch's noise
    that belong to them; the generator moves on as far as for the whole batch.
    """
    token = _source.set(_Source(generator, images, batch))
    try:
        yield
    finally:
        _source.reset(token)


@contextmanager
def shared() -> Iterator[None]:
    """Within this context noise belongs to the batch, not to its images: its first dimension is never split."""
    token = _source.set(_Source(_source.get().generator))
    try:
        yield
    finally:
        _source.reset(token)


def normal(shape: Sequence[int], like: Tensor) -> Tensor:
    """Standard normal numbers of ``shape``, on the device and with the dtype of ``like``."""
    return _draw(torch.randn, shape, like)


def uniform(shape: Sequence[int], like: Tensor) -> Tensor:
    """Numbers uniform in [0, 1) of ``shape``, on the device and with the dtype of ``like``."""
    return _draw(torch.rand, shape, like)


def permutation(n: int, like: Tensor) -> Tensor:
    """A random permutation of 0..n-1, shape (n,), int64, on the device of ``like``; the same for all images."""
    return torch.randperm(n, generator=_source.get().generator, device=like.device)


def _draw(numbers: Callable[..., Tensor], shape: Sequence[int], like: Tensor) -> Tensor:
    """``numbers`` of ``shape``, whose first dimension holds the same number of rows for each image."""
    generator, images, batch = _source.get()
    rows, *others = shape
    if images is None or len(images) == batch:
        return numbers((rows, *others), generator=generator, device=like.device, dtype=like.dtype)
    each, rest = divmod(rows, len(images))
    assert rest == 0, f"noise of shape {tuple(shape)} for {len(images)} images; is it noise.shared()?"
    whole = numbers((each * batch, *others), generator=generator, device=like.device, dtype=like.dtype)
    return whole[each * images.start : each * images.stop]
