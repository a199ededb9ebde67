"""A long step says how far it is, on a terminal and off one."""

import io
import re

from rich.console import Console

from data import progress
from data.progress import Watched


def test_off_a_terminal_a_line_comes_now_and_then(monkeypatch):
    console = Console(file=io.StringIO(), width=40)
    monkeypatch.setattr(progress, "EVERY", 600.0)
    with Watched("converting x", 3000, console) as watched:
        watched.advance(1000)
        assert console.file.getvalue() == "converting x: 3,000 images\n"
        monkeypatch.setattr(progress, "EVERY", 0.0)
        watched.advance(1000)
        watched.advance(1000)
    _, line = console.file.getvalue().splitlines()
    assert re.fullmatch(r"converting x: 2,000 of 3,000 images, [\d,]+ a second, less than a minute left", line)


def test_on_a_terminal_a_bar_moves(monkeypatch):
    monkeypatch.setattr(progress, "EVERY", 0.0)
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    with Watched("converting x", 3000, console) as watched:
        watched.advance(1500)
    said = console.file.getvalue()
    assert "converting x" in said and "1500/3000" in said and "a second" not in said
