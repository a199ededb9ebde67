"""The verb that segments pictures from anywhere with the best model of a study."""

import dataclasses
import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import trainables
from data.sources import images
from data.spec import parse
from study import predict
from study.scoring.evaluation import load_best
from study.scoring.prediction import read_picture

SIZE = 32


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study's folder with the best model as export_best leaves it: MONet, untrained."""
    folder = tmp_path_factory.mktemp("results") / "slots"
    (folder / "best").mkdir(parents=True)
    torch.manual_seed(0)
    values = {**importlib.import_module("search_spaces.monet").TINY, "steps": 10}
    model = trainables.build("monet", values, SIZE)
    config = {"model": "monet", "image_size": SIZE, "hyperparameters": dataclasses.asdict(model.config), "step": 10}
    (folder / "best" / "monet.json").write_text(json.dumps(config))
    weights = {name: tensor.contiguous().clone() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / "best" / "monet.safetensors")
    (folder / "study.json").write_text(json.dumps({"config": {"data": f"synthetic-({SIZE},{SIZE})"}}))
    return folder


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with a picture of each kind that people have, and a file that is none."""
    folder, rng = tmp_path / "pictures", np.random.default_rng(0)
    (folder / "more").mkdir(parents=True)
    colours = rng.integers(0, 256, (60, 90, 4), np.uint8)
    Image.fromarray(colours[..., :3]).save(folder / "wide.png")
    Image.fromarray(colours[..., :3]).save(folder / "photo.jpg")
    Image.fromarray(colours).save(folder / "transparent.png")
    Image.fromarray(colours[..., 0]).save(folder / "grey.png")
    Image.fromarray(colours[..., :3]).quantize(16).save(folder / "palette.png")
    Image.fromarray(colours[..., 0].astype(np.uint16) * 257).save(folder / "sixteen.png")
    Image.fromarray(colours[:7, :5, :3]).save(folder / "more" / "wide.png")
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_every_kind_of_picture_gets_labels_an_overlay_and_a_row(study, pictures, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    assert predict.main([str(study), str(pictures), str(pictures / "more" / "wide.png"), "--out", str(out)]) == 0
    stems = {"wide", "wide_2", "photo", "transparent", "grey", "palette", "sixteen"}
    kinds = {f"{stem}_{kind}.png" for stem in stems for kind in ("labels", "overlay")}
    assert {path.name for path in out.iterdir()} == kinds | {"contact_sheet.png"}
    assert "7 pictures" in capsys.readouterr().out
    seen = np.array(read_picture(pictures / "grey.png", parse("synthetic"), SIZE))
    masks = load_best(study)(torch.as_tensor(seen).permute(2, 0, 1)[None] / 255, step=10).masks
    with Image.open(out / "grey_labels.png") as labels:
        assert labels.mode == "P"
        np.testing.assert_array_equal(np.asarray(labels), masks.argmax(1)[0, 0].numpy())
    with Image.open(out / "contact_sheet.png") as sheet:
        assert sheet.height > 7 * 128


def test_sixteen_bits_are_the_same_picture_as_eight(pictures) -> None:
    spec = parse("synthetic")
    np.testing.assert_array_equal(
        read_picture(pictures / "sixteen.png", spec, SIZE), read_picture(pictures / "grey.png", spec, SIZE)
    )


def test_a_picture_is_cropped_as_the_study_cropped_its_own() -> None:
    scenes = sorted(Path(__file__).parents[1].glob("data/clevrtex/**/CLEVRTEX_full_000000.png"))
    source = parse("clevrtex:full-crop-(128,128)").source
    with Image.open(scenes[0]) as opened:
        picture = opened.convert("RGB")
    left, upper = (picture.width - int(0.8 * picture.height)) // 2, (picture.height - int(0.8 * picture.height)) // 2
    square = picture.crop((left, upper, picture.width - left, picture.height - upper))
    expected = np.asarray(square.resize((128, 128), Image.Resampling.BILINEAR))
    assert source.takes_crop
    np.testing.assert_array_equal(read_picture(scenes[0], parse("clevrtex:full-crop"), 128), expected)


@pytest.mark.parametrize("crop", ["", "-crop"])
def test_ones_own_picture_is_seen_as_in_training(crop, tmp_path) -> None:
    wide = np.random.default_rng(0).integers(0, 256, (64, 160, 3), np.uint8)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    trained, _ = images.read(images.Picture(tmp_path / "wide.png", None), 10, bool(crop), (SIZE, SIZE))
    np.testing.assert_array_equal(read_picture(tmp_path / "wide.png", parse(f"images{crop}"), SIZE), trained)


@pytest.mark.parametrize(
    ("picture", "named"),
    [("notes.txt", "no picture"), ("absent.png", "absent.png"), ("empty", "no picture there"), ("cut.png", "cut.png")],
)
def test_what_is_no_picture_is_one_line(picture, named, study, pictures, tmp_path, capsys) -> None:
    (pictures / "empty").mkdir()
    (pictures / "cut.png").write_bytes((pictures / "wide.png").read_bytes()[:200])
    assert predict.main([str(study), str(pictures / picture), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and named in error


def test_a_folder_without_a_best_model_is_one_line(tmp_path, pictures, capsys) -> None:
    (tmp_path / "study.json").write_text(json.dumps({"config": {"data": "synthetic"}}))
    assert predict.main([str(tmp_path), str(pictures), "--out", str(tmp_path / "out")]) == 2
    assert "no best model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("image", "named"),
    [
        (torch.rand(1, 3, SIZE, SIZE) * 255, r"divide 8-bit images by 255"),
        (torch.zeros(1, 3, SIZE, SIZE, dtype=torch.uint8), "uint8"),
        (torch.rand(1, 3, 64, 64), "64"),
        (torch.rand(3, SIZE, SIZE), "32"),
        (torch.full((1, 3, SIZE, SIZE), float("nan")), "nan"),
        (np.zeros((1, 3, SIZE, SIZE), np.float32), "ndarray"),
    ],
)
def test_the_best_model_says_what_it_cannot_see(image, named, study) -> None:
    with pytest.raises(ValueError, match=named):
        load_best(study)(image, step=0)


@pytest.mark.parametrize("inside", ["", "best"])
def test_the_best_model_comes_from_the_study_or_its_folder_and_gives_no_gradients(inside, study) -> None:
    model = load_best(study / inside)
    assert not model.training and not any(parameter.requires_grad for parameter in model.parameters())
    assert not model(torch.rand(1, 3, SIZE, SIZE), step=0).masks.requires_grad
