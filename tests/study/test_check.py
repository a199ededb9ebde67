"""``clevrtune check``: a line per promise, of a model and of a metric."""

import pytest

from study import check, command_line
from tests import own_folder


@pytest.fixture(autouse=True)
def _kept_out():
    with own_folder.kept_out():
        yield


def test_the_examples_of_contributing_keep_all_promises(tmp_path, capsys):
    mine = own_folder.write(tmp_path, *own_folder.MODEL, own_folder.METRIC)
    assert command_line.clevrtune(["check", "colour_field", "--plugins", str(mine)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == "colour_field keeps all 17 promises" and len(printed) == 18
    assert all(line.startswith("ok      ") for line in printed[:-1])
    assert check.main(["coverage", "--plugins", str(mine)]) == 0
    assert "coverage keeps all 4 promises" in capsys.readouterr().out


def test_a_broken_promise_is_a_line_and_status_2(tmp_path, capsys):
    mine = own_folder.write(tmp_path, *own_folder.MODEL, own_folder.METRIC)
    metric = mine / own_folder.METRIC
    metric.write_text(metric.read_text().replace("covered / ", "covered.mean() / "))
    assert check.main(["coverage", "--plugins", str(mine)]) == 2
    printed = capsys.readouterr()
    assert "broken  an image's score does not depend on the others: the same images score" in printed.out
    assert printed.err == "error: coverage breaks 1 of the 4 promises looked at\n"
    model = mine / own_folder.MODEL[0]
    model.write_text("import no_such_library\n")
    assert check.main(["colour_field", "--plugins", str(mine)]) == 2
    printed = capsys.readouterr()
    assert "ModuleNotFoundError: No module named 'no_such_library'" in printed.out
    assert printed.err == "error: colour_field breaks 1 of the 1 promises looked at\n", "the others would say the same"


def test_half_a_model_and_an_unknown_name_are_one_line(tmp_path, capsys):
    mine = own_folder.write(tmp_path, own_folder.MODEL[0])
    assert check.main(["colour_field", "--plugins", str(mine)]) == 2
    assert (
        "trainables/colour_field.py is there, and search_spaces/colour_field.py is missing" in capsys.readouterr().err
    )
    assert check.main(["spaces"]) == 2
    assert capsys.readouterr().err.startswith("error: model 'spaces' is unknown; did you mean space")
    assert check.main(["colour_field", "--plugins", str(tmp_path / "nowhere")]) == 2
    assert "there is no such folder" in capsys.readouterr().err
