"""Commands and links of README, docs and CONTRIBUTING: what they name is there, and every flag is one that we have."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest

from study import command_line, presets

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = re.compile(r"(?:^ {4}|`)(python (?:study|data|-m tests)[^`\n]*)", re.MULTILINE)
"""A command in an indented block, or between backticks."""
LINK = re.compile(r"\]\((?!https?://)([^)#]*)(?:#([^)]+))?\)")


def commands() -> list[tuple[str, str]]:
    """(page, command) of all pages, continued lines joined, without comments."""
    found = []
    for page in PAGES:
        text = re.sub(r" *\\\n +", " ", page.read_text(encoding="utf-8"))
        for command in COMMAND.findall(text):
            found.append((page.name, re.split(r"\s#|\s\|", command)[0].strip()))
    return found


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of ``page``."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def studies_of(words: list[str]) -> list[str] | None:
    """The flags of ``study/run.py`` in a command that runs a study or submits one, else None."""
    if words[1] == "study/run.py":
        return words[2:]
    if words[1] == "study/submit.py" and "--" in words:
        return words[words.index("--") + 1 :]
    return None


def test_there_are_commands_to_check():
    assert len(commands()) > 40
    assert {page for page, _ in commands()} >= {"README.md", "studies.md", "cluster.md", "models.md"}


@pytest.mark.parametrize(("page", "command"), commands(), ids=lambda value: value[:60])
def test_a_command_names_a_script_or_a_module_of_ours(page, command):
    words = shlex.split(command)
    if words[1] == "-m":
        assert importlib.util.find_spec(words[2].rstrip(".,"))
    else:
        assert (ROOT / words[1]).is_file()


@pytest.mark.parametrize(("page", "command"), commands(), ids=lambda value: value[:60])
def test_a_study_can_be_asked_for_in_the_words_of_the_page(page, command, tmp_path, monkeypatch):
    words = [word for word in shlex.split(command.replace("NAME", "space")) if word != "..."]
    flags = studies_of(words)
    if not flags or "--help" in flags or "squares" in flags:  # squares: CONTRIBUTING's toy, not there
        return
    if "--model" not in flags:  # a table whose rows name the model
        flags += ["--model", "space"]
    monkeypatch.chdir(tmp_path)
    for study in command_line.studies(flags):
        presets.resolve(study, has_gpu=False)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_link_leads_somewhere(page):
    for path, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {path}"
        if anchor:
            assert anchor in anchors(target), f"{page.name}: {path}#{anchor}"
