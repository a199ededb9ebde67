"""Several studies on the same data: the winner of each, in one leaderboard."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data import spec
from study.results_folder import read_record
from study.scoring import budgets, verdict
from study.scoring.baselines import grid_note
from study.scoring.bootstrap import Floats, Key
from study.scoring.budgets import Budget
from study.scoring.gaps import Gap, gaps
from study.scoring.leaderboard import TITLES, Row, entry_name, footnotes, read_scores
from study.scoring.ranking import BASE
from study.scoring.trial_table import ENDED, STATES, read_trials


@dataclass(frozen=True)
class Comparison:
    """The scores of several studies on the same data.

    In each study, validation chose the winner. The order of the studies is that of their mIoU_fg on test: a
    leaderboard, by which nothing is chosen.
    """

    data: str
    """the data specification that all of them have"""
    size: int
    """height and width of the images in pixels"""
    rows: list[Row]
    """by split: one row per study, best mIoU_fg on test first, each with its base below it; then the baselines"""
    folders: dict[str, Path]
    """entry -> folder of its study, in the order of the rows; the studies without scores last"""
    best: dict[str, str]
    """entry -> its winner's name in evaluation.parquet, of the studies that have scores"""
    trials: dict[str, str]
    """entry -> how many trials are complete / pruned / failed"""
    budgets: dict[str, Budget]
    """entry -> what its study was given and used"""
    gaps: list[Gap]
    """what each winner loses from test to the other splits"""
    notes: list[str]
    """what a reader must know before comparing"""

    @property
    def caption(self) -> str:
        """What the columns and the order of the rows mean, in one line."""
        words = " / ".join(STATES[state] for state in ENDED)
        mse = f"MSE: sum over 3x{self.size}x{self.size}"
        return f"mIoU_fg and ARI_FG in %; {mse}; trials: {words}; best mIoU_fg on test first"


def compare(folders: Sequence[Path]) -> Comparison:
    """Gather the winner of each study in ``folders``, and its base; a study without scores becomes a note.

    Raises ValueError if a folder holds no study, or if the studies were scored on different images.
    """
    records = {folder: read_record(folder, "model", "data", "size") for folder in folders}
    first, reference = next(iter(records.items()))
    rows: list[Row] = []
    baselines: list[Row] = []
    named: dict[str, Path] = {}
    chosen: dict[str, str] = {}
    notes: list[str] = []
    about: Sequence[str] = []
    drawn: dict[Key, Floats] = {}
    for folder, record in records.items():
        for key, here, there in (
            ("data", record["config"]["data"], reference["config"]["data"]),
            ("size", record["config"]["size"], reference["config"]["size"]),
            ("fingerprint", _images(record), _images(reference)),
            ("version of the scenes", _version(record), _version(reference)),
        ):
            if here != there:
                raise ValueError(
                    f"{folder.name} and {first.name} were not scored on the same images ({key} {here} and {there}); "
                    "compare studies of one data set and size; an older one's own command scores it anew"
                )
        entry = _entry(folder, records)
        named[entry] = folder
        (scored, means), winner = read_scores(folder), _winner(folder)
        here = [replace(row, entry=entry) for row in scored if winner and row.entry == entry_name(winner)]
        if not here or winner is None:
            notes.append(f"{entry}: nothing to compare yet; run its study to the end")
            continue
        chosen[entry] = winner
        rows += here
        drawn |= {(entry, split): found for (name, split), found in means.items() if name == entry_name(winner)}
        if winner != BASE:
            rows += [replace(row, entry=f"{entry}, base") for row in scored if row.kind == "base"]
        said = verdict.read_verdict(folder, record["config"].get("metric", "mIoU_fg"))
        notes += [f"{entry}, {line}" for line in said if line.startswith("test: ")]
        untrained = [row for row in scored if row.kind == "baseline"]
        if len(untrained) > len(baselines):  # older studies have fewer
            baselines, about = untrained, grid_note(record)
        notes += (record.get("data") or {}).get("notices", [])
    rank = _rank(rows)
    splits = dict.fromkeys(row.split for row in [*rows, *baselines])
    ordered = []
    for split in splits:
        here = [row for row in rows if row.split == split]
        ordered += sorted(here, key=lambda row: rank.index(row.entry.removesuffix(", base")))
        ordered += [row for row in baselines if row.split == split]
    notes += _unlike(records.values())
    incomplete = any((record.get("data") or {}).get("incomplete") for record in records.values())
    entries = [*rank, *(entry for entry in named if entry not in rank)]
    given = {entry: budgets.read(named[entry]) for entry in entries}
    notes += budgets.unequal(given)
    return Comparison(
        data=reference["config"]["data"],
        size=reference["config"]["size"],
        rows=ordered,
        folders={entry: named[entry] for entry in entries},
        best=chosen,
        trials={entry: _trials(named[entry]) for entry in entries},
        budgets=given,
        gaps=gaps([row for row in ordered if row.entry in chosen], drawn),
        notes=[*dict.fromkeys([*notes, *about]), *footnotes(ordered, incomplete)],
    )


def _winner(folder: Path) -> str | None:
    """The winner's name in the evaluation of the study in ``folder``, or None before the end of its final stage."""
    try:
        best = json.loads((folder / "best.json").read_text())
    except FileNotFoundError:
        return None
    return best.get("entry") or f"trial_{best['trial']:04d}"  # earlier versions wrote the number alone


def _entry(folder: Path, records: Mapping[Path, Mapping[str, Any]]) -> str:
    """The model's name, or the study's where several studies are of one model."""
    model = records[folder]["config"]["model"]
    if sum(record["config"]["model"] == model for record in records.values()) == 1:
        return model
    return folder.name if sum(one.name == folder.name for one in records) == 1 else str(folder)


def _images(record: Mapping[str, Any]) -> str | None:
    """What tells the images apart; drawn scenes may differ in their last bit from machine to machine."""
    return None if spec.is_drawn(record["config"]["data"]) else (record.get("data") or {}).get("fingerprint")


def _unlike(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """A line for each split of which the studies were scored on different images."""
    places: dict[str, set[str]] = {}
    for record in records:
        where = dict((record.get("data") or {}).get("final_splits") or {})
        for split, about in (record.get("added") or {}).items():
            images = "" if spec.is_drawn(about["spec"]) else f", {about['fingerprint']}"
            where[split] = f"{about['spec']} {about['split']}{images}"
        for split, place in where.items():
            places.setdefault(split, set()).add(place)
    return [
        f"{TITLES.get(split, split)}: the studies' images differ, so do not compare ({' / '.join(sorted(there))})"
        for split, there in places.items()
        if len(there) > 1
    ]


def _version(record: Mapping[str, Any]) -> int | None:
    """By which version of the data set the scenes were drawn; the first one was not recorded."""
    return (record.get("data") or {}).get("version")


def _trials(folder: Path) -> str:
    """How many trials of the study in ``folder`` ended in each of the :data:`ENDED` states."""
    counts = Counter(state for _, state in read_trials(folder))
    return " / ".join(str(counts[state]) for state in ENDED)


def _rank(rows: Sequence[Row]) -> list[str]:
    """Entries of winners by mIoU_fg on the first split, best first; those without a value last."""
    first = {row.entry: row.means["mIoU_fg"] for row in reversed(rows) if not row.entry.endswith(", base")}
    return sorted(first, key=lambda entry: (math.isnan(first[entry]), -first[entry], entry))
