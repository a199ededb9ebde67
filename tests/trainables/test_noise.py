"""Noise: whose generator it comes from, and whose rows a part of a batch gets."""

import pytest
import torch
from torch import Tensor

from trainables import noise

LIKE = torch.zeros((), dtype=torch.float64)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_noise_comes_from_the_generator_and_from_nowhere_else() -> None:
    before = torch.get_rng_state()
    with noise.drawn_from(generator()):
        normal, uniform, order = noise.normal((4, 3), LIKE), noise.uniform((4,), LIKE), noise.permutation(9, LIKE)
    assert torch.equal(torch.get_rng_state(), before)
    own = generator()
    assert torch.equal(normal, torch.randn(4, 3, generator=own, dtype=torch.float64))
    assert torch.equal(uniform, torch.rand(4, generator=own, dtype=torch.float64))
    assert torch.equal(order, torch.randperm(9, generator=own))


def test_contexts_nest_and_end_also_by_an_error() -> None:
    inner, outer = generator(1), generator(2)
    torch.manual_seed(3)
    expected = [torch.rand(2, generator=generator(1)), torch.rand(2, generator=generator(2)), torch.rand(2)]
    torch.manual_seed(3)
    like = torch.zeros(())
    with pytest.raises(KeyError), noise.drawn_from(outer):
        with noise.drawn_from(inner):
            first = noise.uniform((2,), like)
        second = noise.uniform((2,), like)
        raise KeyError
    for found, wanted in zip((first, second, noise.uniform((2,), like)), expected, strict=True):
        assert torch.equal(found, wanted)


def test_shared_noise_ends_with_its_context() -> None:
    with noise.drawn_from(generator(), range(0, 2), 5):
        with noise.shared():
            assert noise.normal((2, 3), LIKE).shape == (2, 3)
        after = noise.normal((2, 3), LIKE)
    own = generator()
    torch.randn(2, 3, generator=own, dtype=torch.float64)
    assert torch.equal(after, torch.randn(5, 3, generator=own, dtype=torch.float64)[:2])


def test_a_part_of_a_batch_gets_its_rows_of_the_noise() -> None:
    like = torch.zeros(())
    kinds = (noise.normal, noise.uniform)

    def draw(images: range | None, rows: int) -> tuple[list[Tensor], Tensor, Tensor, Tensor]:
        generator = torch.Generator().manual_seed(0)
        with noise.drawn_from(generator, images, 5):
            drawn = [kind((rows, 3), like) for kind in kinds]
            several = noise.normal((2 * rows, 3), like)
            with noise.shared():
                common = noise.uniform((4, 3), like)
            return [*drawn, several.view(rows, 2, 3)], common, noise.permutation(9, like), generator.get_state()

    whole, common, order, state = draw(None, 5)
    for images in (range(0, 2), range(2, 5)):
        rows, same, ordered, after = draw(images, len(images))
        for part, full in zip(rows, whole, strict=True):
            assert torch.equal(part, full[images.start : images.stop])
        assert torch.equal(same, common) and torch.equal(ordered, order) and torch.equal(after, state)
    with pytest.raises(AssertionError, match="noise of shape"):
        draw(range(0, 2), 3)
