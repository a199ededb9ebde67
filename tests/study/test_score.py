"""Further splits in the table of a study that has ended."""

import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from rich.console import Console

import trainables
from data import convert, plugins, spec
from data.loader import Split
from study import presets, score
from study.config import StudyConfig
from study.results_folder import StudyFolder
from study.scoring import added, evaluation, metric_files, objects, ranking
from study.scoring.evaluation import EVALUATION, Entry
from study.scoring.ranking import Finalist, Run
from tests import own_folder
from tests.study.results import open_study
from trainables import checkpoint
from trainables.scoring import evaluate, restore_model

DATA = "synthetic:plain-40scenes-(32,32)"
MODELS = {"slot_attention": 5, "monet": 9}
"""Of the one the noise counts, of the other it does not."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Converted data of these tests."""
    return str(tmp_path_factory.mktemp("cache"))


def made(folder: Path, model: str = "slot_attention") -> StudyFolder:
    """A study after its final stage but for the scores: one trial, whose weights are those that it began with."""
    folder.mkdir(parents=True)
    values = presets.preset_values(model, "tiny")
    torch.manual_seed(MODELS[model])
    state = {"model": model, "image_size": 32, "step": 4, "hyperparameters": values}
    trial = StudyFolder(folder).trial(0)
    trial.mkdir(parents=True)
    checkpoint.save(trial, {**state, "weights": trainables.build(model, values, 32).state_dict()})
    config = {"model": model, "data": DATA, "size": 32, "preset": "tiny", "steps": 4, "reports": 2, "seed": 3}
    record = {"config": {**config, "metric": "mIoU_fg"}, "base": {"max_objects": 5}, "best_grid": "2x3", "data": {}}
    record["data"] = {"spec": DATA, "counts": {"train": 40, "test": 400}, "final_splits": {"test": f"{DATA} test"}}
    (folder / "study.json").write_text(json.dumps(record))
    ranking.write(folder, [Finalist("base", 0, (Run(3, "trials/trial_0000", 0.5),))], asked={"finalists": 1})
    (folder / "best.json").write_text(json.dumps({"entry": "base", "trial": 0, "seed": 3}))
    study = open_study(folder)
    study.tell(study.ask(), 0.5)
    return StudyFolder(folder)


def final_stage(folder: StudyFolder, cache: str) -> list[Entry]:
    """Score the study's own test split, as its own command does."""
    index = convert.prepare(spec.parse(DATA), cache=cache)
    record = folder.read()
    assert record is not None
    asked = StudyConfig(model=record["config"]["model"], data=DATA, preset="tiny", steps=4, reports=2, pruner="none")
    study = presets.resolve(asked, has_gpu=False)
    study = presets.Resolved(asked, "tiny", study.data, 4, 0.0, folder)
    chosen = evaluation.entries(folder, ranking.read(folder.path), "grid_2x3")
    evaluation.evaluate_study(study, chosen, {"test": (index, "test")}, 5, Console(quiet=True))
    return chosen


def rows(folder: StudyFolder, split: str, file: str = EVALUATION) -> list[dict]:
    """The rows of ``split``; None where a value is NaN, which equals nothing."""
    found = [row for row in pq.read_table(folder.path / file).to_pylist() if row["split"] == split]
    return [{key: None if value != value else value for key, value in row.items()} for row in found]


@pytest.mark.ray
def test_a_split_joins_the_table_once(
    tmp_path: Path, cache: str, ray_cluster: None, capsys: pytest.CaptureFixture
) -> None:
    folder = made(tmp_path / "study")
    final_stage(folder, cache)
    before = rows(folder, "test")
    typed = [str(folder.path), "--split", "0.4", "--cache", cache]
    assert score.main(typed) == 0, capsys.readouterr().err
    assert rows(folder, "test") == before
    new = rows(folder, "0.4")
    assert {row["entry"] for row in new} == {row["entry"] for row in before} and len(new) == len(before)
    first, other = (next(row for row in found if row["entry"] == "base") for found in (before, new))
    assert first["MSE"] != other["MSE"] and {row["draws"] for row in new} == {1}
    assert len(rows(folder, "0.4", objects.FILE)) > 400 < len(rows(folder, "test", objects.FILE))
    assert (folder.path / "pictures" / "slots" / "base_0.4.png").exists()
    html = (folder.path / "report.html").read_text()
    assert "0.4 (synthetic:0.4-(32,32) test)" in html and "scored after the study&#x27;s end" in html
    assert "study/score.py results/study --split 0.4 --data &#x27;synthetic:0.4-(32,32)&#x27;" in html
    record = folder.read()
    assert record is not None and record["added"]["0.4"]["split"] == "test"

    times = [(folder.path / name).stat().st_mtime_ns for name in (EVALUATION, "report.html", "study.json")]
    capsys.readouterr()
    assert score.main(typed) == 0
    assert "0.4 is scored already" in capsys.readouterr().err
    assert times == [(folder.path / name).stat().st_mtime_ns for name in (EVALUATION, "report.html", "study.json")]

    final_stage(folder, cache)
    assert rows(folder, "0.4") == new, "the study's own command keeps it"
    (path,) = folder.trial(0).glob("*.pt")
    state = checkpoint.load(path)
    name = next(iter(state["weights"]))
    state["weights"][name] = state["weights"][name] + 1
    checkpoint.save(folder.trial(0), state)
    final_stage(folder, cache)
    assert {row["entry"] for row in rows(folder, "0.4")} == {row["entry"] for row in new} - {"base"}, "other weights"
    line = "0.4 is not scored for all finalists; `clevrtune score results/study --split 0.4 ...` scores the others"
    assert added.remarks(folder.path, record) == [line]


