"""A comparison in the terminal, in Markdown and on its page."""

import io
import json
import re
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from study.display import comparison_page, pages, tables
from study.display.picture_section import cut
from study.scoring.comparison import Comparison, compare
from tests.study.display.page_reader import Page
from tests.study.results import COMPARED_SPLITS, with_figures, write_curve, write_scored, write_three
from trainables import pictures


@pytest.fixture
def comparison(tmp_path: Path) -> Comparison:
    return compare(write_three(tmp_path))


@pytest.mark.parametrize(
    ("width", "cells"),
    [
        (120, "2 / 1 / 1 40.0 60.0 4.0 30.0 70.0 3.0 20.0 80.0 2.0"),
        (80, "40.0 60.0 30.0 70.0 20.0 80.0"),
    ],
)
def test_one_table_holds_all_splits_on_any_terminal(comparison: Comparison, width: int, cells: str) -> None:
    console = Console(width=width, file=io.StringIO(), record=True)
    tables.print_comparison(console, comparison)
    text = console.export_text()
    (line,) = [line for line in text.splitlines() if line.lstrip().startswith("space")]
    assert line.split() == ["space", *cells.split()]
    assert "test" in text and "OOD" in text and "CAMO" in text
    assert ("complete / pruned / failed" in text) == (width == 120)


@pytest.mark.parametrize(
    ("width", "cells"),
    [
        (160, "2 / 1 / 1 41.0 ± 1.0 60.0 ± 0.0 4.0 ± 0.0 31.0 ± 1.0 70.0 ± 0.0 3.0 ± 0.0 21.0 ± 1.0"),
        (100, "41.0 ± 1.0 60.0 ± 0.0 31.0 ± 1.0 70.0 ± 0.0 21.0 ± 1.0 80.0 ± 0.0"),
        (70, "41.0 60.0 31.0 70.0 21.0 80.0"),
    ],
)
def test_deviations_are_shown_where_there_is_room(tmp_path: Path, width: int, cells: str) -> None:
    console = Console(width=width, file=io.StringIO(), record=True)
    tables.print_comparison(console, compare([write_scored(tmp_path, "space", {"base": 0.4}, best="base")]))
    (line,) = [line for line in console.export_text().splitlines() if line.lstrip().startswith("space")]
    assert " ".join(line.split()).startswith(f"space {cells}") and "…" not in line


def diagnosed(folder: Path) -> Path:
    """``folder`` as this version writes it."""
    table = with_figures(pq.read_table(folder / "evaluation.parquet"), trial_0001=0.9)
    pq.write_table(table, folder / "evaluation.parquet")
    record = json.loads((folder / "study.json").read_text()) | {"best_grid": "2x3"}
    (folder / "study.json").write_text(json.dumps(record))
    return folder


def test_verdicts_stand_in_the_table_or_below_it(tmp_path: Path) -> None:
    comparison = compare([diagnosed(folder) for folder in write_three(tmp_path)[:2]])
    for width, rows in (
        (140, {"space": "finds objects", "gnm": "tiles the image", "grid": "tiles the image"}),
        (70, {}),
    ):
        console = Console(width=width, file=io.StringIO(), record=True)
        tables.print_comparison(console, comparison)
        text = console.export_text()
        for entry, verdict in rows.items():
            (line,) = [line for line in text.splitlines() if line.lstrip().startswith(entry)]
            assert line.rstrip().endswith(verdict)
        below = "on test: gnm - tiles the image, space - finds objects, grid 4x4 - tiles the image"
        assert (below in " ".join(text.split())) == (width == 70)
        assert "mBO" not in text and "best fixed grid on validation is 2x3" in " ".join(text.split())
    markdown = tables.comparison_markdown(comparison)
    assert "CAMO MSE | test diagnosis |" in markdown and "| 2.0 | finds objects |" in markdown
    comparison_page.write(comparison, tmp_path / "all.html")
    test, *_ = Page((tmp_path / "all.html").read_text()).tables
    assert "mBO_fg" in test and test.count("tiles the image") == 2 and test.count("finds objects") == 1


def test_markdown_marks_the_best_of_each_column(comparison: Comparison) -> None:
    text = tables.comparison_markdown(comparison)
    assert text.startswith("|  | trials | test mIoU_fg | test ARI_FG | test MSE | OOD mIoU_fg |")
    assert "| gnm | 2 / 1 / 1 | **50.0** | 50.0 | 5.0 |" in text
    assert "| *grid 4x4* |  | 30.0 | **70.0** | **3.0** |" in text


def test_the_page_shows_pictures_and_links_to_the_reports(comparison: Comparison, tmp_path: Path) -> None:
    comparison_page.write(comparison, tmp_path / "all.html")
    html = (tmp_path / "all.html").read_text()
    page = Page(html)
    assert html.count("<img") == 2 * len(COMPARED_SPLITS), "pictures of another layout are shown whole"
    assert page.headings[:5] == [
        *("3 studies on synthetic:plain", "Leaderboard", "test (2 images)", "OOD (2 images)", "CAMO (2 images)"),
    ]
    assert page.headings[5:7] == ["Budgets", "Generalisation"]
    assert page.headings[-4:] == ["Pictures", "test", "OOD", "CAMO"]
    assert 'href="space-plain/report.html"' in html and 'href="iodine-plain/report.html"' in html


