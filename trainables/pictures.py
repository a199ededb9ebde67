"""Pictures for people: input, reconstruction, true and predicted segments side by side."""

import io
from collections.abc import Sequence

import numpy as np
import scipy
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

PANEL_FILE = "panel.png"
"""The picture of validation images that a checkpoint folder may hold."""

BACKGROUND = (64, 64, 64)

# Okabe & Ito (2008) without black, then those of P. Tol's schemes "muted" and "light" (SRON/EPS/TN/09-002,
# 2021) that differ from them: they stay distinct under the common colour-vision deficiencies.
OBJECTS = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
    (136, 34, 85),
    (170, 170, 0),
    (51, 34, 136),
    (255, 170, 187),
    (17, 119, 51),
    (153, 221, 255),
    (170, 68, 153),
    (221, 204, 119),
    (221, 221, 221),
)

CAPTIONS = ("input", "reconstruction", "true segments", "predicted segments")
CELL = 128  # pixels; small images are enlarged to at most this
GAP = 6  # pixels between cells
CAPTION_HEIGHT = 20  # pixels
BOX_COLOUR = (255, 0, 170)  # absent from the palette and from CLEVR's scenes

Array = NDArray[np.generic] | Tensor


def palette(n: int) -> NDArray[np.uint8]:
    """Colours of labels 0..n-1, uint8 (n, 3): dark grey, then 16 colours for objects, again and darker."""
    turn, index = np.divmod(np.arange(n - 1), len(OBJECTS))
    objects = np.array(OBJECTS)[index] * 0.7 ** turn[:, None]  # (n - 1, 3)
    return np.concatenate([[BACKGROUND], objects]).astype(np.uint8)  # (n, 3)


def match_labels(true_labels: ArrayLike, pred_labels: ArrayLike) -> NDArray[np.int64]:
    """Predicted labels (H, W) renumbered after the true labels (H, W) that they match best by IoU.

    One-to-one (Hungarian, the background included). Segments without a partner are numbered on from the
    highest true label, so that they take colours of their own.
    """
    true, pred = np.asarray(true_labels, np.int64), np.asarray(pred_labels, np.int64)
    assert true.shape == pred.shape and true.ndim == 2, (true.shape, pred.shape)
    true_ids, true_index = np.unique(true, return_inverse=True)
    pred_ids, pred_index = np.unique(pred, return_inverse=True)
    T, P = len(true_ids), len(pred_ids)
    overlap = np.bincount(true_index.ravel() * P + pred_index.ravel(), minlength=T * P).reshape(T, P)
    iou = overlap / (overlap.sum(1, keepdims=True) + overlap.sum(0) - overlap)  # (T, P)
    renumbered = np.full(P, -1)
    for t, p in zip(*scipy.optimize.linear_sum_assignment(iou, maximize=True), strict=True):
        if iou[t, p] > 0:
            renumbered[p] = true_ids[t]
    alone = renumbered < 0
    renumbered[alone] = true_ids.max() + 1 + np.arange(alone.sum())
    return renumbered[pred_index].reshape(pred.shape)  # (H, W)


