"""The tables of report.md, computed again from evaluation.parquet and objects.parquet with pyarrow and SciPy alone.

It shares no code with the project. ``python -m tests.study.display.recomputed results/STUDY ...`` prints every number
that does not agree, and how many do.
"""

import json
import math
import re
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from scipy import stats

PERCENT = ("mIoU_fg", "ARI_FG", "mBO_fg", "mBO", "ARI")
SPLITS = {"OOD": "outd", "CAMO": "camo", "textured CAMO": "camo_textured"}
NUMBER = r"[+-]?\d[\d,]*\.?\d*"


def means(folder: Path, metric: str) -> dict[tuple[str, str], dict[int | None, np.ndarray]]:
    """(entry, split) -> seed -> scores of the images, in the order of their numbers."""
    table = pq.read_table(folder / "evaluation.parquet")
    found: dict[tuple[str, str], dict[int | None, list[tuple[int, float]]]] = {}
    columns = [table[name].to_pylist() for name in ("entry", "split", "seed", "image", metric)]
    for entry, split, seed, image, score in zip(*columns, strict=True):
        value = math.nan if score is None else score
        found.setdefault((entry, split), {}).setdefault(seed, []).append((image, value))
    return {
        key: {seed: np.array([score for _, score in sorted(images)]) for seed, images in by_seed.items()}
        for key, by_seed in found.items()
    }


def named(entry: str) -> str:
    """An entry as reports call it."""
    if entry.startswith("trial_"):
        return f"trial {int(entry[6:])}"
    return entry.removeprefix("baseline_").replace("_", " ")


def tables(text: str) -> list[tuple[str, list[str], list[list[str]]]]:
    """The tables of a report in Markdown: title, headings, rows."""
    found = []
    for block in re.finditer(r"\*\*(.+?)\*\*\n\n((?:\|.*\n)+)", text):
        lines = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in block[2].splitlines()]
        found.append((block[1], lines[0], lines[2:]))
    return found


def gain(one: list[float], other: list[float]) -> tuple[float, float, float]:
    """The difference of two entries, and the ends of its 95 % interval by Welch's test."""
    around = stats.ttest_ind(one, other, equal_var=False).confidence_interval(0.95)
    return float(np.mean(one) - np.mean(other)), float(around.low), float(around.high)


class Checked:
    """Numbers that agree, and those that do not."""

    def __init__(self) -> None:
        self.right = 0
        self.wrong: list[str] = []

    def near(self, shown: str, wanted: float, what: str) -> None:
        """``shown`` is ``wanted``, as far as its digits go."""
        digits = len(shown.partition(".")[2])
        within = 0.5 * 10.0**-digits + 1e-9 * max(1.0, abs(wanted))
        if abs(float(shown.replace(",", "")) - wanted) <= within:
            self.right += 1
        else:
            self.wrong.append(f"{what}: {shown} in the report, {wanted:.6g} from the rows")


def check(folder: Path) -> Checked:
    """Compare the tables of ``folder``/report.md with the rows."""
    checked = Checked()
    best = json.loads((folder / "best.json").read_text()).get("entry")
    for title, heads, rows in tables((folder / "report.md").read_text()):
        scored = re.fullmatch(r"(.+) \(([\d,]+) images\)", title)
        if scored:
            split = SPLITS.get(scored[1], scored[1])
            for column, head in enumerate(heads):
                metric = head.split(" (")[0]
                if metric in (*PERCENT, "MSE"):
                    _scores(checked, folder, split, metric, int(scored[2].replace(",", "")), column, rows)
        elif title.startswith("What is lost"):
            _gaps(checked, folder, heads, rows)
    if best:
        _objects(checked, folder, best)
    return checked


