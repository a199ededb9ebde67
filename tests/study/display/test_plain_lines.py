"""Lines on a console of 40 columns."""

import io

from rich.console import Console

from study.display.plain_lines import say

PATH = "results/space-synthetic-0.2+siblings-[tiny]"


def printed(line: str, *, terminal: bool) -> list[str]:
    console = Console(file=io.StringIO(), width=40, force_terminal=terminal, color_system=None)
    say(console, line)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]


def test_sentences_break_between_words_on_a_terminal_only():
    sentence = "no trial is complete yet; run the study's command again"
    assert printed(sentence, terminal=True) == ["no trial is complete yet; run the", "study's command again"]
    assert printed(sentence, terminal=False) == [sentence]


def test_what_people_copy_stays_whole():
    for line in (f"watch:  tensorboard --logdir {PATH}", f"longer: python study/run.py --from {PATH}"):
        assert printed(line, terminal=True) == printed(line, terminal=False) == [line]
