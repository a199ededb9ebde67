"""Splits that join the table of a study after its final stage: which images they are, and what study.json says of them.

They choose nothing: finalists and winner stay as they are, and nothing is trained.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from data import convert, spec
from data.concatenated import NAME as SEVERAL
from data.shards import ShardIndex
from data.source import EVERYTHING
from data.spec import DataSpec
from study.config import StudyConfig
from study.display.plain_lines import say
from study.presets import Resolved
from study.results_folder import StudyFolder, read_record
from study.scoring import evaluation, metric_files, ranking, score_file
from study.scoring.evaluation import ADDED, EVALUATION, Entry

NAMES = r"[A-Za-z0-9.+-]+"
"""What a split may be called: its pictures are files."""

SEARCHED = ("train", "val", EVERYTHING)
"""Splits of what was trained on that touched the search."""

NEEDED = ("model", "data", "size", "preset", "steps", "reports", "metric", "seed")
"""Keys of a study's config without which its models cannot be scored."""


@dataclass(frozen=True)
class Addition:
    """A split to score, and what the study scores on it."""

    study: Resolved
    name: str
    place: tuple[ShardIndex, str]
    chosen: list[Entry]
    beside: set[str]
    """splits whose scores stay as they are"""
    max_objects: int
    """most objects in a scene of the data that was trained on"""

    @property
    def missing(self) -> bool:
        """Whether something is not scored yet."""
        sources = evaluation.sources_of(self.chosen, {self.name: self.place}, self.study.config.draws)
        table = score_file.read(self.study.folder.path / EVALUATION)
        columns = (table[key].to_pylist() for key in ("entry", "seed", "split", "source"))
        there = {(entry, seed, split): source for entry, seed, split, source in zip(*columns, strict=True)}
        return not all(key in there and metric_files.same(there[key], source) for key, source in sources.items())

    def score(self, console: Console) -> None:
        """Score the split on Ray, which runs, and add its rows to evaluation.parquet and objects.parquet."""
        index, split = self.place
        folder = self.study.folder
        about = {"spec": index.spec, "split": split, "fingerprint": index.fingerprint, "incomplete": index.incomplete}
        folder.write(**{ADDED: {**added(folder.read() or {}), self.name: {**about, "draws": self.study.config.draws}}})
        evaluation.evaluate_study(
            self.study, self.chosen, {self.name: self.place}, self.max_objects, console, beside=self.beside
        )


