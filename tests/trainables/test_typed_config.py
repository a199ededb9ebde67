"""From dictionaries and command lines to a Config."""

from dataclasses import dataclass
from typing import Any, Literal

import pytest

from trainables import typed_config


@dataclass(frozen=True)
class Config:
    lr: float = 1e-3
    num_slots: int = 5
    optimizer: str = "adam"
    schedule: Literal["exp", "cosine"] = "exp"
    grad_clip: float | None = None
    channels: tuple[int, ...] = (16, 32)
    replicate: bool = False


@pytest.mark.parametrize(
    ("key", "value", "made"),
    [
        ("lr", 1, 1.0),
        ("num_slots", 7, 7),
        ("schedule", "cosine", "cosine"),
        ("grad_clip", None, None),
        ("grad_clip", 2, 2.0),
        ("channels", [8, 8, 8], (8, 8, 8)),
        ("replicate", True, True),
    ],
)
def test_values_take_the_declared_type(key: str, value: Any, made: Any) -> None:
    config = typed_config.make(Config, {key: value})
    assert getattr(config, key) == made
    assert type(getattr(config, key)) is type(made)


def test_missing_keys_take_the_defaults() -> None:
    assert typed_config.make(Config, {}) == Config()


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("lr", "fast", "float"),
        ("lr", None, "float"),
        ("lr", True, "float"),
        ("lr", float("nan"), "finite number"),
        ("lr", float("inf"), "finite number"),
        ("lr", 10**400, "finite number"),
        ("num_slots", 10**22, "is 10000000000000000000000; 1,000,000,000 is the most"),
        ("lr", 0.0, "above zero"),
        ("num_slots", 4.0, "int"),
        ("num_slots", True, "int"),
        ("num_slots", -1, "above zero"),
        ("schedule", "linear", "'exp' or 'cosine'"),
        ("grad_clip", "off", "float or none"),
        ("grad_clip", 0, "above zero"),
        ("channels", 8, "tuple"),
        ("replicate", 1, "bool"),
    ],
)
def test_a_wrong_value_is_named_with_the_remedy(key: str, value: Any, wanted: str) -> None:
    with pytest.raises(ValueError) as error:
        typed_config.make(Config, {key: value})
    message = str(error.value)
    assert key in message and str(value) in message and wanted in message and "\n" not in message


def test_an_unknown_key_gets_close_matches_or_the_whole_list() -> None:
    with pytest.raises(ValueError, match=r"'num_slot' is unknown .*did you mean num_slots"):
        typed_config.make(Config, {"num_slot": 5})
    with pytest.raises(ValueError, match="known are lr, num_slots, optimizer"):
        typed_config.make(Config, {"zzz": 5})


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("lr", "3e-4", 3e-4),
        ("lr", "1", 1.0),
        ("num_slots", "7", 7),
        ("optimizer", "rmsprop", "rmsprop"),
        ("grad_clip", "none", None),
        ("grad_clip", "0.5", 0.5),
        ("replicate", "True", True),
    ],
)
def test_text_from_the_command_line_is_read_by_the_declared_type(key: str, text: str, value: Any) -> None:
    parsed = typed_config.parse(Config, key, text)
    assert parsed == value and type(parsed) is type(value)


@pytest.mark.parametrize(("key", "text"), [("lr", "fast"), ("num_slots", "7.5"), ("lr", "nan"), ("slots", "7")])
def test_bad_text_from_the_command_line_is_refused(key: str, text: str) -> None:
    with pytest.raises(ValueError, match=key):
        typed_config.parse(Config, key, text)
