"""What a winner does with its slots: how many it uses per image, and the masks of each."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from study.display import figures, pages
from study.scoring import slots
from study.scoring.diagnosis import NOTABLE
from study.scoring.image_scores import OBJECTS
from study.scoring.leaderboard import TITLES, entry_name
from study.scoring.ranking import BASE

USED = "seg_segments"
"""The column of evaluation.parquet with the number of segments of an image."""

TRUTH = "the truth"

BUDGET = 400_000
"""Characters of masks in a page."""


def used(evaluation: pa.Table, splits: Sequence[str], winner: str) -> str:
    """Histograms of the slots that ``winner``, its name in files, uses per image; nothing where that is not known."""
    if USED not in evaluation.column_names:
        return ""
    drawn = [(f"Slots used, {TITLES.get(split, split)}", _histogram(evaluation, split, winner)) for split in splits]
    about = f"a slot counts as used in an image if it wins {NOTABLE:.0%} of the pixels; the truth: objects and ground"
    shown = pages.plots([(title, html, False) for title, html in drawn if html], "small")
    return shown + pages.notes([about]) if shown else ""


def masks(folder: Path, splits: Sequence[str], winner: str) -> str:
    """The masks of each slot of ``winner`` on a few images by split; nothing without pictures."""
    blocks: list[str] = []
    budget = BUDGET
    for split in splits:
        path = folder / "pictures" / slots.FOLDER / f"{winner}_{split}.png"
        found = slots.read(path.read_bytes()) if path.exists() else None
        if found is None:
            continue
        title = TITLES.get(split, split)
        columns = [("input", found.inputs)]
        for slot, cells in zip(found.slots, found.cells, strict=True):
            said = f"slot {slot.number}: {slot.share:.0%} of the pixels, used in {slot.used:.0%} of the images"
            columns.append((said, cells))
        shown = "".join(
            f"<figure><figcaption>{caption}</figcaption>"
            f"{''.join(pages.image(f'{title}, {caption}', pages.small(cell)) for cell in cells)}</figure>"
            for caption, cells in columns
        )
        of = f", {len(found.slots)} of {found.count} slots" if len(found.slots) < found.count else ""
        card = f'<div class="card"><h3>Masks by slot, {title}{of}</h3><div class="scenes slots">{shown}</div></div>'
        budget -= len(card)
        if budget < 0:
            break  # the page would become too large; the pictures are in the study's folder
        blocks.append(card if not blocks else pages.folded(f"{title}: masks by slot", card))
    said = "white: the slot's mask is 1; shares are over all images of the split; of the first seed"
    return "".join(blocks) + pages.notes([said]) if blocks else ""


def _histogram(evaluation: pa.Table, split: str, winner: str) -> str | None:
    """In how many images the winner and the base use so many slots, beside the true number of segments."""
    here = evaluation.filter(pc.equal(evaluation["split"], split))
    counts: dict[str, np.ndarray] = {}
    for entry in dict.fromkeys((winner, BASE)):
        rows = here.filter(pc.equal(here["entry"], entry))
        if len(rows):
            counts[entry_name(entry)] = _counted(rows, USED, 0)
    if not counts:
        return None
    if OBJECTS in here.column_names:
        truth = _counted(here.filter(pc.equal(here["entry"], winner)), OBJECTS, 1)
        counts |= {TRUTH: truth} if truth.any() else {}
    most = max(len(found) for found in counts.values())
    looks = {TRUTH: "var(--good)", entry_name(BASE): "var(--base)"}
    data: list[dict[str, Any]] = []
    for name, found in counts.items():
        trace = {"x": list(range(most)), "y": [*found.tolist(), *[0] * (most - len(found))], "name": name}
        if name == entry_name(winner):
            data.append({**trace, "type": "bar", "marker": {"color": "var(--accent)"}})
        else:
            data.append({**trace, "mode": "lines", "line": {"shape": "hvh", "color": looks[name], "width": 2}})
    layout = {
        "xaxis": {"title": {"text": "slots used"}, "range": [-0.5, most - 0.5]},
        "yaxis": {"title": {"text": "images"}},
        "bargap": 0.08,
    }
    return figures.figure(data, layout, height=270, about=f"slots used per image, {TITLES.get(split, split)}")


def _counted(rows: pa.Table, column: str, more: int) -> np.ndarray:
    """How many images have each number in ``column``, plus ``more``; the mean over seeds."""
    values = rows[column].cast(pa.float64()).to_numpy(zero_copy_only=False)
    seeds = max(len(rows["seed"].unique()) if "seed" in rows.column_names else 1, 1)
    known = values[~np.isnan(values)].round().astype(np.int64) + more
    return np.bincount(known) / seeds
