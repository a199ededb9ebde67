"""Plots inside a page: plotly draws them there, from plain data and in the colours of the page's scheme.

A colour is a variable of the style sheet, ``var(--best)``; each scheme has its own value. A page with plots carries
plotly's script compressed, which browsers unpack (DecompressionStream): 2 MB in place of 4.8.
"""

import base64
import functools
import gzip
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from study.display.page_table import in_script

MISSING = "The plots need a package: pip install 'clevrtune[report]'"


def script() -> str | None:
    """What a page with plots needs, for :func:`study.display.pages.write`; None without plotly."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        return None
    note = "<!-- plotly.js, Copyright Plotly, Inc., MIT licence, compressed -->"
    return f'{note}\n<script id="plotly" type="application/gzip">{_packed(get_plotlyjs())}</script>'


def figure(data: Sequence[Mapping[str, Any]], layout: Mapping[str, Any], *, height: int = 380, about: str = "") -> str:
    """A plot: plotly's traces and layout, as plain values; ``about`` says in words what it shows."""
    drawn = in_script({"data": data, "layout": {"height": height, **layout}})
    style = "plot short" if height < 300 else "plot"
    return (
        f'<div class="{style}"><script type="application/json">{drawn}</script>'
        f'<div class="drawing" role="img" aria-label="{escape(about)}"></div></div>'
    )


def short(value: float | None) -> float | None:
    """``value`` with six digits, which is more than a plot shows; None for what cannot be drawn."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")


def label(name: Any) -> str:
    """``name`` as text of a plot, in which plotly would read tags."""
    return escape(str(name))


def thinned(items: Sequence[Any], most: int) -> list[Any]:
    """At most ``most`` of ``items``, spread evenly, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]


def decades(values: Sequence[float]) -> dict[str, Any]:
    """Ticks of a logarithmic axis that holds ``values``, all above zero: 1, 2 and 5 of each decade, or fewer."""
    low, high = math.log10(min(values)), math.log10(max(values))
    powers = range(math.floor(low) - 1, math.ceil(high) + 1)
    for steps in ((1, 1.5, 2, 3, 4, 5, 7), (1, 2, 5), (1,)):
        ticks = [step * 10.0**power for power in powers for step in steps]
        shown = [tick for tick in ticks if low - 0.05 <= math.log10(tick) <= high + 0.05]
        if len(shown) <= 6:
            break
    shown = thinned(shown, 5)
    pad = 0.06 * (high - low) or 0.3
    return {"tickvals": shown, "ticktext": [_amount(tick) for tick in shown], "range": [low - pad, high + pad]}


def _amount(value: float) -> str:
    """A round number as people read it: '0.002', '20,000', '5M', '1e-25'."""
    if value >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value:,g}" if value >= 1 else f"{value:g}"


@functools.cache
def _packed(words: str) -> str:
    return base64.b64encode(gzip.compress(words.encode(), 9, mtime=0)).decode()
