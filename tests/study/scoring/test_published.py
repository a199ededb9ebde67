"""Published numbers: as the table has them, and shown where they can be compared only."""

from typing import Any

import pytest

import trainables
from data import source
from study.scoring import published
from study.scoring.leaderboard import Row

BENCHMARK = "clevrtex:full-crop-(128,128)"


def record(spec: str = BENCHMARK, model: str = "slot_attention", **data: Any) -> dict[str, Any]:
    return {"config": {"model": model, "data": spec}, "data": {"spec": spec, "incomplete": False, **data}}


def row(split: str, mean: float, entry: str = "trial 3") -> Row:
    means = {"mIoU_fg": mean, "ARI_FG": 0.6, "MSE": 260.0}
    return Row(entry, "trial", split, 10, 0, means)


def test_they_stand_beside_the_entry_split_by_split() -> None:
    rows = [row("test", 0.25), row("outd", 0.1), row("camo", 0.2), row("test", 0.9, "trial 4")]
    found, why = published.beside(record(), rows, "trial 3")
    assert why == "" and len(found) == 9
    first = found[0]
    assert (first.split, first.metric, first.mean, first.std) == ("test", "mIoU_fg", 22.58, 2.07)
    assert first.ours == 25.0 and first.within is True and first.status == published.UNCONFIRMED
    assert next(one.within for one in found if one.split == "outd") is False, "10.0 is below 20.98 - 2 x 1.59"
    assert [one.ours for one in found if one.metric == "MSE"] == [260.0] * 3


@pytest.mark.parametrize(
    ("wrong", "because"),
    [
        (record("synthetic:0.2-(128,128)"), "published numbers are for clevrtex:full-crop-"),
        (record("clevrtex:full-crop-(64,64)"), "this study is on clevrtex:full-crop-(64,64)"),
        (record("clevrtex:full-(128,128)"), "this study is on clevrtex:full-(128,128)"),
        (record("clevrtex:pbg-crop-(128,128)"), "this study is on clevrtex:pbg-crop-(128,128)"),
        (record(incomplete=True), "some are missing here"),
        (record(model="toy"), "no published numbers of toy"),
        (record("unheard-of"), "this study is on unheard-of"),
    ],
)
def test_otherwise_one_line_says_why_not(wrong: dict[str, Any], because: str) -> None:
    found, why = published.beside(wrong, [row("test", 0.2)], "trial 3")
    assert found == [] and because in why and "\n" not in why


def test_the_table_has_each_model_and_metric_once() -> None:
    stored = published._stored()
    keys = [tuple(line[:3]) for line in stored["results"]]
    assert len(set(keys)) == len(keys) == 4 * 10 * 3
    assert {model for _, model, _ in keys} == set(trainables.names())
    assert {line[5] for line in stored["results"]} == {published.UNCONFIRMED}
    names = {name.partition(":")[0] for name in stored["tables"]}
    assert "clevrtex" in names & set(source.names())


def test_a_split_that_was_added_in_part_has_no_published_numbers_beside_it() -> None:
    about = record() | {"added": {"camo": {"spec": "clevrtex:camo", "split": "camo", "incomplete": True}}}
    found, _ = published.beside(about, [row("test", 0.25), row("camo", 0.2)], "trial 3")
    assert {one.split for one in found} == {"test"}
