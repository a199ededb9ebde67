"""What a study refuses when it has seen the data, before Ray and trials begin."""

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from data import convert
from data.spec import parse
from study import presets, stages
from study.config import StudyConfig
from study.stages import preparing
from trainables import metrics, objectives

SIZE = (32, 32)


@pytest.fixture
def pictures(tmp_path):
    """Twenty pictures without masks."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(20):
        Image.fromarray(rng.integers(0, 256, (*SIZE, 3), np.uint8)).save(folder / f"{number}.png")
    return folder


def asked(pictures, metric):
    where = {"results": str(pictures.parent / "results"), "cache": str(pictures.parent / "cache")}
    words = {"data": "images-(32,32)", "data_root": str(pictures), "preset": "tiny"}
    return StudyConfig(model="space", metric=metric, **words, **where)


@pytest.mark.parametrize("metric", ["mIoU_fg", "ARI_FG", "MSE,ARI_FG"])
def test_a_score_of_objects_needs_masks_and_is_refused_without_leaving_a_folder(metric, pictures):
    with pytest.raises(ValueError, match=f"{metric.split(',')[-1]} cannot be known on images.*--metric MSE") as caught:
        stages.run(asked(pictures, metric), Console(quiet=True))
    assert "\n" not in str(caught.value)
    assert not (pictures.parent / "results").exists() or not [*(pictures.parent / "results").iterdir()]


@pytest.mark.parametrize(("metric", "masks"), [("MSE", 0), ("loss", 0), ("mIoU_fg", 20)])
def test_other_goals_and_images_with_masks_are_let_in(metric, masks, pictures):
    for number in range(masks):
        Image.fromarray(np.eye(*SIZE, dtype=np.uint8)).save(pictures / f"{number}_mask.png")
    study = presets.resolve(asked(pictures, metric), has_gpu=False)
    index = convert.prepare(parse("images-(32,32)"), root=str(pictures), cache=study.config.cache)
    preparing.refuse_without_objects(study, index)


@pytest.mark.parametrize("name", objectives.OBJECTIVES)
def test_the_goals_that_need_objects_are_those_that_are_undefined_without_them(name):
    images = np.zeros((1, 3, *SIZE), np.float32)
    empty = np.zeros((1, *SIZE), np.int64)
    scores = metrics.score(np.ones((1, 2, *SIZE), np.float32), empty, images, images)
    assert name == "loss" or bool(np.isnan(scores[name]).all()) == (name in objectives.OF_OBJECTS)