@pytest.mark.ray
@pytest.mark.parametrize("model", MODELS)
def test_scores_are_means_over_draws_of_noise(model: str, tmp_path: Path, cache: str, ray_cluster: None) -> None:
    folder = made(tmp_path / "study", model)
    final_stage(folder, cache)
    part = ["--data", "synthetic:plain-40scenes", "--part", "camo", "--split", "hidden", "--cache", cache]
    assert score.main([str(folder.path), *part, "--draws", "3"]) == 0
    index = convert.prepare(spec.parse(DATA), cache=cache)
    split = Split([index.read(shard) for shard in index.shards("camo")])
    state = checkpoint.newest(folder.trial(0))
    assert state is not None
    draws = [evaluate(restore_model(state), split, np.arange(len(split)), step=4, draw=draw) for draw in range(3)]
    found = [row for row in rows(folder, "hidden") if row["entry"] == "base"]
    noisy = model == "slot_attention"
    assert {row["draws"] for row in found} == {3 if noisy else 1}
    assert noisy == (not np.array_equal(draws[0]["MSE"], draws[1]["MSE"]))
    for metric in ("mIoU_fg", "ARI_FG", "MSE"):
        wanted = np.mean([draw[metric] for draw in draws], 0)
        means = [math.nan if row[metric] is None else row[metric] for row in found]
        assert means == pytest.approx(wanted.tolist(), nan_ok=True), metric
    note = "draws of noise over which scores are means, for models that draw it: 1, 3 on hidden"
    assert note in (folder.path / "report.html").read_text()
    times = (folder.path / EVALUATION).stat().st_mtime_ns
    assert score.main([str(folder.path), *part]) == 0
    assert (folder.path / EVALUATION).stat().st_mtime_ns == times, "by default as many draws as before"


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["--split", "pbg"], "--split pbg: say with --data which images these are; without --data there are 0.2, 0.4"),
        (["--split", "test"], "--split test is one of the study's own; its command scores it"),
        (["--split", "a/b", "--data", "synthetic:0.4"], "--split 'a/b': a split is called by letters"),
        (["--split", "x", "--data", "synthetic:9"], "9"),
        (["--split", "x", "--data", "nothing"], "data set 'nothing' is unknown"),
        (["--split", "x", "--data", "synthetic:0.4-(64,64)"], "the models were trained at (32, 32) without crop"),
        (["--split", "x", "--data", "clevrtex:pbg-crop"], "the models were trained at (32, 32) without crop"),
        (["--split", "x", "--data", DATA, "--part", "val"], "the models were trained or chosen on these images"),
        (["--split", "x", "--data", DATA, "--part", "all"], "the models were trained or chosen on these images"),
        (["--split", "x", "--data", "concat(synthetic:0,synthetic:1)"], "score one data set at a time"),
        (["--split", "x", "--data", "clevrtex:pbg", "--data-root", "/nowhere"], "/nowhere"),
        (["--split", "x", "--data", "clevrtex:pbg"], "clevrtex:pbg-(32,32) is not in"),
        (["--split", "0.4", "--draws", "0"], "--draws is 0; it must be above zero"),
        (["--split", "0.4", "--gpus", "-1"], "--gpus is -1"),
        ([], "--split"),
    ],
)
def test_bad_input_is_one_line(
    typed: list[str], said: str, tmp_path: Path, cache: str, capsys: pytest.CaptureFixture
) -> None:
    folder = made(tmp_path / "study")
    pq.write_table(pa.table({"entry": ["base"], "seed": [3], "split": ["test"]}), folder.path / EVALUATION)
    assert score.main([str(folder.path), *typed, "--cache", cache]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and said in error, error


def test_an_edited_metric_is_scored_by_the_study_first(
    tmp_path: Path, cache: str, capsys: pytest.CaptureFixture
) -> None:
    folder = made(tmp_path / "study")
    with own_folder.kept_out():
        mine = Path(plugins.use(own_folder.write(tmp_path / "mine", own_folder.METRIC)))
        row = {"entry": ["base"], "seed": [3], "split": ["test"], "source": [f"w, t{metric_files.part()}"]}
        pq.write_table(pa.table(row), folder.path / EVALUATION)
        (mine / own_folder.METRIC).write_text((mine / own_folder.METRIC).read_text() + "# edited\n")
        assert score.main([str(folder.path), "--split", "0.4", "--cache", cache]) == 2
    error = capsys.readouterr().err
    said = "the metric coverage is new or was edited since study was scored; type the study's own command again"
    assert said in error and error.count("\n") == 1


def test_a_database_is_asked_for_before_anything_is_scored(
    tmp_path: Path, cache: str, capsys: pytest.CaptureFixture
) -> None:
    folder = made(tmp_path / "study")
    pq.write_table(pa.table({"entry": ["base"], "seed": [3], "split": ["test"]}), folder.path / EVALUATION)
    url = f"sqlite:///{tmp_path}/trials.db"
    folder.write(storage=url)
    before = sorted(path.name for path in folder.path.iterdir())
    typed = [str(folder.path), "--split", "0.4", "--cache", cache]
    for more, said in (
        ([], f"study keeps its trials in a database; say --storage {url} to open it"),
        (["--storage", url], f"{url} does not hold the study of"),
    ):
        assert score.main([*typed, *more]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1 and said in error, error
    assert sorted(path.name for path in folder.path.iterdir()) == before
    assert "added" not in (folder.read() or {})


def test_a_study_without_a_final_stage_is_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = made(tmp_path / "study")
    assert score.main([str(folder.path), "--split", "0.4"]) == 2
    assert "has no complete final stage; run the study's own command to its end first" in capsys.readouterr().err
    assert score.main([str(tmp_path), "--split", "0.4"]) == 2
    assert "holds no study.json" in capsys.readouterr().err
