"""Links and modules that README, docs and CONTRIBUTING name are there; their commands: test_documented_commands.py."""

import importlib.util
import re
from pathlib import Path

import pytest

from tests import documents
from tests.documents import PAGES

LINK = re.compile(r"\]\((?!https?://)([^)#]*)(?:#([^)]+))?\)")


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of ``page``."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_modules_that_are_run_are_there():
    """Of the commands that take too long to be run by the tests."""
    named = [re.match(r"python -m ([\w.]+)", command.line) for command in documents.commands()]
    modules = {match[1] for match in named if match}
    assert len(modules) > 8 and all(importlib.util.find_spec(module) for module in modules)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_link_leads_somewhere(page):
    for path, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {path}"
        if anchor:
            assert anchor in anchors(target), f"{page.name}: {path}#{anchor}"
