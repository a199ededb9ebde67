"""Whether a search has found something better than the base configuration, in plain sentences."""

import math
from collections.abc import Sequence
from pathlib import Path

from study.scoring import ranking
from study.scoring.interval import difference
from study.scoring.leaderboard import METRICS, TITLES, Row, cell, entry_name, read_leaderboard
from study.scoring.ranking import BASE, Finalist
from trainables.objectives import direction, goals

OPEN = "may or may not beat"
"""What is said where the interval of a gain has zero in it."""


def read_verdict(folder: Path, metric: str) -> list[str]:
    """The sentences about the study in ``folder`` by the first goal of ``metric``; none before its final stage."""
    return verdict(ranking.read(folder), read_leaderboard(folder), goals(metric)[0])


def verdict(finalists: Sequence[Finalist], rows: Sequence[Row], metric: str) -> list[str]:
    """Sentences on ``finalists`` (the winner first), and ``rows``, their leaderboard: validation, then each split.

    Validation is judged by ``metric``, a final split by the same, or by mIoU_fg where the objective is no column.
    """
    best = next((finalist for finalist in finalists if finalist.entry != BASE), None)
    base = next((finalist for finalist in finalists if finalist.entry == BASE), None)
    said = [_failed(finalist) for finalist in finalists if len(finalist.complete) < len(finalist.runs)]
    if best is None:
        return [*said, "the search found nothing better than the base, its best trial"] if base else said
    if base is None:
        return [*said, "the base has no complete trial, so no trial can be compared with it"]
    name = entry_name(best.entry)
    gain, half = difference(*([run.value for run in f.complete if run.value is not None] for f in (best, base)))
    alone = len(best.runs) == 1
    said.append(_sentence("validation", name, metric, gain, half, won=finalists[0].entry != BASE, one_seed=alone))
    ahead = finalists[0].entry != BASE and not math.isnan(half)
    judged = metric if metric in METRICS or (rows and metric in rows[0].means) else METRICS[0]
    for split in dict.fromkeys(row.split for row in rows):
        here = {row.entry: row for row in rows if row.split == split}
        row = here.get(f"{name} - {BASE}")
        where = TITLES.get(split, split)
        if row is not None:
            said.append(_sentence(where, name, judged, row.means[judged], row.stds[judged]))
        elif name in here and BASE in here:
            gained = here[name].means[judged] - here[BASE].means[judged]
            said.append(_sentence(where, name, judged, gained, math.nan, one_seed=alone))
    if ahead and any(OPEN in line for line in said if line.startswith(("validation:", "test:"))):
        more = len(best.runs) + 2
        said.append(f"more seeds tell more: the same command with --seeds {more} trains only those that are missing")
    if alone:
        said.append("one seed says little: with --seeds 2 or more the finalists and the base are trained anew")
    return said


def _sentence(
    where: str, name: str, metric: str, difference: float, half: float, *, won: bool = True, one_seed: bool = False
) -> str:
    """``won``: no seed failed that puts the base in front; ``one_seed``: there is none to tell the interval from."""
    gained = difference if direction(metric) == "max" else -difference
    if not gained > 0 or not won:
        says = f"the search did not beat the base ({name} is its best)"
    elif gained > half or (math.isnan(half) and one_seed):
        says = f"{name} beat the base"
    else:
        says = f"{name} {OPEN} the base"
    return f"{where}: {says}: {metric} {cell(metric, difference, half, gain=True)}"


def _failed(finalist: Finalist) -> str:
    failed = [run for run in finalist.runs if run.value is None]
    reason = failed[0].reason or "no reason recorded"
    return f"{entry_name(finalist.entry)} failed with {len(failed)} of {len(finalist.runs)} seeds: {reason}"
