"""All that a report says of a study, read from its results folder: the page and the files for papers are made of it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from study.display import budget_section, found_section
from study.display.found_section import Chosen
from study.results_folder import read_record
from study.scoring import added, published, ranking, verdict
from study.scoring.baselines import grid_note
from study.scoring.bootstrap import Floats, Key
from study.scoring.gaps import Gap, gaps
from study.scoring.leaderboard import Row, entry_name, footnotes, read_scores
from study.scoring.published import Published
from study.scoring.ranking import Finalist
from trainables.objectives import goals

NEEDED = ("model", "data", "size", "preset", "steps", "seed", "metric")
"""Keys of a study's config that its report shows."""


@dataclass(frozen=True)
class Findings:
    """What a results folder holds, as far as it goes."""

    folder: Path
    name: str
    """the study's, whatever the folder is called now"""
    record: dict[str, Any]
    """study.json"""
    trials: list[dict[str, Any]]
    """rows of trials.parquet"""
    goals: Sequence[str]
    rows: list[Row]
    """the leaderboard"""
    drawn: dict[Key, Floats]
    """means over resampled images"""
    finalists: list[Finalist]
    best: dict[str, Any]
    """best.json"""
    chosen: Chosen | None
    """the best hyperparameters"""
    verdicts: list[str]
    remarks: list[str]
    """what a reader must know of the leaderboard"""
    missing: list[str]
    """what the final stage has not written yet, and why"""
    failures: dict[str, int]
    """reason -> number of trials that failed for it, the most frequent first"""
    published: list[Published]
    why_not: str
    """why there are no published numbers beside ours"""

    @property
    def config(self) -> dict[str, Any]:
        """The study's identity."""
        return self.record["config"]

    @property
    def title(self) -> str:
        """What was tuned on what."""
        return f"{self.config['model']} on {self.config['data']}"

    @property
    def winner(self) -> str | None:
        """The winner as people read it; None before the end of the final stage."""
        return entry_name(self.best["entry"]) if self.best.get("entry") else None

    @property
    def gaps(self) -> list[Gap]:
        """What the finalists lose from test to the other splits."""
        return gaps([row for row in self.rows if row.kind != "baseline"], self.drawn)


def gather(folder: Path, name: str, trials: list[dict[str, Any]], *, images: bool = True) -> Findings:
    """What the study ``name`` in ``folder`` has found; ``trials`` are the rows of its trials.parquet.

    Without ``images`` there are no intervals over them. Raises ValueError if ``folder`` holds no study.
    """
    record = read_record(folder, *NEEDED)
    rows, drawn = read_scores(folder, images=images)
    finalists, best = ranking.read(folder), found_section.read_best(folder)
    entry = entry_name(best.get("entry") or (finalists[0].entry if finalists else ""))
    numbers, why_not = published.beside(record, rows, entry) if rows else ([], "")
    return Findings(
        folder=folder,
        name=name,
        record=record,
        trials=trials,
        goals=goals(record["config"]["metric"]),
        rows=rows,
        drawn=drawn,
        finalists=finalists,
        best=best,
        chosen=found_section.chosen(record, best, trials),
        verdicts=verdict.read_verdict(folder, record["config"]["metric"]),
        remarks=_remarks(folder, record, rows),
        missing=_missing(folder, trials),
        failures=_failures(trials),
        published=numbers,
        why_not=why_not,
    )


def _remarks(folder: Path, record: Mapping[str, Any], rows: Sequence[Row]) -> list[str]:
    incomplete = bool((record.get("data") or {}).get("incomplete"))
    several = len({row.entry for row in rows if row.kind in ("trial", "base")}) > 1
    return [
        *(["trials are in the order of their validation scores, which chose them"] if several else []),
        *grid_note(record),
        *footnotes(rows, incomplete),
        *_draws(record),
        *added.remarks(folder, record),
        *(record.get("damage") or []),
        *budget_section.changes(record),
    ]


def _draws(record: Mapping[str, Any]) -> list[str]:
    """A line if models that draw noise were scored several times."""
    draws = {"": record.get("draws", 1)} | {
        f" on {name}": about["draws"] for name, about in added.added(record).items()
    }
    several = [f"{count}{where}" for where, count in draws.items() if where == "" or count != draws[""]]
    if max(draws.values()) == 1:
        return []
    return [f"draws of noise over which scores are means, for models that draw it: {', '.join(several)}"]


def _failures(trials: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    reasons = Counter(trial["reason"] or "no reason recorded" for trial in trials if trial["state"] == "FAIL")
    return dict(reasons.most_common())


def _missing(folder: Path, trials: Sequence[Mapping[str, Any]]) -> list[str]:
    absent = [name for name in ("evaluation.parquet", "best.json") if not (folder / name).exists()]
    if not absent:
        return []
    if any(trial["state"] == "COMPLETE" for trial in trials):
        why = "the best trials are not all scored yet; run the study's command again"
    else:
        why = "no trial is complete yet; run the study's command again, with more --trials or --hours"
    return [f"no {' and no '.join(absent)}: {why}"]
