"""One line of an error that comes from elsewhere, to be quoted in ours."""


def first_line(error: Exception) -> str:
    """The first line of what ``error`` says, or its type if it says nothing."""
    return _lines(error)[0]


def last_line(error: Exception) -> str:
    """The last line of what ``error`` says, or its type if it says nothing; of a remote traceback, its cause."""
    return _lines(error)[-1]


def _lines(error: Exception) -> list[str]:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines or [type(error).__name__]
