import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest

from data import convert, source
from data.final_splits import final_splits
from data.source import MissingDataset
from data.spec import parse
from tests.data import toy

READER = """
from pathlib import Path

import numpy as np

from data.scenes import Scenes
from data.source import DataSource, FinalSplit, Found, MissingDataset


class Source(DataSource):
    variants = ("full", "small")
    aliases = ("quads",)
    takes_crop = True
    final_splits = (FinalSplit("outd", "all", "small"), FinalSplit("camo", "test", "small"))

    def variant(self, text):
        return super().variant({"f": "full"}.get(text, text))

    def max_objects(self, variant):
        return 1 if variant == "small" else 2

    def counts(self, variant):
        return {"train": 3, "val": 1, "test": 1} if variant == "full" else {}

    def find(self, variant, root):
        path = Path(root, self.folder(variant), "levels.txt")
        if not path.exists():
            raise MissingDataset(f"{path} is missing")
        levels = [int(line) for line in path.read_text().split()]

        def scenes(split, crop, size):
            first = ["test", "val", "train"].index(split)
            chosen = np.array(levels[first : first + 1] if split != "train" else levels[2:], np.uint8)
            images = np.broadcast_to(chosen[:, None, None, None], (len(chosen), *size, 3)) + np.uint8(crop)
            scene = {"ground_material": None, "objects": []}
            yield Scenes(np.arange(len(chosen)), images, images[..., 0] * 0, [scene] * len(chosen))

        counts = {"test": 1, "val": 1, "train": len(levels) - 2}
        return Found(f"sum{sum(levels)}", counts, scenes, {"image": "none"}, ["made up"])
"""
"""Published files, two variants of which one has an official count, another name, and a crop of its own."""


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """The data set above, found by its name, and its files."""
    toy.add(tmp_path, monkeypatch, READER)
    for variant in ("full", "small"):
        (tmp_path / f"{toy.NAME}_{variant}").mkdir()
        (tmp_path / f"{toy.NAME}_{variant}" / "levels.txt").write_text("1 2 3 4")
    return tmp_path


def test_the_data_sets_that_there_are():
    assert {"clevrtex", "synthetic"} <= set(source.names()) and "textures" not in source.names()
    assert source.DEFAULT in source.names()
    assert [source.load(name).name for name in source.names()] == source.names()


def test_a_file_is_a_data_set(tmp_path, monkeypatch):
    before = source.names()
    toy.add(tmp_path, monkeypatch)
    assert source.names() == sorted([*before, "squares"])
    assert source.load("squares").name == "squares"


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("square", "did you mean squares or quads?"),
        ("clevertex", "did you mean clevrtex or clevr or clevr6?"),
        ("mnist", "there are NAMES"),
    ],
)
def test_an_unknown_name(reader, name, remedy):
    with pytest.raises(
        ValueError,
        match="^"
        + re.escape(f"data set '{name}' is unknown; {remedy}".replace("NAMES", ", ".join(source.names())))
        + "$",
    ):
        source.load(name)


@pytest.mark.parametrize("root", ["s3://bucket/squares", "gs://b", "https://example.org/squares.tar"])
def test_a_root_that_is_on_no_disk(reader, root):
    """Said for all data sets in one place, so that none answers that s3:/bucket does not exist."""
    with pytest.raises(ValueError, match=f"--data-root {root} is not on a disk; .*copy it .*--cache") as error:
        convert.prepare(parse("squares-(8,8)"), root=root, cache=str(reader / "cache"))
    assert "\n" not in str(error.value)


def test_damaged_files_are_named_and_counted():
    one = source.Damaged([("a.png", "is damaged (it is no PNG)")], "unpack it again")
    assert isinstance(one, ValueError) and str(one) == "a.png is damaged (it is no PNG); unpack it again"
    many = pickle.loads(pickle.dumps(source.Damaged([(f"{i}.png", "is missing") for i in range(1001)], "look")))
    assert str(many) == "0.png is missing (and 1,000 more files are not in order); look"
    assert len(many.files) == 1001 and many.sound is None


