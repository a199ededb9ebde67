"""The report of a GPU run: Markdown for people, JSON with all figures."""

import datetime
import json
import platform
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from data import atomic
from study.results_folder import git_revision
from tests.gpu.running import Ended

DISTRIBUTIONS = ("torch", "numpy", "ray", "optuna", "pyarrow", "triton")


def machine(device: str, files: Iterable[str] = ()) -> dict[str, Any]:
    """What the figures depend on: card, versions, commit and date; ``files`` are where a pack lies."""
    import torch

    there = {d.name.lower(): d.version for d in metadata.distributions()}
    there |= {d.name.lower(): d.version for d in metadata.distributions(path=list(files))}
    return {
        "card": torch.cuda.get_device_name() if device == "cuda" else f"none, rehearsed on {platform.machine()}",
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        **{name: there.get(name) for name in DISTRIBUTIONS},
        "commit": git_revision(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def write(folder: Path, about: dict[str, Any], ended: Sequence[Ended]) -> str:
    """Write report.md, figures.json and log.txt into ``folder``; the text of the first."""
    folder.mkdir(parents=True, exist_ok=True)
    text = markdown(about, ended)
    parts = [{"name": one.name, "status": one.status, "seconds": one.seconds, "rows": one.rows} for one in ended]
    for name, content in {
        "report.md": text,
        "figures.json": json.dumps({"machine": about, "parts": parts}, indent=1),
        "log.txt": "".join(f"==== {one.name}: {one.status}\n{one.log}\n" for one in ended),
    }.items():
        with atomic.replacing(folder / name) as partial:
            Path(partial).write_text(content)
    return text


def markdown(about: dict[str, Any], ended: Sequence[Ended]) -> str:
    """The parts in a table, then the rows of each."""
    lines = [f"# {about['card']}", "", ", ".join(f"{key} {value}" for key, value in about.items() if key != "card"), ""]
    lines += table([{"part": one.name, "status": one.status, "s": one.seconds} for one in ended])
    for one in ended:
        if one.rows:
            lines += ["", f"## {one.name}", "", *table([_short(row) for row in one.rows])]
    return "\n".join(lines) + "\n"


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """A Markdown table; its columns are the keys of ``rows`` in the order in which they come up."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return lines + ["| " + " | ".join(cell(row.get(column)) for column in columns) + " |" for row in rows]


def cell(value: Any) -> str:
    """``value`` as people read it, in one line and without the sign between columns."""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return "" if value is None else " ".join(str(value).replace("|", "/").split())


def _short(row: dict[str, Any]) -> dict[str, Any]:
    """``row`` without what only figures.json has room for."""
    return {key: value for key, value in row.items() if not isinstance(value, dict | list)}
