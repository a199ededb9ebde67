"""What a study cost and how it was run: trials, rungs, time, and each session's command, versions and machines."""

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from study.display import pages
from study.display.durations import duration
from study.display.page_table import Cell, Table, figure
from study.scoring import ranking
from study.scoring.trial_table import STATES

Trial = Mapping[str, Any]
"""A row of trials.parquet."""


def budget_section(record: Mapping[str, Any], trials: Sequence[Trial], rungs: Sequence[int]) -> str:
    """A section: how many trials came how far, the share of the full budget, time, and the sessions."""
    config = record["config"]
    reports, steps = config.get("reports"), config.get("steps")
    fragments = []
    counts = Counter(trial["state"] for trial in trials)
    facts = {STATES[state]: f"{counts[state]:,}" for state in STATES if counts[state]}
    trained = sum(trial["step"] or 0 for trial in trials)
    if trained and steps and trials:
        facts["training steps of the search"] = f"{trained:,}"
        facts["share of the steps that all these trials would take to their end"] = (
            f"{trained / (steps * len(trials)):.0%}"
        )
    seconds = sum(trial["seconds"] or 0 for trial in trials)
    if seconds:
        facts["training and validation, all trials together"] = duration(seconds)
    timing = record.get("timing") or {}
    if timing.get("sessions"):
        facts["wall time of training, finalists included"] = duration(sum(s["wall_s"] for s in timing["sessions"]))
    if timing.get("busy_share") is not None:
        facts["share of the time that trials had in which they trained or validated"] = f"{timing['busy_share']:.0%}"
    hosts = sorted({host for trial in trials for host in trial["hosts"] or ()})
    if hosts:
        facts["nodes"] = f"{len(hosts)}: {', '.join(hosts[:8])}{', ...' if len(hosts) > 8 else ''}"
    memory = [trial["gpu_gib"] for trial in trials if trial["gpu_gib"]]
    if memory:
        facts["peak of GPU memory in tensors"] = f"{max(memory):.2f} GiB"
    cards = [pages.key_values(facts, "Budget")]
    if reports and steps:
        cards.append(_rungs(trials, rungs, reports, steps))
    fragments.append(pages.cards(*cards))
    for number, session in enumerate(sessions(record), start=1):
        fragments.append(pages.key_values(session, f"Session {number}"))
    return pages.section("Budget and sessions", *fragments)


def sessions(record: Mapping[str, Any]) -> list[dict[str, str]]:
    """What each session of a study recorded of itself, as text: command, versions, revision, machines, time."""
    times = (record.get("timing") or {}).get("sessions") or []
    found = [
        {key.replace("_", " "): _line(value) for key, value in entry.items() if value} for entry in _recorded(record)
    ]
    if times and len(found) == 1:
        found[0]["time"] = f"{duration(sum(t['wall_s'] for t in times))} of training"
    return found


def changes(record: Mapping[str, Any]) -> list[str]:
    """A line that names the versions and git revisions of a study that was run by several."""
    found: dict[str, dict[str, None]] = {}
    for session in _recorded(record):
        for name, version in {"git": session.get("git"), **(session.get("versions") or {})}.items():
            found.setdefault(name, {})[str(version)] = None
    changed = [f"{name} {', then '.join(versions)}" for name, versions in found.items() if len(versions) > 1]
    return [f"the study was run by several versions: {'; '.join(changed)}"] if changed else []


def _recorded(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What study.json has of each session: a list ``sessions``, or in earlier versions only what the last one was."""
    last = {key: record[key] for key in ("command", "versions", "git", "hardware") if record.get(key)}
    return [dict(entry) for entry in record.get("sessions") or ([last] if last else [])]


def command(name: str, folder: Path, record: Mapping[str, Any], trials: int) -> str:
    """The lines that run the study ``name`` again, with as many ``trials``, from a checkout."""
    revision = [{}, *_recorded(record)][-1].get("git")
    lines = [f"git checkout {revision.rstrip('+')}"] if revision else []
    words = ["python", "study/run.py", "--name", name, "--trials", str(trials)]
    for key, value in record["config"].items():
        if key == "set":
            for hyperparameter, fixed in value.items():
                words += ["--set", f"{hyperparameter}={'none' if fixed is None else fixed}"]
        elif key == "space":
            words += [word for entry in value or [] for word in ("--space", entry)]
        elif key != "size" and value is not None:  # the data's name or the preset brings the size
            flag = f"--{key.replace('_', '-')}"
            words += [flag] if value is True else [flag, str(value)]
    words += ["--plugins", record["plugins"]] if record.get("plugins") else []
    words += [word for source in record.get("from", []) for word in ("--from", source["study"])]
    for key, count in ranking.read_asked(folder).items():
        words += [f"--{key}", str(count)]
    words += ["--draws", str(record["draws"])] if record.get("draws", 1) > 1 else []
    later = [
        shlex.join(["python", "study/score.py", f"results/{name}", "--split", split, *_where(about)])
        for split, about in (record.get("added") or {}).items()
    ]
    return "\n".join([*lines, shlex.join(words), *later])


def _where(about: Mapping[str, Any]) -> list[str]:
    """The flags of study/score.py for an added split."""
    draws = ["--draws", str(about["draws"])] if about["draws"] > 1 else []
    return ["--data", about["spec"], "--part", about["split"], *draws]


def _rungs(trials: Sequence[Trial], rungs: Sequence[int], reports: int, steps: int) -> str:
    """How many trials came to each rung and to the end."""
    rows = []
    for report in [*(rung for rung in rungs if rung < reports), reports]:
        there = sum(1 for trial in trials if max(trial["intermediate_steps"] or [0]) >= report)
        what = "end" if report == reports else "rung"
        share = there / len(trials) if trials else 0.0
        at = figure(round(steps * report / reports))
        came = [figure(there), Cell(f"{share:.0%}", share)]
        rows.append([f"{what}, report {report} of {reports}", at, *came])
    return Table(["", "training steps", "trials that got there", "share"], rows, "rungs", "Rungs").html()


def _line(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_line(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return ", ".join(map(_line, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
