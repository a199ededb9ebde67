"""Report and comparison in headless Chromium: three widths, both schemes, on paper, and clicked at."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from study.display import comparison_page, study_page
from study.scoring.comparison import compare
from tests.study.display.chromium import PROGRAM, Browser
from tests.study.results import with_figures, write_curve, write_three

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(PROGRAM is None, reason="no Chromium here"),
]

HOSTILE = "<img src=x onerror=alert(1)>\"'</script><!--&amp;"
"""A name that must stay a name."""
WIDTHS = (390, 1280, 1920)
SCHEMES = ("light", "dark")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as started:
        yield started


@pytest.fixture(scope="module")
def report(finished_results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with all sections, of a study whose names are hostile."""
    folder = Path(shutil.copytree(finished_results, tmp_path_factory.mktemp("shown") / finished_results.name))
    table = with_figures(pq.read_table(folder / "evaluation.parquet"), trial_0002=0.9)
    pq.write_table(table, folder / "evaluation.parquet")
    (folder / "best.json").write_text(json.dumps({"entry": "trial_0005", "trial": 5, "seed": 11}))
    write_curve(folder, "trial_0005")
    record = json.loads((folder / "study.json").read_text())
    record["config"] |= {"data": HOSTILE, "set": {HOSTILE: HOSTILE}}
    record["data"]["notices"] = [HOSTILE]
    record["curve"]["axis"] = HOSTILE
    (folder / "study.json").write_text(json.dumps(record))
    return study_page.write(folder)


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = tmp_path_factory.mktemp("compared")
    folders = write_three(results)
    for folder, winner in zip(folders[:2], ("trial_0001", "trial_0000"), strict=True):
        table = with_figures(pq.read_table(folder / "evaluation.parquet"))
        pq.write_table(table, folder / "evaluation.parquet")
        (folder / "best.json").write_text(json.dumps({"entry": winner}))
        write_curve(folder, winner)
        record = json.loads((folder / "study.json").read_text())
        record["data"]["notices"] = [HOSTILE]
        (folder / "study.json").write_text(json.dumps(record))
    comparison_page.write(compare(folders), results / "comparison.html")
    return results / "comparison.html"


def luminance(colours: np.ndarray) -> np.ndarray:
    """Relative luminance (WCAG 2.2) of uint8 colours, (..., 3) -> (...)."""
    shares = colours / 255.0
    linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
    return linear @ np.array([0.2126, 0.7152, 0.0722])