def panel(
    image: Array,
    reconstruction: Array,
    true_labels: Array,
    pred_labels: Array,
    boxes: Array | None = None,
    presence: Array | None = None,
    scale: int | None = None,
) -> NDArray[np.uint8]:
    """One row per image: input | reconstruction | true segments | predicted segments, under captions.

    ``image`` and ``reconstruction`` (B, 3, H, W) are clamped to [0, 1]; ``true_labels`` and ``pred_labels``
    (B, H, W) are integers, 0 = true background, predicted slots in any order: each takes the colour of the
    true segment it matches. Boxes (B, N, 4), xyxy in pixels, are drawn on the input where ``presence`` (B, N)
    exceeds 0.5. ``scale`` is an integer factor of enlargement; by default the largest for which a cell has at most
    128 pixels. Returns uint8 (H', W', 3).
    """
    pictures = [_to_uint8(image), _to_uint8(reconstruction)]  # (B, H, W, 3) each
    true, pred = (_to_numpy(labels).astype(np.int64) for labels in (true_labels, pred_labels))  # (B, H, W)
    B, H, W, _ = pictures[0].shape
    assert pictures[1].shape == pictures[0].shape and true.shape == pred.shape == (B, H, W)
    assert (boxes is None) == (presence is None), "boxes come with their presence"
    scale = scale or max(1, CELL // max(H, W))
    rows = []
    for row in range(B):
        matched = match_labels(true[row], pred[row])  # (H, W)
        colours = palette(1 + max(true[row].max(), matched.max()))
        cells = [pictures[0][row], pictures[1][row], colours[true[row]], colours[matched]]
        enlarged = [_enlarged(cell, scale) for cell in cells]
        if boxes is not None and presence is not None:
            _draw_boxes(enlarged[0], _to_numpy(boxes[row]), _to_numpy(presence[row]), scale)
        rows.append(enlarged)
    return _sheet(CAPTIONS, rows)


def sheet(captions: Sequence[str], rows: Sequence[Sequence[NDArray[np.uint8]]]) -> NDArray[np.uint8]:
    """Rows of pictures (H, W, 3), all of one size, under ``captions``, enlarged as in :func:`panel`; (H', W', 3)."""
    H, W, _ = rows[0][0].shape
    scale = max(1, CELL // max(H, W))
    return _sheet(captions, [[_enlarged(cell, scale) for cell in row] for row in rows])


def _enlarged(cell: NDArray[np.uint8], scale: int) -> Image.Image:
    H, W, _ = cell.shape
    return Image.fromarray(cell).resize((W * scale, H * scale), Image.Resampling.NEAREST)


def _sheet(captions: Sequence[str], rows: Sequence[Sequence[Image.Image]]) -> NDArray[np.uint8]:
    width, height = rows[0][0].size
    canvas = Image.new(
        "RGB", (len(captions) * (width + GAP) + GAP, CAPTION_HEIGHT + len(rows) * (height + GAP)), "white"
    )
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size=min(12, max(8, width // 10)))
    for column, caption in enumerate(captions):
        x = GAP + column * (width + GAP) + width // 2
        draw.text((x, CAPTION_HEIGHT // 2), caption, (70, 70, 70), font, anchor="mm")
    for i, row in enumerate(rows):
        for column, cell in enumerate(row):
            canvas.paste(cell, (GAP + column * (width + GAP), CAPTION_HEIGHT + i * (height + GAP)))
    return np.asarray(canvas)


def encode_png(array: NDArray[np.uint8]) -> bytes:
    """The PNG file of an image, uint8 (H, W, 3)."""
    assert array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3, (array.dtype, array.shape)
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG", optimize=True)
    return file.getvalue()


def _draw_boxes(picture: Image.Image, boxes: NDArray, presence: NDArray, scale: int) -> None:
    """Outline on ``picture`` the boxes (N, 4), in unscaled pixels, whose ``presence`` (N,) exceeds 0.5."""
    draw = ImageDraw.Draw(picture)
    for box in boxes[(presence > 0.5) & np.isfinite(boxes).all(1)] * scale:
        x0, x1 = sorted(np.clip(box[0::2], 0, picture.width - 1))
        y0, y1 = sorted(np.clip(box[1::2], 0, picture.height - 1))
        draw.rectangle((x0, y0, x1, y1), outline=BOX_COLOUR, width=max(1, picture.width // 64))


def _to_numpy(array: Array) -> NDArray:
    return torch.as_tensor(array).detach().float().cpu().numpy()


def _to_uint8(image: Array) -> NDArray[np.uint8]:
    """(B, 3, H, W), clamped to [0, 1], as (B, H, W, 3); NaN (a diverged model) becomes black."""
    clamped = np.clip(np.nan_to_num(_to_numpy(image)), 0, 1)
    return np.ascontiguousarray((clamped * 255 + 0.5).astype(np.uint8).transpose(0, 2, 3, 1))
