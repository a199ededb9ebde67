"""Whether a study is finished: ``finished.json`` says what was asked when all was done, and how the command ended.

The same command then has nothing to do, and ends with the same lines, without torch or Ray. The file goes away when
work begins, and does not count where a flag that matters is another one, where a file of the results is not as it was,
or where other code of ours or of the model wrote it.
"""

import dataclasses
import hashlib
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from data import places, plugins
from study import results_folder
from study.config import StudyConfig
from study.display.plain_lines import say, show
from study.results_folder import StudyFolder, write_json
from trainables import own_metrics

FILE = "finished.json"

WITHOUT_EFFECT = ("concurrent", "workers_per_trial", "cpus", "gpus", "hours", "address")
"""Flags that say how a study is computed. One that is finished is so with any of them."""

CHECKED = ("optuna.journal", "finalists.json", "evaluation.parquet", "curve.parquet", "best.json", "best/*")
"""The files that must be as they were; the report must be there, but may have been made anew."""


def write(folder: Path, asked: StudyConfig, lines: Sequence[tuple[str, bool]]) -> None:
    """Record that the study in ``folder`` is finished as ``asked``, with ``lines`` as its last ones: text, and bold."""
    write_json(folder / FILE, {**_now(folder, asked), "lines": [list(line) for line in lines]})


def forget(folder: Path) -> None:
    """Take the record back: work begins."""
    (folder / FILE).unlink(missing_ok=True)


def say_again(asked: StudyConfig, console: Console) -> Path | None:
    """If the study that is ``asked`` for is finished, say again how it ended; returns its folder, else None."""
    folder = folder_of(asked)
    said = lines(folder, asked) if folder is not None else None
    if said is None:
        return None
    say(console, f"{folder} is finished: nothing is left to do")
    show(console, said)
    return folder


def lines(folder: Path, asked: StudyConfig) -> list[tuple[str, bool]] | None:
    """The last lines of the study in ``folder`` if it is finished as ``asked``; else None."""
    if asked.fresh or asked.dry_run or not (folder / "report.html").is_file():
        return None
    try:
        stored = json.loads((folder / FILE).read_text(encoding="utf-8"))
        said = [(str(text), bool(bold)) for text, bold in stored.pop("lines")]
        return said if stored == _now(folder, asked) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def folder_of(asked: StudyConfig) -> Path | None:
    """The folder of the study that ``asked`` means, before its preset is settled; None if there is none, or two."""
    presets = ("paper", "tiny") if asked.preset == "auto" else (asked.preset,)
    found = {path for preset in presets if ((path := asked.folder(preset)) / "study.json").is_file()}
    return found.pop() if len(found) == 1 else None


def _now(folder: Path, asked: StudyConfig) -> dict[str, Any]:
    """What must be the same, ready for JSON. Raises ValueError if study.json is damaged."""
    flags = {key: value for key, value in dataclasses.asdict(asked).items() if key not in WITHOUT_EFFECT}
    flags["cache"] = places.shown(asked.cache or "")  # keys that stand in a URI are written nowhere
    files = {str(path.relative_to(folder)): _digest(path) for name in CHECKED for path in sorted(folder.glob(name))}
    files |= {entry: _digest(Path(entry)) for entry in asked.space if entry.endswith(".py")}
    config = (StudyFolder(folder).read() or {}).get("config")
    same = {"asked": flags | {"fresh": False}, "program": _program(asked), "files": files, "config": config}
    found: dict[str, Any] = json.loads(json.dumps(same, default=str))
    return found


def _program(asked: StudyConfig) -> str:
    """A hash of our sources, and of those of the model, metrics and --plugins, which may lie elsewhere."""
    roots = [results_folder.ROOT / package for package in results_folder.PACKAGES]
    for package in ("search_spaces", "trainables"):
        spec = importlib.util.find_spec(f"{package}.{asked.model}")
        if spec is not None and spec.origin is not None:
            origin = Path(spec.origin)
            roots.append(origin.parent if origin.name == "__init__.py" else origin)
    roots += plugins.everything(Path(asked.plugins)) if asked.plugins else []
    digest = hashlib.sha256("".join(own_metrics.fingerprints().values()).encode())
    for root in roots:
        for path in [root] if root.is_file() else sorted(root.rglob("*.py")):
            digest.update(_digest(path).encode())
    return digest.hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
