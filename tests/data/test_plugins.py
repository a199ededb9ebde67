"""Folders of one's own: what is found in them, what is refused, and that metrics of them are computed."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import trainables
from data import convert, plugins, show, source, verify
from study.scoring.diagnosis import FIGURES
from study.scoring.image_scores import OBJECTS
from tests import own_folder
from trainables import contract, metric_contract, metrics, objectives, own_metrics
from trainables.contract import Broken, Candidate
from trainables.scoring import evaluate


@pytest.fixture(autouse=True)
def _kept_out():
    with own_folder.kept_out():
        yield


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return own_folder.write(tmp_path / "mine", *own_folder.MODEL, own_folder.METRIC, "data/sources/squares.py")


def test_models_data_sets_and_metrics_of_a_folder_are_found_here_and_in_what_is_started(mine, monkeypatch):
    monkeypatch.chdir(mine.parent)
    assert plugins.use("mine") == str(mine)
    assert "colour_field" in trainables.names() and "squares" in source.names()
    assert objectives.goals("coverage") == ("coverage",) and objectives.goals("ARI_FG,coverage")[1] == "coverage"
    assert objectives.direction("coverage") == "max" and objectives.direction("MSE") == "min"
    asked = "import trainables; from data import source; print(*trainables.names(), *source.names())"
    path = os.pathsep.join([str(own_folder.ROOT), os.environ["PYTHONPATH"]])  # as Ray's workers have it
    environment = {**os.environ, "PYTHONPATH": path}
    child = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True, env=environment)
    assert {"colour_field", "squares"} <= set(child.stdout.split())
    assert plugins.used() == [mine]
    monkeypatch.setenv("PYTHONPATH", "mine")  # which a node with another current folder could not find
    assert plugins.used() == [mine]
    plugins.use(mine)
    assert sys.path.count(str(mine)) == os.environ["PYTHONPATH"].split(os.pathsep).count(str(mine)) == 1


def test_a_folder_without_files_or_with_a_name_of_ours_is_refused(tmp_path):
    with pytest.raises(ValueError, match="nowhere: there is no such folder"):
        plugins.use(tmp_path / "nowhere")
    (tmp_path / "trainables").mkdir()
    (tmp_path / "trainables" / "__init__.py").touch()
    with pytest.raises(ValueError, match=r"holds no file of yours; give a folder with trainables/NAME.py"):
        plugins.use(tmp_path)
    (tmp_path / "trainables" / "space.py").touch()  # ours is a package
    with pytest.raises(ValueError, match=r"trainables/space.py has a name of ours"):
        plugins.use(tmp_path)
    assert str(tmp_path) not in sys.path


def test_an_unknown_metric_is_answered_with_those_there_are(mine):
    with pytest.raises(ValueError, match=r"'coverage' is unknown; choose one of mIoU_fg, ARI_FG, MSE, loss$"):
        objectives.goals("coverage")
    with pytest.raises(ValueError, match="metric 'coverage' is unknown here; name the folder"):
        objectives.direction("coverage")
    plugins.use(mine)
    with pytest.raises(ValueError, match="'cover' is unknown; choose one of mIoU_fg, ARI_FG, MSE, loss, coverage"):
        objectives.goals("cover")


def test_validation_computes_a_metric_of_ones_own(mine):
    plugins.use(mine)
    split = contract.scenes(5, 32)
    scores = evaluate(Candidate("colour_field", {"num_slots": 6}).build(), split, np.arange(5), step=0)
    assert scores["coverage"].shape == (5,) and (0 <= scores["coverage"]).all() and (scores["coverage"] <= 1).all()
    _, true = split.gather(np.arange(5))
    half = np.where(np.arange(32) < 16, true, 0)
    expected = [(one[:, :16] > 0).sum() / (one > 0).sum() for one in true]
    image = torch.zeros(5, 3, 32, 32)
    assert own_metrics.scores(torch.as_tensor(half), true, image, image)["coverage"] == pytest.approx(expected)


BROKEN_METRICS = [
    ('DIRECTION = "max"', 'DIRECTION = "up"', "file", "DIRECTION is 'up'; write DIRECTION"),
    ("def score(", "def scores(", "file", "has no function score"),
    ("return np", "return 0.5 or np", "numbers", r"score returned \(\) for 6 images"),
    ("np.nan)", "np.inf)", "numbers", "score is infinite for an image"),
    ("covered / ", "covered / covered.max() + covered / ", "alone", "together and"),
    ("    foreground =", "    true[:] = 1\n    foreground =", "arguments", "changes an array"),
]


@pytest.mark.parametrize(("old", "new", "promise", "said"), BROKEN_METRICS)
def test_a_broken_metric_is_noticed(mine, old, new, promise, said):
    path = mine / own_folder.METRIC
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    plugins.use(mine)
    (check,) = (one.check for one in metric_contract.PROMISES if one.name == promise)
    with np.errstate(divide="ignore", invalid="ignore"), pytest.raises((Broken, ValueError), match=said):
        check("coverage")


IDLE = "self.idle = nn.Parameter(torch.ones(3))\n        self.colour = "
BROKEN_MODELS = [
    ("frozen=True", "frozen=False", "config", r"Config must be a @dataclass\(frozen=True\)"),
    ("replicate: bool = False", "more: int = 0", "config", "Config lacks replicate"),
    ("logits.softmax(1)", "logits.sigmoid()", "training", "masks sum to 1 only within"),
    ("return SegmentationOutput(loss", "return SegmentationOutput(loss.detach()", "training", "has no gradient"),
    ("loss = (rec", "loss = torch.log(-1 - masks.sum()) + (rec", "evaluation", "loss is not finite"),
    ("self.colour = ", IDLE, "gradients", "no gradient reaches idle; use it"),
    ('"steps": 500', '"steps": 500, "lr": 1e-9', "learning", r"the squared error is .* raise lr in TINY"),
    ("logits = self", "assert len(image) > 1\n        logits = self", "sizes", "at 32x32: AssertionError"),
    ("noise.normal(logits.shape, logits)", "torch.randn(logits.shape)", "saved", "differ .*trainables.noise only"),
    ("logits.softmax", "(logits * torch.rand(())).softmax", "seed", "differs between two models"),
    (".float()  # (B", "  # (B", "bf16", "under bf16 autocast masks sum to 1 only"),
]


@pytest.mark.parametrize(("old", "new", "promise", "said"), BROKEN_MODELS, ids=[case[2] for case in BROKEN_MODELS])
def test_a_broken_model_is_noticed(mine, old, new, promise, said):
    changed = 0
    for path in own_folder.MODEL:
        text = (mine / path).read_text()
        changed += old in text
        (mine / path).write_text(text.replace(old, new, 1))
    assert changed
    plugins.use(mine)
    space = importlib.import_module("search_spaces.colour_field")
    looked_at = [one for one in contract.PROMISES if one.name == promise]
    ((_, wrong),) = contract.judged(looked_at, Candidate("colour_field", space.TINY))
    assert wrong is not None and re.search(said, wrong), wrong


def test_commands_on_data_know_a_set_of_ones_own(mine, monkeypatch, capsys):
    monkeypatch.chdir(mine.parent)
    own = ["squares-(32,32)", "--cache", "cache", "--plugins", "mine"]
    for command in (convert, verify, show):
        with own_folder.kept_out():
            assert command.main(own[:-2]) == 2, "without the flag"
            assert "squares" in capsys.readouterr().err
            assert command.main([*own[:-1], "nowhere"]) == 2
            assert "--plugins nowhere: there is no such folder" in "".join(capsys.readouterr().err.split("\n"))
            assert command.main(own) == 0, capsys.readouterr().err
    assert (mine.parent / "data-show" / "index.html").is_file()


def test_a_metric_gets_labels_that_it_can_calculate_with(mine):
    """As bytes, ``predicted * 20 + true`` would run over."""
    plugins.use(mine)
    own_metrics.load("coverage").score = lambda predicted, *_: (predicted * 20).max((1, 2))
    labels, image = torch.full((2, 4, 4), 17, dtype=torch.uint8), torch.zeros(2, 3, 4, 4)
    assert own_metrics.scores(labels, labels, image, image)["coverage"].tolist() == [340.0, 340.0]


def test_a_metric_of_ones_own_cannot_have_a_name_that_is_taken(mine):
    plugins.use(mine)
    for name in ("mBO", "seg_found"):
        path = mine / "trainables" / "own_metrics" / f"{name}.py"
        path.write_text((mine / own_folder.METRIC).read_text())
        with pytest.raises(ValueError, match=rf"{name} means something else already; give the file another name"):
            own_metrics.names()
        path.unlink()


def test_the_names_that_are_taken_are_those_of_the_benchmark_and_of_the_files(mine):
    masks, labels, image = np.ones((1, 2, 8, 8)), np.zeros((1, 8, 8), np.int64), np.zeros((1, 3, 8, 8), np.float32)
    assert {*metrics.score(masks, labels, image, image), *objectives.DIRECTIONS} <= own_metrics.TAKEN
    assert {"entry", "trial", "seed", "split", "source", "image", "draws", OBJECTS} <= own_metrics.TAKEN
    assert all(name.startswith("seg_") for name in FIGURES)