def test_names_and_variants_have_other_spellings(reader):
    """What is stored and printed is the canonical one."""
    assert str(parse("quads:f-c-(8,8)")) == "squares:full-crop-(8,8)"
    with pytest.raises(ValueError, match="variant 'g' is unknown; squares has full, small"):
        parse("squares:g")


def test_facts_may_depend_on_the_variant(reader):
    assert [parse(f"squares:{variant}").max_objects for variant in ("full", "small")] == [2, 1]
    with pytest.raises(ValueError, match="plan with squares:full, the largest"):
        parse("squares:small").official_counts()


def test_a_data_set_without_variants(tmp_path, monkeypatch):
    toy.add(tmp_path, monkeypatch)
    assert str(parse("squares-(8,8)")) == "squares-(8,8)" and parse("squares:") == parse("squares")
    with pytest.raises(ValueError, match="variant 'x' is unknown; squares has no variants"):
        parse("squares:x")
    with pytest.raises(ValueError, match="plan with a data set of about its size"):
        parse("squares").official_counts()
    index = convert.prepare(parse("squares-(8,8)"), cache=str(tmp_path / "cache"))
    assert Path(index.folder).name == "squares-8x8-v1" and not index.incomplete and not index.warnings


def test_what_a_source_says_reaches_the_index(reader):
    cache = str(reader / "cache")
    index = convert.prepare(parse("squares-crop-(8,8)"), root=str(reader), cache=cache)
    assert Path(index.folder).name == "squares-full-crop-8x8-sum10"
    assert index.crop and index.filters == {"image": "none"} and index.incomplete
    assert index.warnings[0] == "made up" and "4 of the 5 published images" in index.warnings[1]
    table = index.read(index.shards("train")[0])
    assert [image.flat[0] for image in table.column("image").chunk(0).to_numpy_ndarray()] == [4, 5]  # cropped
    small = convert.prepare(parse("squares:small-(8,8)"), root=str(reader), cache=cache)
    assert small.warnings == ["made up"] and not small.incomplete


def test_final_splits_of_a_complete_variant(reader):
    """``small`` has no official count, so all of it is there: what was asked for is scored, and nothing is said."""
    spec, places = parse("squares-(8,8)"), {"root": str(reader), "cache": str(reader / "cache")}
    found, notices = final_splits(spec, convert.prepare(spec, **places), **places)
    assert {name: (index.spec, split) for name, (index, split) in found.items()} == {
        "outd": ("squares:small-(8,8)", "all"),
        "camo": ("squares:small-(8,8)", "test"),
    }
    assert notices == []


def test_missing_files_and_the_cache_alone(reader):
    spec, cache = parse("squares-(8,8)"), str(reader / "cache")
    with pytest.raises(MissingDataset, match=r"not in .*; give --data-root the folder that holds squares_full"):
        convert.prepare(spec, cache=cache)
    with pytest.raises(MissingDataset, match=r"levels\.txt is missing"):
        convert.prepare(spec, root=str(reader / "nowhere"), cache=cache)
    index = convert.prepare(spec, root=str(reader), cache=cache)
    assert convert.prepare(spec, cache=cache) == index


STUDY = """
import sys
from data import sources
sources.__path__.append(sys.argv.pop(1))
from study import run
sys.exit(run.main())
"""


@pytest.mark.ray
def test_a_study_runs_by_the_name_alone(tmp_path):
    """The real command, and nothing else of ours knows the toy."""
    (tmp_path / f"{toy.NAME}.py").write_text(toy.code())
    arguments = ["--model", "slot_attention", "--data", toy.NAME, "--trials", "2", "--preset", "tiny"]
    arguments += ["--finalists", "1", "--seeds", "1"]
    arguments += ["--steps", "4", "--reports", "3", "--results", str(tmp_path / "results"), "--cache", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-c", STUDY, str(tmp_path), *arguments], capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = (tmp_path / "results").iterdir()
    assert folder.name == "slot_attention-squares-tiny" and (folder / "report.html").exists()
    assert (tmp_path / "squares-32x32-v1").is_dir()
