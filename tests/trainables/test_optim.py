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


def stepped(built: torch.optim.Optimizer, parameters: list[nn.Parameter], steps: int) -> list[list[float]]:
    """The parameters after so many steps more, with gradients that depend on them."""
    for _ in range(steps):
        for parameter in parameters:
            parameter.grad = parameter.detach() ** 2 - 0.5
        built.step()
    return [parameter.tolist() for parameter in parameters]


def three(name: str, **implementation: bool | None) -> tuple[torch.optim.Optimizer, list[nn.Parameter]]:
    """Three parameters in two groups, and their optimiser, computed as for ``implementation``."""
    parameters = [nn.Parameter(torch.linspace(-1, 1, n)) for n in (3, 7, 40)]
    built = optim.build(name, [{"params": iter(parameters[:2])}, {"params": parameters[2], "lr": 0.02}], 0.1, 0.01)
    for group in built.param_groups:
        group |= implementation
    return built, parameters


FUSED = {"fused": True, "foreach": None}
PLAIN = {"fused": False, "foreach": False}


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_one_kernel_for_all_tensors_steps_like_one_after_the_other(name: str) -> None:
    plain, fused = (stepped(*three(name, **how), steps=20) for how in (PLAIN, FUSED))
    for one, other in zip(plain, fused, strict=True):
        assert one == pytest.approx(other, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("name", optim.NAMES)
@pytest.mark.parametrize("saved_as", ["plain", "many", "fused", "before"])
def test_a_checkpoint_of_another_implementation_goes_on(name: str, saved_as: str) -> None:
    """``plain`` and ``many`` as from other devices; ``before`` as from a version that said nothing of it."""
    hows: dict[str, dict[str, bool | None]] = {"many": {"fused": None, "foreach": True}, "plain": PLAIN, "fused": FUSED}
    how = hows.get(saved_as, PLAIN) if name != "rmsprop" or saved_as not in ("fused", "plain") else {}
    whole, parameters = three(name)
    expected = stepped(whole, parameters, 6)
    first, parameters = three(name, **how)
    values = stepped(first, parameters, 3)
    state = first.state_dict()
    if saved_as == "before":
        for group in state["param_groups"]:
            group["foreach"] = None
            group.pop("fused", None)
    second, parameters = three(name)
    before = [(group["foreach"], group.get("fused")) for group in second.param_groups]
    with torch.no_grad():
        for parameter, value in zip(parameters, values, strict=True):
            parameter.copy_(torch.tensor(value))
    optim.load_state(second, state)
    assert [(group["foreach"], group.get("fused")) for group in second.param_groups] == before
    for one, other in zip(stepped(second, parameters, 3), expected, strict=True):
        assert one == pytest.approx(other, rel=1e-5, abs=1e-7)


@pytest.mark.filterwarnings("ignore:.*duplicate parameters")
def test_a_parameter_that_is_listed_twice_is_stepped_twice() -> None:
    once, twice = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    for parameter, group in ((once, [once]), (twice, [twice, twice])):
        parameter.grad = torch.ones(2)
        built = optim.build("adam", [{"params": group}], 0.25)
        for _ in range(3 - len(group)):
            built.step()
    assert once.tolist() == pytest.approx(twice.tolist())


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_adam_steps_in_one_kernel(name: str) -> None:
    assert optim.build(name, [nn.Parameter(torch.ones(2))], 0.1).defaults["fused"] is True


def test_a_parameter_with_gaps_is_stepped_like_one_without() -> None:
    values = torch.linspace(-1, 1, 12).reshape(2, 6)
    stepped_values = []
    for parameter in (nn.Parameter(values.clone()[:, ::2]), nn.Parameter(values[:, ::2].contiguous())):
        built = optim.build("adam", [parameter], 0.1)
        for _ in range(5):
            built.zero_grad()
            (parameter**3 - parameter).sum().backward()
            built.step()
        stepped_values.append(parameter.tolist())
    assert stepped_values[0] == [pytest.approx(row) for row in stepped_values[1]]


@pytest.mark.gpu
@pytest.mark.parametrize("name", optim.NAMES)
def test_on_a_gpu_all_tensors_are_stepped_at_once(name: str) -> None:
    built = optim.build(name, [nn.Parameter(torch.ones(2, device="cuda"))], 0.1)
    assert built.defaults["foreach" if name == "rmsprop" else "fused"] is True
