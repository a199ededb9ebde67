"""The images on which an entry is worst, middling and best by each metric, with its segments laid over them.

A picture is a PNG file in ``pictures/extremes``: one row per image, with the columns of :data:`COLUMNS`, and in its
text which images these are.
"""

import io
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from data.loader import Split
from trainables import metrics
from trainables.pictures import CELL, GAP, match_labels, palette

FOLDER = "extremes"
"""Below ``pictures``."""

METRICS = ("mIoU_fg", "ARI_FG", "MSE")
"""By which images are chosen; of the last, less is better."""

EACH = 3
"""How many of the worst, the middle and the best images by each metric are shown."""

COLUMNS = ("input", "true segments", "predicted segments")

SHADE = 0.5
"""How much of an overlay is the segment's colour; the rest is the image."""

TEXT = "images"
"""The key of the picture's text."""


@dataclass(frozen=True)
class Shown:
    """One row of a picture."""

    kind: str
    """worst, median or best"""
    image: int
    """the image's number in the split"""
    score: float
    """as stored: a fraction, or a sum of squares"""
    metric: str = METRICS[0]


def choose(scores: NDArray[np.float64]) -> list[tuple[str, int]]:
    """Kind and row of the images to show, each row once, the worst first; ``scores`` (N,), more is better.

    NaN are left out.
    """
    order = np.argsort(scores, kind="stable")[: int((~np.isnan(scores)).sum())]
    middle = max(0, (len(order) - EACH) // 2)
    picked: dict[int, str] = {}
    for kind, rows in (
        ("worst", order[:EACH]),
        ("best", order[::-1][:EACH]),
        ("median", order[middle : middle + EACH]),
    ):
        for row in rows:
            picked.setdefault(int(row), kind)
    chosen = [(kind, row) for row, kind in picked.items()]
    return sorted(chosen, key=lambda pair: ("worst", "median", "best").index(pair[0]))


def picture(split: Split, scores: Mapping[str, NDArray[np.float64]], predicted: metrics.Labels) -> bytes | None:
    """The PNG file of the images of ``split`` that :func:`choose` names by each metric; None if no image has a score.

    ``scores`` (N,) by metric and ``predicted`` (N, H, W), labels, are in the order of the split.
    """
    shown: list[Shown] = []
    rows: list[int] = []
    for metric in METRICS:
        values = scores.get(metric, np.full(len(split), math.nan))
        for kind, row in choose(-values if metric == "MSE" else values):
            shown.append(Shown(kind, int(split.index[row]), float(values[row]), metric))
            rows.append(row)
    if not shown:
        return None
    different, places = np.unique(rows, return_inverse=True)
    images, true = split.gather(different)  # (B, H, W, 3), (B, H, W)
    _, H, W, _ = images.shape
    scale = max(1, CELL // max(H, W))
    height, width = H * scale, W * scale
    canvas = Image.new("RGB", (len(COLUMNS) * (width + GAP) - GAP, len(rows) * (height + GAP) - GAP), "white")
    for place, (row, b) in enumerate(zip(rows, places, strict=True)):
        matched = match_labels(true[b], predicted[row])
        cells = [images[b], overlay(images[b], true[b]), overlay(images[b], matched)]
        for column, cell in enumerate(cells):
            enlarged = Image.fromarray(cell).resize((width, height), Image.Resampling.NEAREST)
            canvas.paste(enlarged, (column * (width + GAP), place * (height + GAP)))
    text = PngInfo()
    text.add_text(TEXT, json.dumps([asdict(one) for one in shown]))
    file = io.BytesIO()
    canvas.save(file, "PNG", optimize=True, pnginfo=text)
    return file.getvalue()


def overlay(image: NDArray[np.uint8], labels: NDArray[Any]) -> NDArray[np.uint8]:
    """``image`` (H, W, 3) with each segment of ``labels`` (H, W) but 0 in its colour, and a line around it."""
    colours = palette(1 + int(labels.max(initial=0)))[labels].astype(np.float64)  # (H, W, 3)
    mixed = np.where((labels > 0)[..., None], SHADE * colours + (1 - SHADE) * image, image.astype(np.float64))
    edge = np.zeros(labels.shape, bool)
    across, down = labels[:, 1:] != labels[:, :-1], labels[1:] != labels[:-1]
    for part, differs in ((edge[:, 1:], across), (edge[:, :-1], across), (edge[1:], down), (edge[:-1], down)):
        part |= differs
    return np.where((edge & (labels > 0))[..., None], colours, mixed).astype(np.uint8)


def read(png: bytes) -> list[tuple[Shown, list[Image.Image]]]:
    """The rows of a picture, with their cells in the order of :data:`COLUMNS`; none if it is not one."""
    stored = Image.open(io.BytesIO(png))
    try:
        shown = [Shown(**one) for one in json.loads(stored.info[TEXT])]
    except (KeyError, TypeError, ValueError):
        return []
    whole = stored.convert("RGB")
    width, height = (whole.width + GAP) // len(COLUMNS), (whole.height + GAP) // max(len(shown), 1)
    found = []
    for row, one in enumerate(shown):
        corners = [(column * width, row * height) for column in range(len(COLUMNS))]
        found.append((one, [whole.crop((x, y, x + width - GAP, y + height - GAP)) for x, y in corners]))
    return found
