"""How many slots a winner uses, and their masks, in its report."""

import json
import re
from pathlib import Path

import pyarrow as pa

from study.display import slots_section
from study.scoring import slots
from tests.study.display.page_reader import Page
from tests.study.scoring.test_objects import Scenes
from tests.study.scoring.test_slots import Halves, predicted


def table(truth: bool = True) -> pa.Table:
    rows = []
    for seed in (1, 2):
        for entry, segments in (("trial_0003", (3.0, 2.0, 3.0)), ("base", (1.0, 1.0, 4.0))):
            for image, count in enumerate(segments):
                rows.append({"entry": entry, "seed": seed, "split": "test", "image": image, "seg_segments": count})
                rows[-1]["true_objects"] = float(image + 1) if truth else None
    return pa.Table.from_pylist(rows)


def drawn(html: str) -> dict[str, dict]:
    (plot,) = re.findall(r'<script type="application/json">(\{"data".*?)</script>', html)
    return {trace["name"]: trace for trace in json.loads(plot)["data"]}


def test_images_are_counted_by_slots_used_beside_the_truth() -> None:
    html = slots_section.used(table(), ["test"], "trial_0003")
    traces = drawn(html)
    assert list(traces) == ["trial 3", "base", "the truth"]
    assert traces["trial 3"]["y"] == [0, 0, 1, 2, 0] and traces["trial 3"]["x"] == [0, 1, 2, 3, 4], "the mean of seeds"
    assert traces["base"]["y"] == [0, 2, 0, 0, 1]
    assert traces["the truth"]["y"] == [0, 0, 1, 1, 1], "objects and the ground"
    assert "1% of the pixels" in html


def test_what_older_studies_lack_is_left_out() -> None:
    assert list(drawn(slots_section.used(table(truth=False), ["test"], "trial_0003"))) == ["trial 3", "base"]
    old = table().drop_columns(["seg_segments"])
    assert slots_section.used(old, ["test"], "trial_0003") == ""
    assert slots_section.used(table(), ["outd"], "trial_0003") == ""
    assert list(drawn(slots_section.used(table(), ["test"], "base"))) == ["base", "the truth"]


def test_the_masks_stand_below_each_slots_share(tmp_path: Path) -> None:
    assert slots_section.masks(tmp_path, ["test"], "base") == ""
    folder = tmp_path / "pictures" / slots.FOLDER
    folder.mkdir(parents=True)
    png = slots.picture(Halves(), Scenes(), predicted(), step=0)  # type: ignore[arg-type]
    for split in ("test", "outd"):
        (folder / f"base_{split}.png").write_bytes(png)
    html = slots_section.masks(tmp_path, ["test", "outd"], "base")
    page = Page(html)
    assert "Masks by slot, test, 12 of 20 slots" in page.headings and page.details == ["OOD: masks by slot"]
    assert "<figcaption>slot 19: 50% of the pixels, used in 100% of the images</figcaption>" in html
    assert len(page.loaded) == 2 * 3 * 13