def test_all_curves_are_in_one_picture(tmp_path: Path) -> None:
    folders = write_three(tmp_path)
    comparison_page.write(compare(folders), tmp_path / "without.html")
    assert "Curve over" not in (tmp_path / "without.html").read_text()
    for folder, winner, last in zip(folders[:2], ("trial_0001", "trial_0000"), ("1", "0.4"), strict=True):
        (folder / "best.json").write_text(f'{{"entry": "{winner}"}}')
        write_curve(folder, winner, ("0", "0.2", last))
    comparison_page.write(compare(folders), tmp_path / "all.html")
    html = (tmp_path / "all.html").read_text()
    page = Page(html)
    table = page.named["curve"]
    assert table[:4] == ["mIoU_fg", "(%)", "0", "0.2"]
    assert table[5::4] == ["gnm", "space", "grid 4x4", "kmeans"], "each baseline once"
    assert "-" in table and "15.0" in table, "not scored at the last place of the other"
    (plot,) = [plot for plot in page.plots if plot["layout"]["xaxis"]["title"]["text"] == "strength of texture"]
    assert sum("diamond" in trace.get("marker", {}).get("symbol", ()) for trace in plot["data"]) == 2
    assert all(source.startswith(("data:", "#", "space", "gnm", "iodine")) for source in page.loaded)


def test_no_name_of_a_folder_becomes_anything_but_a_relative_link(tmp_path: Path) -> None:
    for name in ("javascript:alert(1)", 'a"onclick="x', "https:", "ordinary"):
        write_scored(tmp_path, "space", {"base": 0.4}, best="base", name=name)
    comparison_page.write(compare(sorted(tmp_path.iterdir())), tmp_path / "all.html")
    html = (tmp_path / "all.html").read_text()
    links = [link for link in re.findall(r'<a href="([^"]*)"', html) if not link.startswith("#")]
    assert sorted(map(unquote, links)) == sorted(
        f"{path.name}/report.html" for path in tmp_path.iterdir() if path.is_dir()
    )
    shown = re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)  # there it is text of a CSV file
    assert not any(":" in link for link in links) and "onclick=" not in re.sub(r"&quot;.*?&quot;", "", shown)
    assert pages.link("https://host/a?b=c", "x") == '<a href="https://host/a?b=c">x</a>'


def panel(colour: int) -> bytes:
    """A panel of two scenes of 4 by 4 pixels, whose four columns are darker from left to right."""
    image = np.full((2, 3, 4, 4), colour / 255, np.float32)
    labels = np.zeros((2, 4, 4), np.int64)
    labels[:, :2] = 1
    return pictures.encode_png(pictures.panel(image, image / 2, labels, labels))


def test_scenes_are_shown_entry_by_entry(tmp_path: Path) -> None:
    folders = write_three(tmp_path)[:2]
    for folder, winner in zip(folders, ("trial_0001", "trial_0000"), strict=True):
        for split in COMPARED_SPLITS:
            (folder / "pictures" / f"{winner}_{split}.png").write_bytes(panel(200))
            (folder / "pictures" / f"baseline_kmeans_{split}.png").write_bytes(panel(100))
    cells = cut(panel(200))
    assert len(cells) == 2 and all(len(row) == 4 for row in cells)
    assert {cell.getpixel((5, 5)) for cell in (cells[0][0], cells[1][0])} == {(200, 200, 200)}
    assert cells[0][2].getpixel((5, 5)) == cells[0][3].getpixel((5, 5)) != cells[0][0].getpixel((5, 5))
    comparison_page.write(compare(folders), tmp_path / "all.html")
    html = (tmp_path / "all.html").read_text()
    assert html.count('<div class="scenes card">') == 2 * len(COMPARED_SPLITS)
    assert html.count("<img") == 2 * len(COMPARED_SPLITS) * 2 * 3, "the truth and two entries, two pictures each"
    first = html.partition('<div class="scenes card">')[2]
    places = [first.index(words) for words in ("input, true segments", "gnm", "space")]
    assert places == sorted(places), "in the order of the leaderboard"


def test_unequal_budgets_are_said(tmp_path: Path) -> None:
    folders = write_three(tmp_path)[:2]
    assert not any("unequal" in line for line in compare(folders).notes)
    record = json.loads((folders[0] / "study.json").read_text())
    record["config"]["steps"] = 4000
    (folders[0] / "study.json").write_text(json.dumps(record))
    pq.write_table(pa.table({"number": [1, 0], "state": ["COMPLETE", "FAIL"]}), folders[1] / "trials.parquet")
    notes = compare(folders).notes
    assert "budgets are unequal, trials: 2 for gnm; 4 for space" in notes
    assert "budgets are unequal, training steps of a full trial: 0 for gnm; 4,000 for space" in notes
