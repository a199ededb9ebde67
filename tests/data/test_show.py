import collections
import json
import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data import show
from data.convert import prepare
from data.spec import parse
from tests.data import toy
from tests.data.sources.published import ROOT

SPEC = parse("clevrtex:full-crop-(64,64)")


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """The index, and the folder with the picture and the page of its training split."""
    folder = tmp_path_factory.mktemp("show")
    index = prepare(SPEC, root=str(ROOT), cache=str(folder / "cache"))
    assert show.show(index, "train", folder / "out") == folder / "out" / show.PAGE
    return index, folder / "out"


def files():
    """Descriptions, and label maps at 64 x 64, of the training split, from the files themselves."""
    nearest = np.floor((np.arange(64) + 0.5) * 3).astype(int)
    for number in range(2, 12):
        stem = ROOT / "clevrtex_full/0" / f"CLEVRTEX_full_{number:06d}"
        mask = np.array(Image.open(f"{stem}_flat.png"))[24 + nearest][:, 64 + nearest]
        yield json.loads(Path(f"{stem}.json").read_text()), mask


def text_of(page):
    """The page's text; cells are separated by a bar."""
    page = re.sub(r"<style>.*?</style>", "", page.read_text(), flags=re.DOTALL)
    return unescape(re.sub(r"<[^>]+>", "", page.replace("</td>", "|").replace("</tr>", "\n").replace("<h2>", "\n")))


def test_statistics_are_those_of_the_files(shown):
    """Counted here in another way."""
    text = text_of(shown[1] / show.PAGE)
    scenes = list(files())
    objects = sum(scene["num_objects"] for scene, _ in scenes)
    lost = [scene["num_objects"] - len(set(np.unique(mask)) - {0}) for scene, mask in scenes]
    assert sum(lost) > 0
    assert f"{objects} objects; {sum(lost)} ({100 * sum(lost) / objects:.2g} %) have no pixel after the crop" in text
    assert f"in {sum(map(bool, lost))} images" in text and "10 images of 64 x 64 pixels" in text
    background = np.mean([(mask == 0).mean() for _, mask in scenes])
    assert f"background|{100 * background:.3g} %|" in text
    shares = [(mask == label).mean() for _, mask in scenes for label in np.unique(mask) if label]
    for low, high, name in ((0.01, 0.03, "1 % to 3 %"), (0.03, 0.1, "3 % to 10 %"), (0.1, 1, "10 % to 100 %")):
        assert f"\n{name}|{sum(low <= share < high for share in shares)}|" in text
    for counts, heading in (
        (collections.Counter(scene["num_objects"] for scene, _ in scenes), "Images by objects described"),
        (collections.Counter(len(set(np.unique(mask)) - {0}) for _, mask in scenes), "Images by objects visible"),
        (collections.Counter(thing["shape"] for scene, _ in scenes for thing in scene["objects"]), "Objects by shape"),
        (collections.Counter(scene["ground_material"] for scene, _ in scenes), "Images by ground material"),
    ):
        section = text[text.index(heading) :].split("\n\n")[0]
        assert all(re.search(rf"^.*{name}\|{count}\|", section, re.MULTILINE) for name, count in counts.items())
    assert "color" not in text, "which a material hides"
    assert "lacks the images" in text, "warnings are shown, too"


def test_the_sheet_shows_images_and_masks_side_by_side(shown):
    sheet = np.array(Image.open(shown[1] / show.SHEET))
    image, label, _ = next((image, label, 0) for image, label in zip(*rows(shown[0]), strict=True))
    gap, side = 16, 128
    assert np.array_equal(sheet[gap : gap + side : 2, gap : gap + side : 2], image)
    mask = sheet[gap : gap + side : 2, gap + side + 4 : gap + 2 * side + 4 : 2]
    assert np.array_equal(mask, np.array([show.colour(each) for each in range(11)])[label])
    assert len({show.colour(each) for each in range(16)}) == 16


def rows(index):
    (shard,) = index.shards("train")
    table = index.read(shard)
    return [table.column(name).chunks[0].to_numpy_ndarray() for name in ("image", "label")]


@pytest.mark.parametrize("number", [1, 3, 10, 99])
def test_a_sheet_of_some_images_spread_over_the_split(shown, number, tmp_path, monkeypatch):
    cells, cell = [], show._cell
    monkeypatch.setattr(show, "_cell", lambda *scene: cells.append(scene[2]["index"]) or cell(*scene))
    show.show(shown[0], "all", tmp_path, number)  # three shards
    assert len(cells) == min(number, 12) and cells == sorted(set(cells)) and cells[0] == 0
    assert cells[-1] == 11 or number == 1


def test_all_data_sets_can_be_shown(tmp_path, monkeypatch):
    """One without materials, too; and text of a data set is text on the page."""
    toy.add(tmp_path, monkeypatch)
    index = prepare(parse(f"{toy.NAME}-(16,16)"), cache=str(tmp_path / "cache"))
    page = show.show(index, "all", tmp_path / "out", 3)
    assert "280 images of 16 x 16" in text_of(page) and "square|280|" in text_of(page)


def run(*arguments, cwd):
    script = Path(show.__file__)
    return subprocess.run([sys.executable, script, *arguments], cwd=cwd, capture_output=True, text=True)


def test_command_line(tmp_path):
    arguments = [str(SPEC), "--data-root", str(ROOT), "--cache", str(tmp_path / "cache")]
    done = run(*arguments, "--split", "camo", "--out", "out", cwd=tmp_path)
    assert done.returncode == 0 and done.stdout == "out/index.html\n"
    assert text_of(tmp_path / "out/index.html").startswith("\nclevrtex:camo-crop-(64,64), all")
    assert Image.open(tmp_path / "out/sheet.png").width > 512
    for wrong, said in (
        (["--split", "camoo"], "--split camoo is not there; there are test, val, train, all, outd, camo"),
        (["--split", "pbg"], "--split pbg is not there"),
        (["--images", "0"], "--images 0 must be above zero"),
        (["--out", str(ROOT / "clevrtex_full/0/CLEVRTEX_full_000000.png")], "cannot be written"),
        (["--data-root", "s3://bucket"], "is not on a disk"),
    ):
        done = run(*arguments, *wrong, cwd=tmp_path)
        assert done.returncode == 2 and said in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr


def test_names_are_text():
    assert "<td>a &lt;b&gt;</td><td>1</td>" in show._table([("a <b>", 1)])


def test_an_object_without_a_description_is_called_by_its_number(monkeypatch):
    said = []
    monkeypatch.setattr(show.ImageDraw.ImageDraw, "text", lambda self, where, text, *rest: said.append(text))
    nothing = dict.fromkeys(("shape", "size", "material", "color"))
    label = np.array([[0, 1], [1, 1]], np.uint8)
    scene = {"index": 7, "ground_material": None, "objects": [nothing, {**nothing, "shape": "cube"}, nothing]}
    show._cell(np.zeros((2, 2, 3), np.uint8), label, scene)
    assert said[1:] == ["object 1", "cube (not visible)", "object 3 (not visible)"]
