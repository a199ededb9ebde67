"""What a data set looks like: a contact sheet of images, masks and materials, and a page of statistics.

python data/show.py 'clevrtex:full-crop-(128,128)' [--split camo] [--data-root DIR] [--cache DIR] [--out FOLDER]
"""

import argparse
import collections
import colorsys
import itertools
import pathlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])  # the checkout, in place of data/

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console

from data import plugins, stop_signals
from data.convert import DEFAULT_CACHE, PLUGINS, Parser, prepare
from data.final_splits import curve_splits, final_splits
from data.shards import ShardIndex
from data.source import EVERYTHING
from data.spec import parse

IMAGES = 24
"""On a contact sheet."""
SHEET, PAGE = "sheet.png", "index.html"

_SIDE = 128  # pixels of a shown image; smaller ones are enlarged by a whole number
_LINE = 13
_COLUMNS = 4
_SIZES = (0.001, 0.003, 0.01, 0.03, 0.1)
"""Shares of an image between which objects are counted."""
_WHAT = ("shape", "size", "material", "color")
_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}img{max-width:100%}
table{border-collapse:collapse;margin:0 0 1.5rem}td,th{padding:.1rem .8rem .1rem 0;text-align:left;font-weight:normal}
td:nth-child(2){text-align:right;font-variant-numeric:tabular-nums}i{display:block;height:.8rem;background:#4477aa}
main{columns:22rem;column-gap:2rem}section{break-inside:avoid}h2{font-size:1.05rem}p.warning{color:#a04000}"""


@dataclass
class Statistics:
    """What is counted over the scenes of a split."""

    images: int = 0
    described: collections.Counter[int] = field(default_factory=collections.Counter)
    """Objects in the description -> images."""
    visible: collections.Counter[int] = field(default_factory=collections.Counter)
    """Objects with a pixel -> images."""
    lost: int = 0
    """Objects without a pixel: behind others, outside the crop, or too small for the size."""
    images_with_lost: int = 0
    sizes: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(_SIZES) + 1, np.int64))
    """Visible objects by their share of the image, between the bounds."""
    shares: NDArray[np.float64] = field(default_factory=lambda: np.zeros(256))
    """Label -> sum over the images of its share of the pixels."""
    names: dict[str, collections.Counter[str]] = field(
        default_factory=lambda: collections.defaultdict(collections.Counter)
    )
    """``ground_material`` and what is known of objects -> name -> how often."""

    def add(self, labels: NDArray[np.uint8], scenes: Sequence[Mapping[str, Any]]) -> None:
        """Count the scenes with label maps (n, H, W) and metadata."""
        for label, scene in zip(labels, scenes, strict=True):
            shares = np.bincount(label.ravel(), minlength=256) / label.size
            objects = len(scene["objects"])
            shown = np.flatnonzero(shares[1 : objects + 1])
            self.images += 1
            self.described[objects] += 1
            self.visible[len(shown)] += 1
            self.lost += objects - len(shown)
            self.images_with_lost += objects > len(shown)
            self.sizes += np.bincount(np.searchsorted(_SIZES, shares[1 + shown], "right"), minlength=len(_SIZES) + 1)
            self.shares += shares
            if scene["ground_material"] is not None:
                self.names["ground material"][scene["ground_material"]] += 1
            for thing in scene["objects"]:
                for what in _WHAT:
                    if thing[what] is not None:
                        self.names[what][thing[what]] += 1

    @property
    def objects(self) -> int:
        """In all descriptions."""
        return sum(objects * images for objects, images in self.described.items())

    def tables(self) -> Iterator[tuple[str, Sequence[tuple[str, float]]]]:
        """Title and rows of each table; a row has a name and a count, or a share between 0 and 1."""
        last = max([*self.described, *self.visible])
        yield "Images by objects described", [(str(n), self.described[n]) for n in range(last + 1) if self.described[n]]
        yield "Images by objects visible", [(str(n), self.visible[n]) for n in range(last + 1) if self.visible[n]]
        bounds = ["0 %", *(f"{100 * share:g} %" for share in _SIZES), "100 %"]
        named = [f"{low} to {high}" for low, high in itertools.pairwise(bounds)]
        yield "Visible objects by share of the image", list(zip(named, self.sizes.tolist(), strict=True))
        shares = self.shares / max(1, self.images)
        labels = ["background", *(f"object {label}" for label in range(1, last + 1))]
        yield "Share of the pixels", list(zip(labels, shares[: last + 1].tolist(), strict=True))
        for what, counts in self.names.items():
            plural = "Images by ground material" if what == "ground material" else f"Objects by {what}"
            yield f"{plural}, {len(counts)} in all", counts.most_common()