def contrast(colours: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Contrast ratio (WCAG 2.2) of ``colours`` (..., 3) with one ``other`` (3,)."""
    one, two = luminance(colours), luminance(other)
    return (np.maximum(one, two) + 0.05) / (np.minimum(one, two) + 0.05)


def commonest(pixels: np.ndarray) -> np.ndarray:
    """The colour that most of ``pixels`` (H, W, 3) have."""
    colours, counts = np.unique(pixels.reshape(-1, 3), axis=0, return_counts=True)
    return colours[counts.argmax()]


def colour(browser: Browser, variable: str) -> np.ndarray:
    """The colour of a variable of the style sheet, uint8 (3,)."""
    text = browser.run(f"getComputedStyle(document.documentElement).getPropertyValue('{variable}').trim()")
    return np.array([int(text[i : i + 2], 16) for i in (1, 3, 5)], np.uint8)


OVERFLOWING = """[...document.querySelectorAll("main *")]
  .filter(one => !one.closest(".scroll, .plot, pre, svg, .stack thead"))
  .filter(one => one.getBoundingClientRect().right > innerWidth + 0.5 || one.scrollWidth > one.clientWidth + 1
    && one.clientWidth > 0 && getComputedStyle(one).display !== "inline")
  .map(one => one.outerHTML.slice(0, 90))"""
"""What sticks out of the window, or out of its own box; tables of trials scroll in theirs."""


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["report", "comparison"])
def test_pages_fit_and_are_silent(
    name: str, width: int, scheme: str, browser: Browser, request: pytest.FixtureRequest
) -> None:
    browser.open(request.getfixturevalue(name), width, scheme)
    assert browser.run("[document.documentElement.scrollWidth, innerWidth]") == [width, width]
    assert browser.run(OVERFLOWING) == []
    assert browser.errors() == [] and browser.requests() == []
    assert browser.run("document.querySelectorAll('.plot .main-svg').length") > 0, "plots are drawn"
    assert browser.run("document.querySelectorAll('main img[onerror], main [onerror]').length") == 0


@pytest.mark.parametrize("scheme", SCHEMES)
def test_plots_stand_out_from_their_card(scheme: str, browser: Browser, report: Path) -> None:
    browser.open(report, 1280, scheme)
    card = colour(browser, "--card")
    plots = browser.run("document.querySelectorAll('.plot').length")
    for number in range(plots):
        browser.run(f"document.querySelectorAll('.plot').forEach((p, i) => p.id = i === {number} ? 'looked-at' : '')")
        pixels = browser.pixels("#looked-at")
        assert np.array_equal(commonest(pixels), card), number
        assert (contrast(pixels, card) >= 3).sum() > 200, f"plot {number} hardly shows"
    browser.run("document.querySelectorAll('.plot').forEach((p, i) => p.id = '')")
    browser.run("document.querySelector('.plot').id")
    for variable in ("--best", "--base", "--good", "--calm", "--bad", "--accent", "--faint", "--low"):
        assert contrast(colour(browser, variable), card) >= 3, variable
    for variable in (f"--series{i}" for i in range(1, 11)):
        assert contrast(colour(browser, variable), card) >= 3, variable
    for variable in ("--text", "--soft", "--accent", "--good", "--calm", "--bad"):
        assert contrast(colour(browser, variable), card) >= 4.5, variable
    curves = "document.querySelector('#search .plot').id = 'curves'"
    browser.run(curves)
    best = colour(browser, "--best").astype(int)
    close = np.abs(browser.pixels("#curves").astype(int) - best).max(-1) < 12
    assert close.sum() > 300, "the best curve is there, in its own colour"


def test_a_change_of_scheme_changes_the_plots(browser: Browser, report: Path) -> None:
    browser.open(report, 1280, "light")
    before = browser.pixels("#search .plot")
    browser.media("dark")
    browser.drawn("dark")
    after = browser.pixels("#search .plot")
    assert luminance(commonest(before)) > 0.9 and luminance(commonest(after)) < 0.05
    best = colour(browser, "--best").astype(int)
    assert (np.abs(after.astype(int) - best).max(-1) < 12).sum() > 300


def test_paper_is_light_and_loses_no_column(browser: Browser, report: Path) -> None:
    browser.open(report, 1280, "dark")
    browser.media("dark", "print")
    best = colour(browser, "--best").astype(int)
    pixels = browser.pixels("#search .plot")
    assert luminance(commonest(pixels)) > 0.9 and contrast(best, commonest(pixels)) >= 3
    assert (np.abs(pixels.astype(int) - best).max(-1) < 12).sum() > 300
    assert browser.run("getComputedStyle(document.querySelector('.scroll')).overflow") == "visible"
    browser.send("Emulation.setEmulatedMedia", media="", features=[])
    printed = browser.send("Page.printToPDF", landscape=True, preferCSSPageSize=True)
    assert len(printed["data"]) > 50_000


def column(browser: Browser, table: str, index: int) -> list[str]:
    return browser.run(
        f"[...document.querySelector('{table}').tBodies[0].rows].map(row => row.cells[{index}].textContent)"
    )


@pytest.mark.parametrize("width", [390, 1280])
def test_a_click_on_a_heading_sorts(width: int, browser: Browser, report: Path) -> None:
    browser.open(report, width, "light")
    click = "document.querySelector('#trials thead th').click()"
    browser.run(click)
    assert column(browser, "#trials table", 0) == [str(number) for number in range(9)]
    browser.run(click)
    assert column(browser, "#trials table", 0) == [str(number) for number in reversed(range(9))]
    browser.run("document.querySelectorAll('#leaderboard thead th')[1].click()")
    assert column(browser, "#leaderboard table", 0)[0] == "background", "the least mIoU_fg first"


def test_tables_are_saved_as_csv(browser: Browser, report: Path) -> None:
    browser.open(report, 1280, "light")
    browser.run("HTMLAnchorElement.prototype.click = function () { window.saved = [this.download, this.href]; }")

    def saved(section: str) -> tuple[str, list[str]]:
        browser.run(f"document.querySelector('#{section} button[data-csv]').click()")
        text = browser.run("fetch(window.saved[1]).then(answer => answer.text())")
        return browser.run("window.saved[0]"), text.splitlines()

    name, lines = saved("leaderboard")
    assert name == "leaderboard.csv" and lines[0] == "entry,split,images,seeds,metric,mean,deviation,low,high"
    assert any(line.startswith("trial 5,test,6,2,mIoU_fg,0.475") for line in lines), "in full"
    name, lines = saved("trials")
    assert name == "trials.csv" and len(lines) == 10 and lines[0].startswith("trial,state,mIoU_fg")
    assert len({line.count(",") for line in lines if '"' not in line}) == 1


def test_the_contents_lead_to_every_section(browser: Browser, report: Path) -> None:
    browser.open(report, 1280, "light")
    links = browser.run("[...document.querySelectorAll('nav a')].map(link => link.getAttribute('href').slice(1))")
    sections = browser.run("[...document.querySelectorAll('main section')].map(section => section.id)")
    assert links == sections and len(set(links)) == len(links) > 8
