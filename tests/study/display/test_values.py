"""Values and ranges as people read them."""

import pytest

from study.display.values import brief, range_text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((1e-4, "1e-4"), (0.01, "0.01"), (1e-10, "1e-10"), (0.5, "0.5"), (100.0, "100"), (1e5, "1e5"), (0.0, "0")),
        *((0.003171234, "0.003171"), (-2.5, "-2.5"), (1.5e-7, "1.5e-7"), (3, "3"), (None, "none"), (True, "True")),
    ],
)
def test_a_value_is_short(value, text):
    assert brief(value) == text
    if isinstance(value, float):
        assert float(text) == pytest.approx(value, rel=1e-3)


def test_a_range_is_as_space_takes_it():
    assert range_text({"low": 1e-4, "high": 1e-2, "log": True}) == "1e-4 .. 0.01 log"
    assert range_text({"low": 4, "high": 12, "log": False, "integer": True}) == "4 .. 12"
    assert range_text({"choices": [16, 32, None]}) == "16, 32, none"