def added(record: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The added splits of a study whose study.json says ``record``."""
    return dict(record.get(ADDED) or {})


def prepare(
    path: Path,
    name: str,
    data: str | None,
    part: str,
    *,
    root: str | None,
    cache: str | None,
    draws: int | None,
    cpus: float,
    gpus: float,
    console: Console,
) -> Addition:
    """What there is to score of the study in ``path`` on the split ``part`` of ``data``, which tables call ``name``.

    Converts the data if that has not been done, and locks the study's folder. ``draws`` are by default those of its
    earlier scores. Raises ValueError for what a person can mend.
    """
    record = read_record(path, *NEEDED)
    config, folder = record["config"], StudyFolder(path)
    finalists = ranking.read(path)
    if not finalists or not (path / EVALUATION).exists() or not record.get("best_grid"):
        raise ValueError(f"{path} has no complete final stage; run the study's own command to its end first")
    if edited := metric_files.changed(evaluation.sources_in(path / EVALUATION)):
        raise ValueError(
            f"the metric {edited[0]} is new or was edited since {path.name} was scored; type the study's own command "
            "again, which scores its splits anew"
        )
    own = spec.parse((record.get("data") or {}).get("spec") or config["data"]).sized((config["size"], config["size"]))
    other, split = wanted(own, name, data, part, scored=_scored(record))
    folder.claim({}, fresh=False)
    asked = StudyConfig(
        **{key: config[key] for key in ("model", "data", "preset", "steps", "reports", "metric", "seed")},
        **{key: config[key] for key in ("precision", "validation_images") if config.get(key)},
        pruner="none",
        draws=draws or added(record).get(name, {}).get("draws") or record.get("draws") or 1,
        cpus=cpus,
    )
    study = Resolved(asked, config["preset"], own, config["steps"], gpus, folder)
    readable, said = evaluation.readable(folder, finalists)
    for line in said:
        say(console, f"note: {line}")
    chosen = evaluation.entries(folder, readable, f"grid_{record['best_grid']}")
    place = find(own, other, split, root=root, cache=cache, console=console)
    table = score_file.read(path / EVALUATION)
    beside = set(table["split"].unique().to_pylist()) - {name}
    most = (record.get("base") or {}).get("max_objects", own.max_objects)
    return Addition(study, name, place, chosen, beside, most)


def wanted(own: DataSpec, name: str, data: str | None, part: str, *, scored: set[str]) -> tuple[DataSpec, str]:
    """The data and the split of it that the flags mean, for models trained on ``own``. Raises ValueError.

    ``scored`` are the splits of the study's own final stage.
    """
    if not re.fullmatch(NAMES, name):
        raise ValueError(f"--split {name!r}: a split is called by letters, digits, '.', '+' and '-', as in --split pbg")
    if name in (*scored, "train", "val"):
        raise ValueError(f"--split {name} is one of the study's own; its command scores it. Choose another name")
    if data is None:
        there = [*own.source.final_splits, *own.source.curve(own.variant)]
        known = {each.name: each for each in there if each.variant is not None and each.data is None}
        if name not in known:
            names = f"; without --data there are {', '.join(known)}" if known else ""
            raise ValueError(f"--split {name}: say with --data which images these are{names}")
        other, split = own.varied(str(known[name].variant)), known[name].split if part == "test" else part
    else:
        found = spec.parse(data)
        if found.name == SEVERAL:
            raise ValueError(f"--data {data}: score one data set at a time, each under a --split of its own")
        other, split = own.of(found.source, found.variant), part
        if (found.size or own.size) != own.size or (found.crop and not other.crop):
            crop = "with" if own.crop else "without"
            raise ValueError(f"--data {data}: the models were trained at {own.size} {crop} crop; leave both out")
    if split in SEARCHED and (other.name, other.variant) in [(each.name, each.variant) for each in own.parts]:
        raise ValueError(f"--part {split} of {other}: the models were trained or chosen on these images")
    return other, split


def find(
    own: DataSpec, other: DataSpec, split: str, *, root: str | None, cache: str | None, console: Console
) -> tuple[ShardIndex, str]:
    """Where ``split`` of ``other`` lies, for models trained on ``own``. Raises ValueError.

    As in the final stage, a variant with fewer images than published is scored whole, unless it was trained on.
    """
    index = convert.prepare(other, root=root, cache=cache, console=console, only=None if split == EVERYTHING else split)
    trained = (other.name, other.variant) in [(each.name, each.variant) for each in own.parts]
    if index.incomplete and not trained:
        split = EVERYTHING
    if split != EVERYTHING and not index.counts.get(split):
        there = ", ".join(name for name, count in index.counts.items() if count)
        raise ValueError(f"--part {split}: {other} has no image there; it has {there}, {EVERYTHING}")
    return index, split


def remarks(folder: Path, record: Mapping[str, Any]) -> list[str]:
    """What a reader must know of the added splits in the table of a study in ``folder``."""
    if not added(record) or not (folder / EVALUATION).exists():
        return []
    table = score_file.read(folder / EVALUATION).select(["entry", "seed", "split"])
    there: dict[str, set[tuple[str, int | None]]] = {}
    for split, *whose in zip(*(table[key].to_pylist() for key in ("split", "entry", "seed")), strict=True):
        there.setdefault(split, set()).add((whose[0], whose[1]))
    most = max(there.values(), key=len)
    lines = []
    for name, about in added(record).items():
        if len(there.get(name, ())) < len(most):
            again = f"clevrtune score results/{folder.name} --split {name} ..."
            lines.append(f"{name} is not scored for all finalists; `{again}` scores the others")
        if about.get("incomplete"):
            lines.append(f"{name}: images are missing, so these scores do not compare with published ones")
    return lines


def reported(folder: Path) -> bool:
    """Whether the report in ``folder`` is newer than the scores."""
    report, scores = folder / "report.html", folder / EVALUATION
    return report.exists() and report.stat().st_mtime_ns >= scores.stat().st_mtime_ns


def _scored(record: Mapping[str, Any]) -> set[str]:
    """The splits of the final stage of a study."""
    return set((record.get("data") or {}).get("final_splits") or ())
