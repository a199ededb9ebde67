"""Scores on a disk that returns other bits."""

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from study.scoring import score_file
from tests.study.results import SCORES, evaluation, with_figures


def text(table: pa.Table) -> str:
    """All of ``table``; NaN equals itself here."""
    return str((table.schema.remove_metadata(), table.to_pydict()))


def test_a_table_comes_back_as_it_was_in_whatever_chunks(tmp_path: Path) -> None:
    table = with_figures(evaluation(SCORES))
    path = tmp_path / "evaluation.parquet"
    score_file.write(table, path)
    assert text(score_file.read(path)) == text(table)
    score_file.write(pa.concat_tables([table.slice(0, 7), table.slice(7)]), path)
    assert text(score_file.read(path)) == text(table)
    score_file.write(score_file.read(path).slice(0, 0), path)
    assert score_file.read(path).num_rows == 0


def test_no_single_bit_gives_other_scores(tmp_path: Path) -> None:
    table = with_figures(evaluation(SCORES))
    path = tmp_path / "evaluation.parquet"
    score_file.write(table, path)
    whole, refused = path.read_bytes(), 0
    for bit in random.Random(0).sample(range(8 * len(whole)), 400):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        try:
            assert text(score_file.read(path)) == text(table), f"bit {bit}"
        except ValueError as error:
            assert f"{path} is damaged; delete it" in str(error)
            refused += 1
    assert refused > 200


def test_a_value_that_is_missing_is_not_zero(tmp_path: Path) -> None:
    for values in ([None, 1], [0, 1]):
        score_file.write(pa.table({"seed": pa.array(values, pa.int64())}), tmp_path / f"{values[0]}.parquet")
    told = [pq.read_schema(tmp_path / f"{name}.parquet").metadata[score_file.KEY] for name in (None, 0)]
    assert told[0] != told[1]


def test_one_of_an_earlier_version_is_taken_as_it_is_and_none_is_missing(tmp_path: Path) -> None:
    table = evaluation(SCORES)
    pq.write_table(table, tmp_path / "old.parquet")
    assert text(score_file.read(tmp_path / "old.parquet")) == text(table)
    with pytest.raises(FileNotFoundError):
        score_file.read(tmp_path / "none.parquet")


@pytest.mark.parametrize("content", [b"", b"damaged", b"PAR1" + bytes(100) + b"PAR1"])
def test_what_is_no_table_is_damaged(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.parquet").write_bytes(content)
    with pytest.raises(ValueError, match="is damaged"):
        score_file.read(tmp_path / "x.parquet")
