"""The commands that README, CONTRIBUTING and docs/ show, as they are written there."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

PROGRAMS = (
    *("python", "clevrtune", "tensorboard", "optuna-dashboard", "mlflow", "ray", "make", "pip"),
    *("source", "export", "chmod", "ssh", r"\.venv/bin/[\w-]+", r"\.ci/run"),
)
"""What a line or a text between backticks begins with that is a command."""

_BEGINS = re.compile(rf"(?:{'|'.join(PROGRAMS)})(?: |$)")
_SHORT = re.compile(r"make [\w-]+$|source \S+$|optuna-dashboard \S+$|\.ci/run$")
"""Texts of one or two words between backticks that are commands; others are names, as in "`clevrtune check` says"."""

_RUN = "python study/run.py"


class Command(NamedTuple):
    """A command of a page."""

    page: str
    line: str

    def __str__(self) -> str:
        return f"{self.page}: {self.line}"


def commands() -> list[Command]:
    """All of them, once each; lines that a backslash breaks are joined, and comments left out.

    They stand in blocks that are indented, behind a ``$``, between backticks, and in rows of tables whose head names
    the command that they go on.
    """
    found: dict[str, Command] = {}
    for page in PAGES:
        for line in lines(page.read_text(encoding="utf-8")):
            found.setdefault(line, Command(page.name, line))
    return list(found.values())


def lines(text: str) -> Iterator[str]:
    """The commands of a page."""
    text = re.sub(r" *\\\n +", " ", text)
    for _, block in re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        yield from (_bare(line[2:]) for line in block.splitlines() if line.startswith("$ "))
    for block in blocks(text):
        if not is_listing(block):
            yield from map(_bare, block)
    for paragraph in _paragraphs(text):
        if paragraph[0].startswith("|"):
            yield from _table(paragraph)
        elif not paragraph[0].startswith("    "):
            yield from _between_backticks("\n".join(paragraph))


def blocks(text: str) -> list[list[str]]:
    """The indented blocks of a page, lines joined where a backslash breaks them."""
    return [lines for lines in _paragraphs(re.sub(r" *\\\n +", " ", text)) if lines[0].startswith("    ")]


def _paragraphs(text: str) -> list[list[str]]:
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return [part.strip("\n").splitlines() for part in re.split(r"\n\s*\n", text) if part.strip()]


def is_command(line: str) -> bool:
    """Whether ``line`` begins with a program that we know."""
    return _BEGINS.match(line.strip()) is not None


def is_listing(lines: list[str]) -> bool:
    """Whether the block of ``lines`` shows files, not commands: the first line is a path."""
    return bool(re.match(r" +(?!\.venv|\.ci)[\w<>.-]+/", lines[0]))


def _table(lines: list[str]) -> Iterator[str]:
    (begun, *_) = [*(span for span in re.findall(r"`([^`]*)`", lines[0]) if span.startswith(_RUN)), None]
    for line in lines if begun is None else lines[1:]:
        yield from _between_backticks(line)
        flags = [span for span in re.findall(r"`([^`]*)`", line) if span.startswith("--")]
        if begun is not None and flags:
            yield f"{begun} {flags[0]}"


def _between_backticks(text: str) -> Iterator[str]:
    for span in re.findall(r"`([^`]+)`", text):
        line = " ".join(span.split())
        if re.match(r"(study|data)/\w+\.py --\S+ ", line):
            line = f"python {line}"
        if is_command(line) and (len(line.split()) > 2 or _SHORT.match(line)):
            yield line


def _bare(line: str) -> str:
    return re.split(r"\s+#|\s\|", line.strip())[0]
