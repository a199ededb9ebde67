"""Makes a table of recorded learning curves: ``python -m tests.benchmarks.search.record RESULTS [...] TABLE.parquet``.

RESULTS is the folder of a study that ran with ``--sampler random --pruner none --reports 27``; it may still be running.
Further folders hold the same configurations with other seeds.
"""

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pyarrow
import pyarrow.parquet
from optuna.distributions import CategoricalDistribution, distribution_to_json
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from study.results_folder import sessions

SCHEMA = pyarrow.schema(
    {
        "number": pyarrow.int64(),
        "seed": pyarrow.int64(),
        "state": pyarrow.string(),
        "failure": pyarrow.string(),
        "seconds": pyarrow.float64(),
        "curve": pyarrow.list_(pyarrow.float64()),
        "parameters": pyarrow.string(),
    }
)
"""Columns of a table. ``parameters`` is JSON: they differ in type, and some exist only beside a value of another."""


def opened(folder: Path) -> tuple[dict[str, Any], optuna.Study]:
    """The record of the study in ``folder``, and a copy of its trials."""
    record = json.loads((folder / "study.json").read_text())
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with tempfile.TemporaryDirectory() as place:  # the study may be writing
        journal = shutil.copy(folder / "optuna.journal", place)
        storage = JournalStorage(JournalFileBackend(journal))
        stored = optuna.load_study(study_name=None, storage=storage)
        copy = optuna.create_study(direction=stored.direction)
        copy.add_trials([t for t in stored.get_trials() if t.state in (TrialState.COMPLETE, TrialState.FAIL)])
    return record, copy


def specification(record: dict[str, Any], study: optuna.Study) -> dict[str, Any]:
    """What the trials of ``study`` have in common."""
    config, session = record["config"], sessions(record)[0]
    trials = study.get_trials(deepcopy=False)
    ranges = {name: distribution for trial in trials for name, distribution in trial.distributions.items()}
    conditions = {name: _condition(name, trials, ranges) for name in ranges}
    ordered = sorted(ranges, key=lambda name: conditions[name] is not None)
    kept = ("model", "data", "size", "preset", "steps", "reports", "validation_images", "metric", "seed", "precision")
    return {
        **{key: config[key] for key in kept},
        "direction": study.direction.name.lower(),
        "base": record["base"],
        "ranges": {name: distribution_to_json(ranges[name]) for name in ordered},
        "conditions": {name: condition for name, condition in conditions.items() if condition is not None},
        "counts": record["data"]["counts"],
        "versions": session["versions"],
        "git": session["git"],
        "command": _without_folders(session["command"]),
    }


def rows(record: dict[str, Any], study: optuna.Study, ranges: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One row per trial that ended."""
    config = record["config"]
    for trial in study.get_trials(deepcopy=False):
        curve = [trial.intermediate_values[report] for report in sorted(trial.intermediate_values)]
        failed = trial.state == TrialState.FAIL
        assert failed or len(curve) == config["reports"], f"trial {trial.number} has {len(curve)} reports"
        parameters = {**config["set"], **trial.params}
        yield {
            "number": trial.number,
            "seed": trial.user_attrs.get("seed", config["seed"]),
            "state": trial.state.name,
            "failure": trial.user_attrs.get("reason", "unknown") if failed else None,
            "seconds": trial.user_attrs.get("progress", {}).get("seconds", 0.0),
            "curve": curve,
            "parameters": json.dumps({name: parameters[name] for name in ranges if name in parameters}),
        }


def write(folders: list[Path], table: Path) -> int:
    """Write the trials in ``folders`` to the file ``table``, and their specification beside it; returns the rows."""
    studies = [opened(folder) for folder in folders]
    spec = specification(*studies[0])
    found = [row for record, study in studies for row in rows(record, study, spec["ranges"])]
    columns = pyarrow.Table.from_pylist(found, schema=SCHEMA)
    pyarrow.parquet.write_table(columns, table, compression="zstd")
    table.with_suffix(".json").write_text(json.dumps(spec, indent=2) + "\n")
    return len(found)


def _condition(name: str, trials: list[FrozenTrial], ranges: dict[str, Any]) -> tuple[str, list[Any]] | None:
    """The choice on which the parameter ``name`` depends, and the values that bring it; None if all trials have it."""
    if all(name in trial.params for trial in trials):
        return None
    for key, distribution in ranges.items():
        if isinstance(distribution, CategoricalDistribution) and all(key in trial.params for trial in trials):
            values = {trial.params[key] for trial in trials if name in trial.params}
            if all((name in trial.params) == (trial.params[key] in values) for trial in trials):
                return key, sorted(values, key=str)
    raise AssertionError(f"no choice says which trials have {name}")


def _without_folders(command: str) -> str:
    """``command`` without the options that name folders, which only one machine has."""
    words = command.split()
    folders = {place for place, word in enumerate(words) if word.startswith("/")}
    return " ".join(word for place, word in enumerate(words) if not {place, place + 1} & folders)


def main() -> None:
    """Write the table and say what it has."""
    *folders, table = (Path(given) for given in sys.argv[1:])
    print(f"{table}: {write(folders, table)} rows, {table.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
