import pytest

from study.display.durations import duration


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, ""),
        (0, "0 s"),
        (0.4213, "0.42 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (99.4, "99 s"),
        (99.6, "2 min"),
        (99 * 60, "99 min"),
        (100 * 60, "1 h 40 min"),
        (3 * 3600 + 5 * 60 + 1, "3 h 05 min"),
        (99 * 3600 + 59 * 60, "99 h 59 min"),
        (99 * 3600 + 59.8 * 60, "100 h"),
        (1234.6 * 3600, "1,235 h"),
    ],
)
def test_durations_in_words(seconds: float | None, words: str) -> None:
    assert duration(seconds) == words
