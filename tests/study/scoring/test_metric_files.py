"""Rows of scores know the metrics of one's own with which they were computed."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data import plugins
from study.scoring import metric_files
from study.scoring.evaluation import known_rows, sources_in
from tests import own_folder
from trainables import own_metrics


@pytest.fixture
def metric(tmp_path: Path) -> Iterator[Path]:
    """The file of a metric that is in use."""
    with own_folder.kept_out():
        yield Path(plugins.use(own_folder.write(tmp_path / "mine", own_folder.METRIC))) / own_folder.METRIC


def scored(path: Path) -> dict:
    """Rows of test, and of pbg beside it, written to ``path`` now; their sources."""
    sources = {("a", 1, "test"): f"w, t{metric_files.part()}", ("a", 1, "pbg"): f"w, p{metric_files.part()}"}
    table = pa.table({**dict(zip(("entry", "seed", "split"), zip(*sources, strict=True), strict=True))})
    pq.write_table(table.append_column("source", pa.array(list(sources.values()))), path)
    return sources


def kept(path: Path) -> int:
    """How many rows hold still."""
    table = known_rows(path, {("a", 1, "test"): f"w, t{metric_files.part()}"}, {("a", 1): "w"}, ["pbg"])
    return 0 if table is None else table.num_rows


def test_rows_hold_until_a_metric_is_edited(metric: Path, tmp_path: Path) -> None:
    path = tmp_path / "evaluation.parquet"
    scored(path)
    assert kept(path) == 2 and metric_files.changed(sources_in(path)) == []
    metric.write_text(metric.read_text() + "# edited\n")
    assert metric_files.changed(sources_in(path)) == ["coverage"]
    assert kept(path) == 0


def test_a_new_metric_is_computed_and_one_that_is_gone_changes_nothing(metric: Path, tmp_path: Path) -> None:
    path = tmp_path / "evaluation.parquet"
    scored(path)
    content = metric.read_text()
    metric.unlink()
    assert metric_files.part() == "" and kept(path) == 2, "a folder that was copied without its metric"
    scored(path)
    metric.write_text(content)
    assert metric_files.changed(sources_in(path)) == ["coverage"] and kept(path) == 0


def test_a_metric_in_several_files_is_all_of_them(metric: Path) -> None:
    folder = metric.with_suffix("")
    folder.mkdir()
    metric.rename(folder / "__init__.py")
    (folder / "part.py").write_text("A = 1\n")
    before = own_metrics.fingerprints()
    assert list(before) == ["coverage"] and own_metrics.fingerprints() == before
    (folder / "part.py").write_text("A = 2\n")
    assert own_metrics.fingerprints() != before
