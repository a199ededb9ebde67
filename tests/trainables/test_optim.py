"""Optimisers by name: their kind, and what they are told."""

import pytest
import torch
from torch import nn

from trainables import optim


@pytest.mark.parametrize("name", optim.NAMES)
def test_a_name_leads_to_the_optimiser_with_rate_and_decay(name: str) -> None:
    parameter = nn.Parameter(torch.ones(2))
    built = optim.build(name, [parameter], 0.25, 0.125)
    assert type(built).__name__.lower() == name
    assert built.defaults["lr"] == 0.25 and built.defaults["weight_decay"] == 0.125


def test_groups_keep_rates_of_their_own() -> None:
    first, second = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    built = optim.build("adam", [{"params": [first]}, {"params": [second], "lr": 0.5}], 0.25)
    assert [group["lr"] for group in built.param_groups] == [0.25, 0.5]
    assert [group["weight_decay"] for group in built.param_groups] == [0.0, 0.0]


def test_adam_steps_as_its_authors_say() -> None:
    """Kingma & Ba (2015), algorithm 1: the first step is the learning rate, whatever the gradient."""
    parameter = nn.Parameter(torch.tensor([1.0, 1.0]))
    built = optim.build("adam", [parameter], 0.25)
    parameter.grad = torch.tensor([3.0, -0.01])
    built.step()
    assert parameter.tolist() == pytest.approx([0.75, 1.25], rel=1e-5)


def test_an_unknown_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="optimizer 'sgd' is unknown; choose one of adam, adamw, rmsprop"):
        optim.build("sgd", [nn.Parameter(torch.ones(2))], 0.1)
