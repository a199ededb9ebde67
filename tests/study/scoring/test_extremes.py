"""The worst, middling and best images, and their pictures."""

import math

import numpy as np

from study.scoring import extremes
from tests.study.scoring.test_objects import Scenes, predicted
from trainables.pictures import OBJECTS


def test_images_are_chosen_by_score_and_each_once() -> None:
    scores = np.array([0.9, math.nan, *np.linspace(0.1, 0.8, 15)])
    chosen = extremes.choose(scores)
    rows = {kind: [row for name, row in chosen if name == kind] for kind in ("worst", "median", "best")}
    assert rows == {"worst": [2, 3, 4], "median": [8, 9, 10], "best": [0, 16, 15]}
    assert [kind for kind, _ in chosen] == ["worst"] * 3 + ["median"] * 3 + ["best"] * 3
    few = extremes.choose(np.array([0.3, 0.1]))
    assert few == [("worst", 1), ("worst", 0)] and extremes.choose(np.array([math.nan])) == []


def test_a_picture_says_what_it_shows() -> None:
    scores = {"mIoU_fg": np.array([0.5, math.nan, 0.25]), "MSE": np.array([7.0, 300.0, 8.0])}
    png = extremes.picture(Scenes(), scores, predicted())  # type: ignore[arg-type]
    assert png is not None
    shown = extremes.read(png)
    assert [(one.metric, one.kind, one.image, one.score) for one, _ in shown] == [
        *[("mIoU_fg", "worst", 9, 0.25), ("mIoU_fg", "worst", 7, 0.5)],
        *[("MSE", "worst", 8, 300.0), ("MSE", "worst", 9, 8.0), ("MSE", "worst", 7, 7.0)],
    ], "a large error is a bad one"
    assert [cell.tobytes() for cell in shown[0][1]] == [cell.tobytes() for cell in shown[3][1]], "the same image"
    cells = shown[0][1]
    assert len(cells) == 3 and len({cell.size for cell in cells}) == 1 and cells[0].width >= 100
    assert cells[0].getextrema() == ((0, 0),) * 3, "the input is black"
    colours = {colour for _, colour in cells[1].getcolors()}
    assert OBJECTS[0] in colours, "the outline has the segment's colour"
    assert tuple(value // 2 for value in OBJECTS[2]) in colours, "the inside is mixed with the image"
    undefined = {"mIoU_fg": np.full(3, math.nan)}
    assert extremes.picture(Scenes(), undefined, predicted()) is None  # type: ignore[arg-type]


def test_the_inside_is_shaded_and_the_ground_is_not() -> None:
    image = np.full((6, 6, 3), 100, np.uint8)
    labels = np.zeros((6, 6), int)
    labels[0:4, 0:4] = 1
    shaded = extremes.overlay(image, labels)
    assert shaded[5, 5].tolist() == [100, 100, 100] and shaded[0, 0].tolist() != [100, 100, 100]
    half = [int(0.5 * part + 50) for part in OBJECTS[0]]
    assert shaded[1, 1].tolist() == half and shaded[3, 1].tolist() == shaded[1, 3].tolist() == list(OBJECTS[0])
