"""What --metric can name."""

import pytest

from trainables.objectives import COSTS, DIRECTIONS, OBJECTIVES, goals


def test_one_goal_or_two_of_which_the_first_is_a_score():
    assert goals("MSE") == ("MSE",) and goals("mIoU_fg, seconds") == ("mIoU_fg", "seconds")
    assert goals("loss,ARI_FG") == ("loss", "ARI_FG")
    assert DIRECTIONS.keys() == OBJECTIVES.keys() | COSTS.keys() and set(COSTS.values()) == {"min"}


@pytest.mark.parametrize(
    ("metric", "says"),
    [
        ("", "'' is unknown; choose one of mIoU_fg, ARI_FG, MSE, loss"),
        ("mIoU", "'mIoU' is unknown"),
        ("mIoU_fg,speed", "choose one of mIoU_fg, ARI_FG, MSE, loss, seconds, parameters"),
        ("mIoU_fg,", "'' is unknown"),
        ("mIoU_fg,MSE,seconds", "names 3 goals; give one, or two such as mIoU_fg,seconds"),
        ("MSE,MSE", "names MSE twice"),
        ("seconds", "put a score first, as in mIoU_fg,seconds"),
        ("parameters,mIoU_fg", "put a score first, as in mIoU_fg,parameters"),
    ],
)
def test_everything_else_is_refused_in_one_line(metric, says):
    with pytest.raises(ValueError) as caught:
        goals(metric)
    assert says in str(caught.value) and "\n" not in str(caught.value)
