"""The table of parameters in docs/models.md: its numbers change with a preset, and nobody would look."""

import re

import pytest

import trainables
from study import presets
from tests.documents import ROOT

SIZES = {"paper": 128, "tiny": 32}


def table() -> dict[str, tuple[int, int]]:
    """Model -> the first number of its columns, published and tiny."""
    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    section = page.split("## Parameters", 1)[1].split("\n## ", 1)[0]
    rows = re.findall(r"^\| `(\w+)` \| ([\d,]+)[^|]*\| ([\d,]+) \|$", section, re.MULTILINE)
    return {name: (int(paper.replace(",", "")), int(tiny.replace(",", ""))) for name, paper, tiny in rows}


@pytest.mark.parametrize("name", trainables.names())
def test_a_model_has_the_documented_number_of_parameters(name):
    built = (trainables.build(name, presets.preset_values(name, preset), size) for preset, size in SIZES.items())
    assert table()[name] == tuple(sum(p.numel() for p in m.parameters() if p.requires_grad) for m in built)
