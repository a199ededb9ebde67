"""The numbers of the report, made again from evaluation.parquet by other means, and from a copied, renamed folder."""

import json
import math
import re
import shutil
import statistics
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from study.display import study_page
from tests.study.display.page_reader import Page
from tests.study.display.recomputed import check
from tests.study.results import with_figures

SPLITS = {"leaderboard": "test", "leaderboard_OOD": "outd"}


def recomputed(folder: Path, split: str, metric: str) -> dict[str, tuple[float, float, list[float]]]:
    """Entry -> mean over seeds of the mean over images, its deviation, and each image's mean over seeds.

    Rows and plain Python alone; nothing of ours.
    """
    by_entry: dict[str, dict[int | None, dict[int, float]]] = {}
    for row in pq.read_table(folder / "evaluation.parquet").to_pylist():
        if row["split"] == split and not math.isnan(row[metric]):
            by_entry.setdefault(row["entry"], {}).setdefault(row["seed"], {})[row["image"]] = row[metric]
    found = {}
    for entry, by_seed in by_entry.items():
        means = [statistics.fmean(scores.values()) for scores in by_seed.values()]
        images = [statistics.fmean(scores[i] for scores in by_seed.values()) for i in next(iter(by_seed.values()))]
        found[entry] = statistics.fmean(means), statistics.pstdev(means), images
    return found


def named(entry: str) -> str:
    if entry.startswith("trial_"):
        return f"trial {int(entry[6:])}"
    return entry.removeprefix("baseline_").replace("_", " ")


@pytest.mark.parametrize("name", SPLITS)
def test_the_leaderboard_is_what_the_rows_say(name: str, results_folder: Path) -> None:
    table = with_figures(pq.read_table(results_folder / "evaluation.parquet"), trial_0002=0.9)
    pq.write_table(table, results_folder / "evaluation.parquet")
    page = Page(study_page.write(results_folder).read_text())
    cells = page.named[name]
    metrics = [word for word in cells if word in ("mIoU_fg", "ARI_FG", "mBO_fg", "mBO", "ARI", "MSE")]
    assert len(metrics) == 6
    checked = 0
    for place, metric in enumerate(metrics):
        scale = 1 if metric == "MSE" else 100
        for entry, (mean, deviation, images) in recomputed(results_folder, SPLITS[name], metric).items():
            at = cells.index(named(entry)) + 1 + 2 * place
            shown = [float(number) for number in re.findall(r"-?\d+\.?\d*", cells[at])]
            rounded = 0.5 if "." not in cells[at] else 0.05
            assert shown[0] == pytest.approx(scale * mean, abs=rounded + 1e-9), (entry, metric)
            if not entry.startswith("baseline_"):
                assert shown[1] == pytest.approx(scale * deviation, abs=rounded + 1e-9), (entry, metric)
            low, high = (float(number) for number in cells[at + 1].strip("[]").split(", "))
            assert low <= shown[0] + rounded and high >= shown[0] - rounded
            half = scale * 1.96 * statistics.pstdev(images) / math.sqrt(len(images))
            assert high - low == pytest.approx(2 * half, rel=0.35, abs=2 * rounded), (entry, metric)
            checked += 1
    assert checked == 6 * 5


def test_all_tables_agree_with_the_rows_by_other_means(results_folder: Path) -> None:
    table = with_figures(pq.read_table(results_folder / "evaluation.parquet"), trial_0002=0.9)
    pq.write_table(table, results_folder / "evaluation.parquet")
    (results_folder / "best.json").write_text(json.dumps({"entry": "trial_0005", "trial": 5, "seed": 11}))
    write_objects(results_folder)
    study_page.write(results_folder)
    found = check(results_folder)
    assert not found.wrong and found.right > 200
    text = (results_folder / "report.md").read_text()
    for before, after in (
        ("47.5 ± 5.0", "47.6 ± 5.0"),
        ("[-24.2, +38.2] |", "[-24.3, +38.2] |"),
        ("+9.9 [+7.8", "+9.7 [+7.8"),
    ):
        assert before in text, before
        (results_folder / "report.md").write_text(text.replace(before, after, 1))
        assert check(results_folder).wrong, f"{before} is looked at"
    html = (results_folder / "report.html").read_text()
    (results_folder / "report.html").write_text(html.replace(">45.0<", ">46.0<"))
    assert any("shape disc" in line for line in check(results_folder).wrong)


def write_objects(folder: Path) -> None:
    """Four objects of two shapes on test, for two seeds."""
    rows = []
    for seed, more in ((11, 0.0), (12, 0.1)):
        for i, shape in enumerate(("disc", "square", "disc", "square")):
            rows.append({"entry": "trial_0005", "trial": 5, "seed": seed, "split": "test", "source": "", "image": i})
            rows[-1] |= {"object": 1, "material": "m", "shape": shape, "size": "big", "objects": 1, "touches": False}
            rows[-1] |= {"iou": 0.3 + 0.1 * i + more}
    pq.write_table(pa.Table.from_pylist(rows), folder / "objects.parquet")


def test_the_csv_of_the_leaderboard_has_them_in_full(results_folder: Path) -> None:
    html = study_page.write(results_folder).read_text()
    lines = re.search(r'class="csv">"(.*?)"</script>', html)[1].split("\\n")  # type: ignore[index]
    values = {tuple(line.split(",")[i] for i in (0, 1, 4)): line.split(",") for line in lines[1:] if line}
    for entry, (mean, deviation, _) in recomputed(results_folder, "outd", "mIoU_fg").items():
        line = values[named(entry), "outd", "mIoU_fg"]
        assert float(line[5]) == pytest.approx(mean, rel=1e-12)
        assert entry.startswith("baseline_") or float(line[6]) == pytest.approx(deviation, rel=1e-9)


def test_a_copied_and_renamed_folder_makes_the_same_report(results_folder: Path, tmp_path: Path) -> None:
    first = study_page.write(results_folder)
    copy = Path(shutil.copytree(results_folder, tmp_path / "elsewhere" / "of another name"))
    for name in ("report.html", "report.md", "tables.tex", "results.bib", "trials.parquet"):
        (copy / name).unlink()
    again = study_page.write(copy)
    assert again.read_bytes() == first.read_bytes()
    for name in ("report.md", "tables.tex", "results.bib", "trials.parquet"):
        assert (copy / name).read_bytes() == (results_folder / name).read_bytes(), name
    assert str(tmp_path) not in again.read_text()
