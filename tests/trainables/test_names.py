"""Models are found by their names, and a command line that only asks for them does not wait for torch."""

import subprocess
import sys

import pytest

import trainables
from tests.trainables import toy


@pytest.mark.parametrize(("published", "ours"), sorted(trainables.PUBLISHED_NAMES.items()))
def test_published_names_lead_to_ours(published: str, ours: str) -> None:
    assert trainables.resolve(published) == ours != published


def test_an_unknown_model_gets_close_matches_or_the_whole_list() -> None:
    with pytest.raises(ValueError, match="'spaces' is unknown; did you mean space"):
        trainables.build("spaces", {}, 32)
    with pytest.raises(ValueError, match=r"there are .*slot_attention, space"):
        trainables.load("zzz")


def test_an_impossible_image_size_is_refused() -> None:
    with pytest.raises(ValueError, match="image size 0"):
        trainables.build("space", {}, 0)


def test_a_file_in_both_packages_is_a_model() -> None:
    assert "toy" not in trainables.names()
    with toy.findable():
        assert "toy" in trainables.names()
        assert trainables.build("toy", {"lr": 0.5}, 32).config.lr == 0.5
    assert "toy" not in trainables.names()


ASKING = """
import sys, trainables
from trainables import typed_config
from trainables.objectives import OBJECTIVES
assert trainables.resolve("slota") in trainables.names() and OBJECTIVES["mIoU_fg"] == "max"
print(*sorted({"torch", "numpy", "scipy", "ray"} & set(sys.modules)))
"""


def test_names_and_objectives_cost_no_heavy_import() -> None:
    done = subprocess.run([sys.executable, "-c", ASKING], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
