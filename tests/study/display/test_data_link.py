from pathlib import Path

from study.display.data_link import data_link

RECORD = {
    "study": {"name": "one"},
    "config": {"data": "clevrtex:full"},
    "data": {"spec": "clevrtex:full-crop-(128,128)"},
}


def test_the_sheet_is_linked_once_it_is_there_and_until_then_the_command_is_said(tmp_path: Path) -> None:
    said = data_link(tmp_path, RECORD)
    assert "python data/show.py &#x27;clevrtex:full-crop-(128,128)&#x27; --out results/one/data" in said
    assert "href" not in said and "clevrtex:full " in data_link(tmp_path, {"config": RECORD["config"]})
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "index.html").touch()
    assert '<a href="data/index.html">contact sheet and statistics of clevrtex:full-crop-(128,128)</a>' in data_link(
        tmp_path, RECORD
    )
