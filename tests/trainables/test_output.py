"""SegmentationOutput: tensors that are made on first access, and a check that can fail."""

from typing import Any

import pytest
import torch

from trainables.output import SegmentationOutput

IMAGE = torch.rand(2, 3, 4, 4)


def output(**changes: Any) -> SegmentationOutput:
    """A sound output of three slots for IMAGE, but for ``changes``."""
    parts = {
        "loss": torch.tensor(1.0),
        "reconstruction": IMAGE.clone(),
        "masks": torch.full((2, 3, 1, 4, 4), 1 / 3),
        "terms": {"kl": torch.tensor(2.0)},
        **changes,
    }
    return SegmentationOutput(**parts)


def test_masks_and_appearances_are_made_once_and_only_when_looked_at() -> None:
    made = []

    def make(channels: int) -> torch.Tensor:
        made.append(channels)
        return torch.full((2, 3, channels, 4, 4), 1 / 3)

    lazy = output(masks=lambda: make(1), appearances=lambda: make(3))
    assert not made
    for _ in range(2):
        assert lazy.masks.shape == (2, 3, 1, 4, 4)
        assert lazy.appearances is not None and lazy.appearances.shape == (2, 3, 3, 4, 4)
    assert made == [1, 3]
    assert output().appearances is None


BOXES = {"boxes": torch.zeros(2, 5, 4), "presence": torch.ones(2, 5)}


@pytest.mark.parametrize("changes", [{}, {"appearances": torch.zeros(2, 3, 3, 4, 4)}, BOXES], ids=str)
def test_a_sound_output_passes(changes: dict[str, Any]) -> None:
    output(**changes).check(IMAGE)


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": torch.ones(2)},
        {"reconstruction": torch.rand(2, 3, 4, 5)},
        {"masks": torch.full((2, 3, 4, 4), 1 / 3)},
        {"masks": torch.full((2, 3, 1, 2, 4), 1 / 3)},
        {"masks": torch.full((2, 3, 1, 4, 4), 0.3)},
        {"masks": torch.tensor([1.5, -0.5]).view(1, 2, 1, 1, 1).expand(2, 2, 1, 4, 4)},
        {"terms": {"kl": torch.ones(2)}},
        {"appearances": torch.zeros(2, 4, 3, 4, 4)},
        {**BOXES, "boxes": torch.zeros(2, 5, 3)},
        {**BOXES, "presence": None},
        {**BOXES, "presence": torch.ones(2, 4)},
    ],
    ids=range(11),
)
def test_each_breach_of_the_contract_is_caught(changes: dict[str, Any]) -> None:
    with pytest.raises(AssertionError):
        output(**changes).check(IMAGE)