def _scores(
    checked: Checked, folder: Path, split: str, metric: str, images: int, column: int, rows: list[list[str]]
) -> None:
    scale = 100 if metric in PERCENT else 1
    all_scores = means(folder, metric)
    here = {entry: by_seed for (entry, where), by_seed in all_scores.items() if where == split}
    by_name = {named(entry): by_seed for entry, by_seed in here.items()}
    trained = {e: [scale * float(np.nanmean(v)) for v in by.values()] for e, by in here.items() if None not in by}
    for row in rows:
        cell, what = row[column].replace("**", ""), f"{row[0]}, {split}, {metric}"
        shown = re.findall(NUMBER, cell)
        if " - base" in row[0]:
            one = next(entry for entry in trained if named(entry) == row[0].removesuffix(" - base"))
            for text, wanted in zip(shown, gain(trained[one], trained["base"]), strict=True):
                checked.near(text, wanted, what)
            continue
        seeds = [scale * float(np.nanmean(scores)) for scores in by_name[row[0]].values()]
        if any(len(scores) != images for scores in by_name[row[0]].values()):
            checked.wrong.append(f"{what}: not of {images} images")
        checked.near(shown[0], float(np.mean(seeds)), what)
        if "±" in cell:
            checked.near(shown[1], float(np.std(seeds)), f"{what}, deviation")
        low, high = (float(text.replace(",", "")) for text in shown[-2:])
        if not low - 1e-9 <= float(shown[0].replace(",", "")) <= high + 1e-9:
            checked.wrong.append(f"{what}: outside its interval")
        image = scale * np.mean(list(by_name[row[0]].values()), axis=0)
        image = image[~np.isnan(image)]
        normal = 2 * 1.96 * float(np.std(image)) / math.sqrt(len(image))
        if len(image) >= 20 and not 0.75 * normal - 0.11 <= high - low <= 1.25 * normal + (2 if scale == 1 else 0.11):
            checked.wrong.append(f"{what}: interval {high - low:.3g} wide, by the normal formula {normal:.3g}")
        else:
            checked.right += 1


def _gaps(checked: Checked, folder: Path, heads: list[str], rows: list[list[str]]) -> None:
    for column, head in enumerate(heads[1:], start=1):
        title, metric = head.rsplit(" ", 1)
        scale = 100 if metric in PERCENT else 1
        found = {
            (named(entry), split): float(np.mean([np.nanmean(scores) for scores in by_seed.values()]))
            for (entry, split), by_seed in means(folder, metric).items()
        }
        for row in rows:
            shown = re.findall(NUMBER, row[column])
            if shown:
                loss = found[row[0], "test"] - found[row[0], SPLITS.get(title, title)]
                checked.near(shown[0], scale * loss, f"{row[0]}, gap to {head}")


def _objects(checked: Checked, folder: Path, best: str) -> None:
    """The tables by material, shape, size and crowd in report.html, of the first split."""
    path = folder / "objects.parquet"
    if not path.exists():
        return
    rows = [r for r in pq.read_table(path).to_pylist() if r["split"] == "test" and r["entry"] == best]
    html = (folder / "report.html").read_text()
    for tag in ("material", "shape", "size", "objects", "touches"):
        card = re.search(rf"<h3>By {tag}, test</h3>.*?<tbody>(.*?)</tbody>", html, re.DOTALL)
        for line in re.findall(r"<tr[^>]*>(.*?)</tr>", card[1], re.DOTALL) if card else []:
            value, count, mean = re.findall(r"<td[^>]*>(?:<b>)?(.*?)(?:</b>)?</td>", line)[:3]
            wanted = {True: "yes", False: "no"}
            here = [r for r in rows if str(wanted.get(r[tag], r[tag]) if tag == "touches" else r[tag]) == value]
            checked.near(mean, 100 * float(np.mean([r["iou"] for r in here])), f"{tag} {value}")
            checked.near(count, len(here) / len({r["seed"] for r in here}), f"{tag} {value}, objects")


if __name__ == "__main__":
    status = 0
    for name in sys.argv[1:]:
        found = check(Path(name))
        print(f"{name}: {found.right} numbers agree, {len(found.wrong)} do not", *found.wrong, sep="\n  ")
        status |= bool(found.wrong)
    sys.exit(status)
