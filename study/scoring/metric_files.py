"""Whether the metrics of one's own are those with which rows of scores were computed: their ``source`` ends with them.

Our own metrics change with the version of the columns, theirs when somebody edits a file.
"""

from collections.abc import Iterable

from trainables import own_metrics

_BEFORE = ", metrics "


def part() -> str:
    """What the ``source`` of rows ends with now; nothing without a metric of one's own."""
    now = own_metrics.fingerprints()
    return _BEFORE + " ".join(f"{name}:{digest}" for name, digest in now.items()) if now else ""


def same(source: str, wanted: str) -> bool:
    """Whether rows of ``source`` are those of ``wanted``; they may have more metrics, whose files are gone by now."""
    return _rest(source) == _rest(wanted) and _metrics(wanted) <= _metrics(source)


def changed(sources: Iterable[str]) -> list[str]:
    """The metrics that rows of one of ``sources`` lack, or had from a file that was another, sorted."""
    now = _metrics(part())
    return sorted({name.partition(":")[0] for source in sources for name in now - _metrics(source)})


def _rest(source: str) -> str:
    return source.partition(_BEFORE)[0]


def _metrics(source: str) -> set[str]:
    return set(source.partition(_BEFORE)[2].split())
