"""trials.parquet: one row per trial of a real Optuna study."""

import json
from pathlib import Path

import optuna
import pyarrow.parquet as pq
import pytest

from study.scoring.trial_table import read_trials, trial_table, write_trials
from study.search.storage import load_study


def test_trials_parquet_has_a_row_per_trial(results_folder: Path) -> None:
    table = write_trials(load_study(results_folder), results_folder)
    assert pq.read_table(results_folder / "trials.parquet").equals(table)
    rows = {row["number"]: row for row in table.to_pylist()}
    assert sorted(rows) == list(range(9))
    assert [rows[n]["state"] for n in (0, 3, 4, 8)] == ["COMPLETE", "PRUNED", "FAIL", "RUNNING"]
    assert rows[4]["reason"] == "loss is nan at step 120 </script>" and rows[0]["reason"] is None
    assert rows[3]["intermediate_steps"] == [1, 2] and len(rows[0]["intermediate_values"]) == 4
    assert rows[0]["value"] == pytest.approx(rows[0]["intermediate_values"][-1])
    assert rows[0]["step"] == 400 and rows[0]["seconds"] == 75.0
    assert 4 <= rows[0]["params_num_slots"] <= 12 and rows[8]["params_lr"] is None
    assert {json.loads(rows[n]["params_kernel"]) for n in range(8)} <= {3, "<b>wide</b>", None}
    assert rows[8]["params_kernel"] is None, "not suggested yet"
    complete = [row["value"] for row in table.to_pylist() if row["state"] == "COMPLETE"]
    assert complete == sorted(complete, reverse=True), "best first"
    states = [row["state"] for row in table.to_pylist()]
    assert states == sorted(states, key=["COMPLETE", "PRUNED", "RUNNING", "FAIL"].index)


def test_numbers_and_states_are_read_back_in_order(results_folder: Path) -> None:
    write_trials(load_study(results_folder), results_folder)
    read = read_trials(results_folder)
    assert read[:2] == [(0, "COMPLETE"), (7, "COMPLETE")] and read[-1] == (4, "FAIL") and len(read) == 9
    (results_folder / "trials.parquet").write_bytes(b"damaged")
    assert read_trials(results_folder) == read_trials(results_folder.parent) == []


@pytest.mark.parametrize("choices", [["a", 1], [1, "a"]])
def test_a_hyperparameter_of_mixed_types_is_json(choices: list) -> None:
    study = optuna.create_study()
    for choice in choices:
        distributions = {"kernel": optuna.distributions.CategoricalDistribution(choices)}
        study.add_trial(optuna.trial.create_trial(value=0.0, params={"kernel": choice}, distributions=distributions))
    assert trial_table(study)["params_kernel"].to_pylist() == [json.dumps(choice) for choice in choices]


def test_minimised_metrics_rank_the_smallest_first() -> None:
    study = optuna.create_study(direction="minimize")
    for value in (3.0, 1.0, 2.0):
        study.add_trial(optuna.trial.create_trial(value=value))
    assert trial_table(study)["value"].to_pylist() == [1.0, 2.0, 3.0]
