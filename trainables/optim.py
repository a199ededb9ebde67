"""Optimisers by name: the one place where a Config's ``optimizer`` string becomes a torch object."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer, RMSprop

NAMES = ("adam", "adamw", "rmsprop")

IMPLEMENTATION = ("foreach", "fused")
"""Keys of an optimiser's groups that say how a step is computed, not what."""


def build(
    name: str, parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]], lr: float, weight_decay: float = 0.0
) -> Optimizer:
    """An optimiser with torch's defaults (Adam betas 0.9, 0.999; RMSprop alpha 0.99; eps 1e-8).

    ``parameters``, on the device where they stay, may be groups with learning rates of their own, in torch's format.
    Adam steps in one kernel. Raises ValueError for a name outside :data:`NAMES`.
    """
    given: list[Any] = [_listed(one) if isinstance(one, dict) else one for one in parameters]
    match name:
        case "adam":
            return Adam(given, lr=lr, weight_decay=weight_decay, **_implementation(given, fused=True))
        case "adamw":
            return AdamW(given, lr=lr, weight_decay=weight_decay, **_implementation(given, fused=True))
        case "rmsprop":
            return RMSprop(given, lr=lr, weight_decay=weight_decay, **_implementation(given, fused=False))
    raise ValueError(f"optimizer {name!r} is unknown; choose one of {', '.join(NAMES)}")


def load_state(optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """Continue from ``state``, another optimiser's ``state_dict``, which may be of another device or torch.

    What is computed comes from ``state``, and how from ``optimizer``: torch alone would take both from ``state``, and a
    CPU would go on with what was chosen for a GPU.
    """
    groups = [
        {**{key: value for key, value in saved.items() if key not in IMPLEMENTATION}, **_how(own)}
        for saved, own in zip(state["param_groups"], optimizer.param_groups, strict=True)
    ]
    optimizer.load_state_dict({**state, "param_groups": groups})


def _listed(group: dict[str, Any]) -> dict[str, Any]:
    """``group`` with its parameters in a list, which can be read twice."""
    params = group["params"]
    return {**group, "params": [params] if isinstance(params, Tensor) else list(params)}


def _how(group: Mapping[str, Any]) -> dict[str, Any]:
    return {key: group[key] for key in IMPLEMENTATION if key in group}


def _dense(parameter: Tensor) -> bool:
    """Whether its values lie side by side; torch's one kernel takes those of others for their neighbours'."""
    last = parameter.ndim == 4 and parameter.is_contiguous(memory_format=torch.channels_last)
    return last or parameter.is_contiguous()


def _implementation(given: list[Any], *, fused: bool) -> dict[str, Any]:
    """Arguments for torch: one kernel where an optimiser has it, else on a GPU one for many tensors.

    A parameter that is listed more than once must be stepped as often, one after the other.
    """
    listed = [one for group in given for one in (group["params"] if isinstance(group, dict) else [group])]
    alone = len({id(one) for one in listed}) < len(listed)
    if fused and not alone and all(map(_dense, listed)):
        return {"fused": True}
    return {"foreach": not alone and all(one.is_cuda for one in listed)}