def show(index: ShardIndex, split: str, out: str | pathlib.Path, images: int = IMAGES) -> pathlib.Path:
    """Write a sheet of ``images`` scenes, spread over ``split``, and a page of statistics into ``out``; gives the page.

    Raises ValueError for a split without scenes, damaged shards, and where nothing can be written.
    """
    rows = set(np.linspace(0, index.rows(split) - 1, min(images, index.rows(split))).round().astype(int).tolist())
    statistics, cells, first = Statistics(), [], 0
    for shard in index.shards(split):
        table = index.read(shard)
        pixels, labels = (_array(table, column) for column in ("image", "label"))
        scenes = table.select(["index", "ground_material", "objects"]).to_pylist()
        statistics.add(labels, scenes)
        cells += [
            _cell(pixels[row - first], labels[row - first], scenes[row - first])
            for row in sorted(rows)
            if first <= row < first + len(scenes)
        ]
        first += len(scenes)
    folder = pathlib.Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _sheet(cells).save(folder / SHEET)
        (folder / PAGE).write_text(_page(index, split, statistics, len(cells)), encoding="utf-8")
    except OSError as error:
        raise ValueError(f"--out {folder} cannot be written ({error}); choose another folder") from error
    return folder / PAGE


def colour(label: int) -> tuple[int, int, int]:
    """Of a label on the sheet: black for the background, and hues that are far apart for neighbouring numbers."""
    if not label:
        return (0, 0, 0)
    red, green, blue = colorsys.hsv_to_rgb(label * 0.381966 % 1, 0.75 if label % 2 else 0.5, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def _array(table: pa.Table, column: str) -> NDArray[np.uint8]:
    (chunk,) = table.column(column).chunks
    array: NDArray[np.uint8] = chunk.to_numpy_ndarray()
    return array


def _cell(image: NDArray[np.uint8], label: NDArray[np.uint8], scene: Mapping[str, Any]) -> Image.Image:
    """One scene: image (H, W, 3), its mask in colours, and what its objects are made of."""
    colours = np.array([colour(each) for each in range(256)], np.uint8)
    scale = max(1, -(-_SIDE // max(label.shape)))
    pictures = [
        Image.fromarray(each).resize((scale * label.shape[1], scale * label.shape[0]), Image.Resampling.NEAREST)
        for each in (image, colours[label])
    ]
    width, height = pictures[0].size
    cell = Image.new("RGB", (2 * width + 4, height + 4 + _LINE * (1 + len(scene["objects"]))), "white")
    cell.paste(pictures[0], (0, 0))
    cell.paste(pictures[1], (width + 4, 0))
    draw, font = ImageDraw.Draw(cell), ImageFont.load_default(11)
    draw.text(
        (0, height + 2), _fitting(f"{scene['index']}  {scene['ground_material'] or ''}", cell.width), "black", font
    )
    seen = set(np.unique(label).tolist())
    for number, thing in enumerate(scene["objects"], 1):
        top = height + 2 + _LINE * number
        draw.rectangle((1, top + 3, 9, top + 11), colour(number) if number in seen else "white", "black")
        known = [thing[what] for what in ("size", "color", "shape", "material") if thing[what] is not None]
        text = " ".join(known) or f"object {number}"
        if number not in seen:
            text += " (not visible)"
        draw.text((14, top), _fitting(text, cell.width - 14), "black" if number in seen else "#a04000", font)
    return cell


def _fitting(text: str, width: int) -> str:
    """``text``, cut to about ``width`` pixels."""
    letters = max(1, width // 6)
    return text if len(text) <= letters else f"{text[: letters - 1]}…"


def _sheet(cells: Sequence[Image.Image]) -> Image.Image:
    """All ``cells`` in rows."""
    gap, columns = 16, min(_COLUMNS, len(cells))
    rows = [cells[first : first + columns] for first in range(0, len(cells), columns)]
    heights = [max(cell.height for cell in row) + gap for row in rows]
    sheet = Image.new("RGB", (columns * (cells[0].width + gap) + gap, sum(heights) + gap), "white")
    for row, top in zip(rows, np.cumsum([gap, *heights]).tolist(), strict=False):
        for column, cell in enumerate(row):
            sheet.paste(cell, (gap + column * (cell.width + gap), top))
    return sheet


def _page(index: ShardIndex, split: str, statistics: Statistics, shown: int) -> str:
    """The page."""
    objects = max(1, statistics.objects)
    facts = [
        f"{statistics.images:,} images of {index.size[0]} x {index.size[1]} pixels (height x width)"
        + (", the central square of each" if index.crop else ""),
        f"{statistics.objects:,} objects; {statistics.lost:,} ({100 * statistics.lost / objects:.2g} %) have no pixel"
        + (" after the crop" if index.crop else "")
        + f", in {statistics.images_with_lost:,} images",
        f"fingerprint {index.fingerprint[:16]}",
    ]
    warnings = "".join(f'<p class="warning">{escape(warning)}</p>' for warning in index.warnings)
    tables = "".join(
        f"<section><h2>{escape(title)}</h2>{_table(rows)}</section>" for title, rows in statistics.tables()
    )
    title = f"{index.spec}, {split}"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>"
        f"<ul>{''.join(f'<li>{escape(fact)}</li>' for fact in facts)}</ul>{warnings}"
        f'<p><a href="{SHEET}"><img src="{SHEET}" alt="{shown} scenes: image, mask, materials"></a></p>'
        f"<main>{tables}</main></body></html>\n"
    )


def _table(rows: Iterable[tuple[str, float]]) -> str:
    """Rows with a bar each."""
    rows = list(rows)
    most = max((value for _, value in rows), default=0) or 1
    lines = [
        f"<tr><td>{escape(name)}</td><td>{f'{value:,}' if isinstance(value, int) else f'{100 * value:.3g} %'}</td>"
        f'<td><i style="width:{100 * value / most:.1f}px"></i></td></tr>'
        for name, value in rows
    ]
    return f"<table>{''.join(lines)}</table>"


@stop_signals.obeyed()
def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status: 0 written, 2 bad input, which one line names."""
    parser = Parser(prog="python data/show.py", description="Show what a data set looks like.", allow_abbrev=False)
    parser.add_argument("spec", help="e.g. 'clevrtex:full-crop-(128,128)' or 'synthetic-(64,64)'")
    parser.add_argument(
        "--split", default="train", help="train (default), val, test, all, or a final split: outd, camo"
    )
    parser.add_argument("--images", type=int, default=IMAGES, help=f"on the sheet (default {IMAGES})")
    parser.add_argument("--data-root", help="folder that holds the published files")
    parser.add_argument("--cache", help=f"folder or URI for the shards (default {DEFAULT_CACHE})")
    parser.add_argument("--out", default="data-show", help="folder for the picture and the page (default data-show)")
    parser.add_argument("--plugins", help=PLUGINS)
    asked = parser.parse_args(arguments)
    console = Console(stderr=True)
    try:
        plugins.use_if_given(asked.plugins)
        index, split = _find(asked, console)
        if asked.images < 1:
            raise ValueError(f"--images {asked.images} must be above zero")
        print(show(index, split, asked.out, asked.images))
    except ValueError as error:
        console.print(f"error: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        return 2
    return 0


def _find(asked: argparse.Namespace, console: Console) -> tuple[ShardIndex, str]:
    """The shards and the split there that are asked for. Raises ValueError."""
    spec, split = parse(asked.spec), asked.split
    places = {"root": asked.data_root, "cache": asked.cache, "console": console}
    index = prepare(spec, **places)
    if split == EVERYTHING or index.counts.get(split):
        return index, split
    found, notices = final_splits(spec, index, **places)
    if split not in found and any(each.name == split for each in spec.source.curve(spec.variant)):
        found = {**curve_splits(spec, index, **places)[0], **found}
    if split not in found:
        there = [*(name for name, count in index.counts.items() if count), EVERYTHING, *found]
        why = next((f" ({notice})" for notice in notices if notice.startswith(f"{split} ")), "")
        raise ValueError(f"--split {split} is not there{why}; there are {', '.join(dict.fromkeys(there))}")
    return found[split]


if __name__ == "__main__":
    sys.exit(main())
