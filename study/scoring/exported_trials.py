"""Trials of results folders as tables, read from their Optuna storages, and as bytes of a file."""

import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from study.results_folder import read_record
from study.scoring.trial_table import trial_table
from study.search import storage


def read_studies(folders: Sequence[Path], url: str | None = None) -> dict[str, pa.Table]:
    """The trial tables of the studies in ``folders``, by the folders' names; a folder may hold studies instead.

    Their trials are in their journals, or in the Optuna storage at ``url``. The metadata of a table has ``metric``, the
    objective. Raises ValueError if there is no study.
    """
    found = {}
    for folder in folders:
        for study in _studies(folder.resolve()):
            record = read_record(study, "metric")
            table = trial_table(storage.load_study(study, url if record.get("storage") else None))
            found[str(study)] = table.replace_schema_metadata({"metric": record["config"]["metric"]})
    names = {path: Path(path).name for path in found}
    twice = len(set(names.values())) < len(names)
    return {path if twice else names[path]: table for path, table in found.items()}


def joined(studies: Mapping[str, pa.Table]) -> pa.Table:
    """One table of all trials, with the study's name first; hyperparameters that a study lacks are null."""
    named = [
        table.replace_schema_metadata(None).add_column(0, "study", pa.array([name] * table.num_rows, pa.string()))
        for name, table in studies.items()
    ]
    try:
        return pa.concat_tables(named, promote_options="permissive")
    except pa.ArrowTypeError:  # a hyperparameter that is a number here and a word there
        return pa.concat_tables([_words(table) for table in named], promote_options="permissive")


def as_bytes(table: pa.Table, format: str) -> bytes:
    """``table`` as a file of ``format``: csv, json (a list of trials; NaN is null) or parquet."""
    sink = io.BytesIO()
    if format == "parquet":
        pq.write_table(table, sink)
    elif format == "csv":
        pa.csv.write_csv(_flat(table), sink)
    else:
        rows = [{key: _plain(value) for key, value in row.items()} for row in table.to_pylist()]
        sink.write((json.dumps(rows, indent=2) + "\n").encode())
    return sink.getvalue()


def _studies(folder: Path) -> list[Path]:
    if (folder / "study.json").exists():
        return [folder]
    inside = sorted(path.parent for path in folder.glob("*/study.json")) if folder.is_dir() else []
    if not inside:
        raise ValueError(f"{folder} holds no study.json; give the folder of a study, or one that holds studies")
    return inside


def _words(table: pa.Table) -> pa.Table:
    for i, name in enumerate(table.column_names):
        if name.startswith("params_"):
            table = table.set_column(
                i, name, pa.array([_word(value) for value in table[name].to_pylist()], pa.string())
            )
    return table


def _word(value: Any) -> str | None:
    return None if value is None else str(value)


def _flat(table: pa.Table) -> pa.Table:
    """Lists as JSON text, which a CSV file can hold."""
    for i, column in enumerate(table.schema):
        if pa.types.is_list(column.type):
            texts = [None if value is None else json.dumps(value) for value in table.column(i).to_pylist()]
            table = table.set_column(i, column.name, pa.array(texts, pa.string()))
    return table


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, int | str | bool) else value.isoformat()
