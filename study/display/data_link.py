"""What the data of a study looks like: a link to the sheet beside the report, or the command that makes one."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data import show
from study.display import pages

SHOWN = "data"
"""The folder below a study's for the sheet and its page."""


def data_link(folder: Path, record: Mapping[str, Any]) -> str:
    """A section for the study in ``folder``, whose study.json says ``record``."""
    data = (record.get("data") or {}).get("spec") or record["config"]["data"]
    if (folder / SHOWN / show.PAGE).exists():
        return pages.section(
            "Data", f"<p>{pages.link(f'{SHOWN}/{show.PAGE}', f'contact sheet and statistics of {data}')}</p>"
        )
    name = (record.get("study") or {}).get("name", "STUDY")  # of a copy, too: it makes the same report
    out = Path("results", name, SHOWN)
    command = shlex.join(["python", "data/show.py", data, "--out", str(out)])
    said = f"{command} draws a contact sheet of images and masks, and writes statistics (add the study's --cache)"
    return pages.section("Data", pages.notes([f"{said}; a report that is written after that links them"]))
