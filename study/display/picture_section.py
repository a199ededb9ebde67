"""The pictures of the final stage in a page, small enough that the page stays one that people send around."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from study.display import pages
from study.scoring.leaderboard import Row, file_stem
from trainables.pictures import CAPTION_HEIGHT, CAPTIONS, GAP

BUDGET = 1_100_000
"""Bytes of pictures in a page; in base64 they take a third more."""
INPUT, RECONSTRUCTION, TRUE, PREDICTED = range(len(CAPTIONS))
"""The columns of a panel."""
QUALITIES = (90, 75, 50)
"""Of WebP, tried in this order where PNG files are larger than the budget."""


def read_pictures(folder: Path, rows: Sequence[Row]) -> dict[str, list[tuple[str, bytes]]]:
    """PNG files of the final stage as split -> (entry, bytes), in the order of the leaderboard's ``rows``."""
    found: dict[str, list[tuple[str, bytes]]] = {}
    for row in rows:
        if row.kind == "gain":
            continue
        path = folder / "pictures" / f"{file_stem(row)}_{row.split}.png"
        if path.exists():
            found.setdefault(row.split, []).append((row.entry, path.read_bytes()))
    return found


def fitted(pngs: Sequence[bytes], budget: int = BUDGET) -> list[bytes]:
    """``pngs`` if they fit into ``budget`` bytes, else as WebP of the best of :data:`QUALITIES` with which they do.

    If they do not with the last one, the first ones that do.
    """
    kept = list(pngs)
    for quality in QUALITIES:
        if sum(map(len, kept)) <= budget:
            break
        kept = [_webp(png, quality) for png in pngs]
    while sum(map(len, kept)) > budget:
        kept.pop()
    return kept


def pictures(by_split: Mapping[str, Sequence[tuple[str, bytes]]], budget: int = BUDGET) -> str:
    """Pictures by split, as (entry, PNG file); the first of each split is open, the others fold away."""
    if not by_split:
        return ""
    count = sum(map(len, by_split.values()))
    kept = fitted([png for files in by_split.values() for _, png in files], budget)
    left_out = count - len(kept)
    small = iter(kept)
    cards = []
    for name, files in by_split.items():
        split = pages.split_title(name)
        figures = []
        for i, ((entry, _), png) in enumerate(zip(files, small, strict=False)):
            shown = pages.image(f"{entry} on {split}: input, reconstruction, true and predicted segments", png)
            opened = pages.folded(entry, shown)
            figures.append(opened.replace("<details>", "<details open>", 1) if i == 0 else opened)
        cards.append(f'<div class="card"><h3>{pages.escape(split)}</h3>{"".join(figures)}</div>')
    said = [f"{left_out} of {count} pictures are left out; the study's folder has all"] if left_out else []
    return pages.cards(*cards) + pages.notes(said)


def side_by_side(by_split: Mapping[str, Sequence[tuple[str, bytes]]], truth: Mapping[str, bytes]) -> str:
    """Scene by scene what each entry makes of it: predicted segments above the reconstruction.

    ``by_split`` holds the entries' panels by split, as (entry, PNG file); they show the same scenes. ``truth`` has a
    panel per split for the input and the true segments. Panels of another layout are shown whole.
    """
    budget = BUDGET
    blocks = []
    for name, files in by_split.items():
        split = pages.split_title(name)
        blocks.append(f"<h3>{pages.escape(split)}</h3>")
        panels = {entry: cut(png) for entry, png in files}
        first = cut(truth.get(name, files[0][1]))
        if not first or not all(len(rows) == len(first) for rows in panels.values()):
            shown = [
                f'<figure class="card"><figcaption><b>{pages.escape(entry)}</b></figcaption>'
                f"{pages.image(f'{entry} on {split}', png)}</figure>"
                for entry, png in files
            ]
            blocks.append(pages.cards(*shown, layout="small"))
            continue
        for number, scene in enumerate(first):
            cells = [_scene("input, true segments", f"scene {number + 1} of {split}", scene[INPUT], scene[TRUE])]
            for entry, rows in panels.items():
                cells.append(_scene(entry, f"{entry}, scene {number + 1} of {split}", *_predicted(rows[number])))
            used = sum(map(len, cells))
            if used > budget:
                blocks.append(pages.notes([f"{split}: further scenes are left out, the page would become too large"]))
                break
            budget -= used
            blocks.append(f'<div class="scenes card">{"".join(cells)}</div>')
    return "\n".join(blocks)


def cut(png: bytes) -> list[list[Image.Image]]:
    """The cells of a panel, row by row (see :func:`trainables.pictures.panel`); none if it is no panel."""
    whole = Image.open(io.BytesIO(png)).convert("RGB")
    columns = len(CAPTIONS)
    width, spare = divmod(whole.width - GAP, columns)
    height = width - GAP  # images are square
    rows, rest = divmod(whole.height - CAPTION_HEIGHT, height + GAP) if height > 0 else (0, 1)
    if spare or rest or rows < 1:
        return []
    corners = [[(GAP + x * width, CAPTION_HEIGHT + y * (height + GAP)) for x in range(columns)] for y in range(rows)]
    return [[whole.crop((x, y, x + height, y + height)) for x, y in row] for row in corners]


def _predicted(row: Sequence[Image.Image]) -> tuple[Image.Image, Image.Image]:
    return row[PREDICTED], row[RECONSTRUCTION]


def _scene(caption: str, alt: str, *cells: Image.Image) -> str:
    shown = "".join(pages.image(alt, pages.small(cell)) for cell in cells)
    return f"<figure><figcaption>{pages.escape(caption)}</figcaption>{shown}</figure>"


def _webp(png: bytes, quality: int) -> bytes:
    file = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(file, "WEBP", quality=quality, method=4)
    return file.getvalue()
