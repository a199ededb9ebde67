"""Durations as people read them, in one format for progress, forecasts and pages."""


def duration(seconds: float | None) -> str:
    """``seconds`` in words: '0.42 s', '45 s', '12 min', '3 h 05 min', '1,200 h'; empty for None."""
    if seconds is None:
        return ""
    if seconds < 9.95:
        return f"{seconds:.2g} s"
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours = round(minutes / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes < 6000 else f"{hours:,} h"
