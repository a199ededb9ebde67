"""What each slot of a model does: its masks on a few images, and how much of all images it takes.

A picture is a PNG file in ``pictures/slots``: one row per image, the input and then the mask of each shown slot, and in
its text which slots these are.
"""

import io
import json
from dataclasses import asdict, dataclass

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from data.loader import Split, as_tensors
from study.scoring.diagnosis import NOTABLE
from trainables import metrics
from trainables.model import SegmentationModel
from trainables.pictures import CELL, GAP
from trainables.precision import autocast
from trainables.scoring import PANEL_IMAGES, judged

FOLDER = "slots"
"""Below ``pictures``."""

MOST = 12
"""So many slots are shown: those that hold most of the pixels."""

TEXT = "slots"
"""The key of the picture's text."""


@dataclass(frozen=True)
class Slot:
    """One slot of a model, on all images of a split."""

    number: int
    """its place among the model's masks"""
    share: float
    """share of all pixels that it wins"""
    used: float
    """share of the images in which it wins at least 1 % of the pixels"""


@dataclass(frozen=True)
class Masks:
    """A picture that was read."""

    slots: list[Slot]
    """those that are shown, in their order"""
    count: int
    """how many slots the model has"""
    inputs: list[Image.Image]
    cells: list[list[Image.Image]]
    """by slot: its masks on the same images, white where it is 1"""


def picture(
    model: SegmentationModel, split: Split, predicted: metrics.Labels, *, step: int, precision: str = "fp32"
) -> bytes:
    """The PNG file of the masks of ``model`` on the first images of ``split``; ``predicted`` (N, H, W) are its labels.

    Masks are as the model gives them, before the largest wins.
    """
    with judged(model) as device:
        few = np.arange(min(PANEL_IMAGES, len(split)))
        images, _ = as_tensors(*split.gather(few), device)
        with autocast(device, precision):
            masks = model(images, step).masks.float()[:, :, 0].cpu().numpy()  # (B, K, H, W)
    B, K, H, W = masks.shape
    found = usage(predicted, K)
    chosen = sorted(sorted(found, key=lambda slot: -slot.share)[:MOST], key=lambda slot: slot.number)
    scale = max(1, CELL // max(H, W))
    height, width = H * scale, W * scale
    canvas = Image.new("RGB", ((1 + len(chosen)) * (width + GAP) - GAP, B * (height + GAP) - GAP), "white")
    inputs, _ = split.gather(few)
    for b in range(B):
        grey = [np.clip(255 * masks[b, slot.number], 0, 255).round().astype(np.uint8) for slot in chosen]
        for column, cell in enumerate([inputs[b], *grey]):
            enlarged = Image.fromarray(cell).resize((width, height), Image.Resampling.NEAREST)
            canvas.paste(enlarged, (column * (width + GAP), b * (height + GAP)))
    text = PngInfo()
    text.add_text(TEXT, json.dumps({"slots": [asdict(slot) for slot in chosen], "count": K, "images": B}))
    file = io.BytesIO()
    canvas.save(file, "PNG", optimize=True, pnginfo=text)
    return file.getvalue()


def usage(predicted: metrics.Labels, count: int) -> list[Slot]:
    """What each of ``count`` slots wins of ``predicted``, labels (N, H, W)."""
    shares = np.stack([np.bincount(labels.ravel(), minlength=count) for labels in predicted]) / predicted[0].size
    return [
        Slot(number, round(float(here.mean()), 6), round(float((here >= NOTABLE).mean()), 6))
        for number, here in enumerate(shares.T)
    ]


def read(png: bytes) -> Masks | None:
    """What a picture shows; None if it is not one."""
    stored = Image.open(io.BytesIO(png))
    try:
        said = json.loads(stored.info[TEXT])
        shown, count, rows = [Slot(**one) for one in said["slots"]], said["count"], said["images"]
    except (KeyError, TypeError, ValueError):
        return None
    whole = stored.convert("RGB")
    width, height = (whole.width + GAP) // (1 + len(shown)), (whole.height + GAP) // max(rows, 1)
    columns = [
        [whole.crop((x, y, x + width - GAP, y + height - GAP)) for y in range(0, rows * height, height)]
        for x in range(0, (1 + len(shown)) * width, width)
    ]
    return Masks(shown, count, columns[0], columns[1:])
