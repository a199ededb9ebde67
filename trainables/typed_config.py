"""From a flat dictionary, as a person or a search writes it, to a model's frozen Config dataclass."""

import dataclasses
import difflib
import sys
import types
import typing
from collections.abc import Mapping
from typing import Any

POSITIVE = {"lr", "batch_size", "num_slots", "sigma", "steps", "grad_clip"}
"""Keys of the common glossary that must be above zero in every model (``grad_clip`` may also be None)."""

LARGEST = 10**9
"""Of whole numbers; torch refuses those of 64 bits and more with a traceback of its own."""


def make(config_class: type, values: Mapping[str, Any]) -> Any:
    """``config_class(**values)`` after checking names and types; missing keys take the class's defaults.

    Raises ValueError naming the key, the value and what would be accepted.
    """
    return config_class(**typed(config_class, values))


def parse(config_class: type, key: str, text: str) -> Any:
    """The value that ``--set key=text`` means, see :func:`typed`. Raises ValueError."""
    value: Any = {"none": None, "true": True, "false": False}.get(text.lower(), text)
    if isinstance(value, str):
        for number in (int, float):
            try:
                value = number(text)
                break
            except ValueError:
                pass
    return typed(config_class, {key: value})[key]


def typed(config_class: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` with the types that ``config_class`` declares, each checked by itself.

    Whether they fit together is checked by :func:`make`. Raises ValueError.
    """
    hints = typing.get_type_hints(config_class)
    known = [field.name for field in dataclasses.fields(config_class)]
    for key in values:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=3)
            remedy = f"did you mean {' or '.join(close)}?" if close else f"known are {', '.join(known)}"
            raise ValueError(f"hyperparameter {key!r} is unknown to {config_class.__module__}; {remedy}")
    converted = {key: _convert(key, value, hints[key]) for key, value in values.items()}
    for key in POSITIVE & converted.keys():
        if converted[key] is not None and not converted[key] > 0:
            raise ValueError(f"hyperparameter {key} is {converted[key]}; it must be above zero")
    return converted


def _convert(key: str, value: Any, hint: Any) -> Any:
    """``value`` as the annotation ``hint`` wants it; an int passes for a float, a list for a tuple."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    for option in options:
        origin = typing.get_origin(option) or option
        if option is type(None) and value is None:
            return None
        if origin is typing.Literal and value in typing.get_args(option):
            return value
        if origin is bool and isinstance(value, bool):
            return value
        if origin is int and isinstance(value, int) and not isinstance(value, bool):
            if abs(value) > LARGEST:
                raise ValueError(f"hyperparameter {key} is {str(value)[:40]}; {LARGEST:,} is the most")
            return value
        if origin is float and isinstance(value, int | float) and not isinstance(value, bool):
            if value != value or abs(value) > sys.float_info.max:
                raise ValueError(f"hyperparameter {key} is {value}; it must be a finite number")
            return float(value)
        if origin is str and isinstance(value, str):
            return value
        if origin is tuple and isinstance(value, list | tuple):
            return tuple(value)
    wanted = " or ".join(
        " or ".join(map(repr, typing.get_args(option)))
        if typing.get_origin(option) is typing.Literal
        else {type(None): "none"}.get(option, getattr(option, "__name__", str(option)))
        for option in options
    )
    raise ValueError(f"hyperparameter {key} is {value!r}; it must be {wanted}")
