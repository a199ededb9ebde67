"""The real command from end to end: study, event files, final stage, report; then kills and continuations."""

import html
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pyarrow.parquet as pq
import pytest
import torch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from study.results_folder import ROOT
from study.scoring import ranking
from study.scoring.evaluation import load_best
from study.scoring.ranking import Run
from tests import few_images, own_folder
from tests.few_images import IMAGES, TRAIN
from trainables import checkpoint, noise

pytestmark = pytest.mark.ray

SMALL = ["--steps", "20", "--reports", "5", "--validation-images", "40"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where this module's studies and shards go."""
    return tmp_path_factory.mktemp("studies")


def command(place, *more):
    where = ["--results", str(place / "results"), "--cache", str(place / "cache"), "--name", "small"]
    words = ["--model", "slot_attention", *few_images.flags(place / "mine"), *SMALL, *where]
    return [sys.executable, str(ROOT / "study" / "run.py"), *words, *more]


def run(place, *more, cwd=None):
    return subprocess.run(command(place, *more), capture_output=True, text=True, cwd=cwd or place, timeout=600)


def stored(folder, more=""):
    """The trials as they are in the storage: the study's, or with ``more`` those of another study there."""
    backend = JournalFileBackend(str(folder / "optuna.journal"))
    return optuna.load_study(study_name=folder.name + more, storage=JournalStorage(backend)).get_trials()


def events(folder):
    accumulator = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0})
    accumulator.Reload()
    return accumulator


@pytest.fixture(scope="module")
def finished(place):
    """A small study, run to its end by the real command from another directory."""
    done = run(place, "--trials", "4", "--finalists", "2", "--pruner", "none")
    assert done.returncode == 0, done.stdout + done.stderr
    return place / "results" / "small", done


def test_the_storage_holds_the_trials(finished):
    folder, _ = finished
    trials = stored(folder)
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 4
    assert all(list(trial.intermediate_values) == [1, 2, 3, 4, 5] for trial in trials)
    assert "more than 4 --trials goes on from here; what more trials would bring cannot be known" in finished[1].stdout
    record = json.loads((folder / "study.json").read_text())
    assert trials[0].params == {key: record["base"][key] for key in trials[0].params}
    assert 0 < record["timing"]["busy_share"] <= 1


def test_a_finished_study_asked_again_ends_with_the_same_lines_and_changes_nothing(finished, place):
    folder, done = finished
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    again = run(place, "--trials", "4", "--finalists", "2", "--pruner", "none", "--concurrent", "1")
    first, *lines = again.stdout.splitlines()
    assert first == f"{folder} is finished: nothing is left to do" and lines[0].startswith("found:  ")
    assert again.returncode == 0 and done.stdout.endswith("\n".join(lines) + "\n")
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    for what in ("drawing ", "loading ", "starting workers", "scoring "):
        assert any(line.startswith(what) for line in done.stdout.splitlines()), "a long step without a line"


def test_the_printed_command_trains_the_winner_again_with_more_steps(finished, place):
    folder, done = finished
    (words,) = [shlex.split(line)[1:] for line in done.stdout.splitlines() if line.startswith("longer: ")]
    assert words[:2] == ["python", "study/run.py"]
    assert html.escape(shlex.join(words)) in (folder / "report.html").read_text(), "at the top of the report"
    words = [sys.executable, *words[1:]]
    longer = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=600)
    assert longer.returncode == 0, longer.stdout + longer.stderr
    (trial,) = [one for one in stored(place / "results" / "small-60-steps") if one.state.is_finished()]
    winner = json.loads((folder / "best.json").read_text())["hyperparameters"]
    assert trial.user_attrs["progress"]["step"] == 60 and trial.params.items() <= winner.items()


def test_the_event_files_hold_curves_pictures_and_hyperparameters(finished):
    folder, _ = finished
    for trial in stored(folder):
        found = events(folder / "trials" / f"trial_{trial.number:04d}")
        tags = found.Tags()
        assert {"train/loss", "val/mIoU_fg", "val/ARI_FG", "val/MSE", "lr"} <= set(tags["scalars"])
        assert [event.step for event in found.Scalars("val/mIoU_fg")] == [4, 8, 12, 16, 20]
        assert found.Scalars("val/mIoU_fg")[-1].value == pytest.approx(trial.value, abs=1e-6)
        assert "panel" in tags["images"]
        assert any("hparams" in tag for tag in found.summary_metadata)


def test_the_final_stage_scores_trials_and_baselines_image_by_image(finished):
    folder, done = finished
    table = pq.read_table(folder / "evaluation.parquet").to_pandas()
    counts = table.groupby(["entry", "seed", "split"], dropna=False).size()
    assert set(table["split"]) == {"test", "outd", "camo", "camo_textured"}
    best = sorted(stored(folder)[1:], key=lambda trial: -trial.value)[:2]
    trained = {"base", *(f"trial_{trial.number:04d}" for trial in best)}
    untrained = ("background", "grid_4x4", "grid_best", "kmeans")
    assert set(table["entry"]) == {*trained, *(f"baseline_{name}" for name in untrained)}
    assert (counts == IMAGES).all() and len(counts) == (2 * len(trained) + 4) * 4
    assert table.groupby(["entry", "seed", "split"], dropna=False)["image"].nunique().eq(IMAGES).all()
    assert table["seed"].isna().eq(table["entry"].str.startswith("baseline_")).all()
    assert "grid" in done.stdout and "±" in done.stdout and "- base" in done.stdout
    assert "test: " in done.stdout and "validation: " in done.stdout
    assert table[["mBO", "mBO_fg", "seg_found", "seg_kmeans"]].notna().all().all()
    said = " ".join(done.stdout.split())
    assert "base on test: " in said and "kmeans on test: " not in said and "on camo" not in said
    grid = json.loads((folder / "study.json").read_text())["best_grid"]
    assert f"the best fixed grid on validation is {grid}" in said
    assert (folder / "report.html").stat().st_size > 10_000
    assert pq.read_table(folder / "trials.parquet").num_rows == 4


def test_the_winner_is_scored_at_all_strengths_of_texture(finished, place):
    """Without retraining; test labels choose nothing, so the places come after the choice."""
    folder, done = finished
    strengths = ["0", "0.2", "0.4", "0.6", "0.8", "1"]
    best = json.loads((folder / "best.json").read_text())
    table = pq.read_table(folder / "curve.parquet").to_pandas()
    assert set(table["entry"]) == {best["entry"], "baseline_grid_4x4", "baseline_grid_best", "baseline_kmeans"}
    assert set(table["seed"].dropna()) == {best["seed"]}, "the run that is exported"
    assert (table.groupby(["entry", "split"]).size() == IMAGES).all() and set(table["split"]) == {*strengths}
    scored = pq.read_table(folder / "evaluation.parquet").to_pandas()
    for entry in ("baseline_kmeans", best["entry"]):
        own = table[(table["entry"] == entry) & (table["split"] == "0")].set_index("image")["mIoU_fg"]
        test = scored[(scored["entry"] == entry) & (scored["split"] == "test")]
        test = test[test["seed"].isna() | (test["seed"] == best["seed"])].set_index("image")["mIoU_fg"]
        assert own.equals(test), "plain is what it was trained on"
    kmeans = table[table["entry"] == "baseline_kmeans"].groupby("split")["mIoU_fg"].mean()
    assert kmeans["0"] > kmeans["0.4"] > kmeans["1"], "textures are harder"
    assert "strength of texture 0 / 0.2 / 0.4 / 0.6 / 0.8 / 1: mIoU_fg of " in done.stdout
    assert "Curve over the strength of texture" in (folder / "report.html").read_text()
    converted = {path.name for path in (place / "cache").iterdir()}
    assert {"few-0.4-test-32x32-v2", "few-textured-test-32x32-v2"} <= converted
    assert not any(name.startswith("few-0.4-32x32") for name in converted), "no scenes to train on"


def test_finalists_and_the_base_are_trained_anew_and_validation_chooses_among_them(finished):
    folder, done = finished
    reruns, chosen = stored(folder, "-finalists"), ranking.read(folder)
    assert [trial.state.name for trial in reruns] == ["COMPLETE"] * 2 * len(chosen)
    assert all(list(trial.intermediate_values) == [1, 2, 3, 4, 5] for trial in reruns), "none is pruned"
    seeds = [run.seed for run in chosen[0].runs]
    assert len(set(seeds)) == 2 and 0 not in seeds and all([r.seed for r in f.runs] == seeds for f in chosen)
    values = {run.folder: run.value for finalist in chosen for run in finalist.runs}
    assert values == {f"finalists/trials/trial_{trial.number:04d}": trial.value for trial in reruns}
    assert len(set(values.values())) == len(values), "each seed and each configuration gives another score"
    assert [f.mean for f in chosen] == sorted((f.mean for f in chosen), reverse=True)
    best = json.loads((folder / "best.json").read_text())
    assert (best["entry"], best["trial"], best["seed"]) == (chosen[0].entry, chosen[0].trial, seeds[0])
    assert best["value"] == pytest.approx(sum(best["values"].values()) / 2)
    search = stored(folder)
    for finalist in chosen:
        state = checkpoint.newest(folder / finalist.runs[0].folder)
        for key, value in search[finalist.trial or 0].params.items():
            assert state["hyperparameters"][key] == value, (finalist.entry, key)
    assert f"{len(reruns)} reruns to go" in done.stdout and f"{len(reruns)}/{len(reruns)} reruns: " in done.stdout


def test_with_one_seed_the_searchs_own_checkpoints_are_scored_and_the_base_too(finished, place):
    """The same without the time for more; then as many seeds as before: nothing is trained again."""
    folder, _ = finished
    reruns = [(t.number, t.datetime_complete) for t in stored(folder, "-finalists")]
    before, best = ranking.read(folder), (folder / "best.json").read_bytes()
    one = ["--trials", "4", "--finalists", "1", "--pruner", "none"]
    done = run(place, *one, "--seeds", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    trials = {f"trial_{trial.number:04d}": trial.value for trial in stored(folder)}
    found = {finalist.entry: finalist.runs for finalist in ranking.read(folder)}
    assert found.pop("base")[0] == Run(0, "trials/trial_0000", trials["trial_0000"])
    for entry, (only,) in found.items():
        assert only == Run(0, f"trials/{entry}", max(trials.values()))
    assert "one seed says little" in done.stdout and "±" not in done.stdout
    alone = ranking.read(folder)
    done = run(place, *one, "--seeds", "5", "--hours", "1e-9")
    assert "not all finalists are trained anew" in done.stdout and ranking.read(folder) == alone
    done = run(place, "--trials", "4", "--finalists", "2", "--pruner", "none")
    assert done.returncode == 0 and "reruns" not in done.stdout, done.stdout
    assert [(t.number, t.datetime_complete) for t in stored(folder, "-finalists")] == reruns
    assert ranking.read(folder) == before and (folder / "best.json").read_bytes() == best


def test_several_models_end_in_one_leaderboard(place):
    more = ["--model", "slot_attention,space", "--trials", "1", "--seeds", "1", "--name", "both"]
    more += ["--data-fraction", "0.25", "--profile"]
    done = run(place, *more)
    assert done.returncode == 0, done.stdout + done.stderr
    results = place / "results"
    record = json.loads((results / "both-space" / "study.json").read_text())
    counts = record["data"]["counts"]
    assert (counts["train"], counts["val"], record["config"]["data_fraction"]) == (TRAIN // 4, IMAGES, 0.25)
    assert record["data"]["incomplete"] and f"train {TRAIN // 4} of {TRAIN} (--data-fraction 0.25)" in done.stdout
    assert (results / "both-slot_attention" / "best.json").exists() and (results / "both-space" / "best.json").exists()
    (table,) = done.stdout.split("winner of each study")[1:]
    assert "slot_attention" in table and "space" in table and "grid 4x4" in table
    page = (results / "comparison-both.html").read_text()
    assert "Curve over the strength of texture" in page and page.count('"diamond"') >= 2, "one picture of both"
    for model in ("slot_attention", "space"):  # a profile of trial 0, and not of the reruns
        assert len(list((results / f"both-{model}").rglob("steps_6_to_10.pt.trace.json.gz"))) == 1
    assert done.stdout.count("| aten::mkldnn_convolution |") == done.stdout.count("costliest operations") == 2
    # what is wrong with the second study is said before the first one starts
    refused = run(place, *more, "--set", "sigma_bg=0.1", "--fresh")
    assert refused.returncode == 2 and "slot_attention" in refused.stderr, refused.stderr
    assert (results / "both-slot_attention" / "best.json").exists()


def test_the_exported_model_is_the_best_trials(finished):
    folder, _ = finished
    state = checkpoint.newest(folder / ranking.read(folder)[0].runs[0].folder)
    with own_folder.kept_out():
        model = load_best(folder / "best")
    assert state is not None and state["step"] == 20
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, state["weights"][name])
    with torch.no_grad(), noise.drawn_from(torch.Generator().manual_seed(0)):
        model(torch.rand(2, 3, 32, 32), 20).check(torch.rand(2, 3, 32, 32))


def test_files_that_are_not_read_again_are_deleted(finished):
    folder, _ = finished
    for path in [*(folder / "trials").iterdir(), *(folder / "finalists" / "trials").iterdir()]:
        assert path.name.startswith("trial_")
        assert len(list(path.glob("checkpoint_*"))) == 1


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--pruner", "none", "--seed", "1"], "seed is 0 there and 1 here"),
        (["--pruner", "none", "--set", "lr=0.5"], "set is {} there"),
        (["--pruner", "none", "--cpus", "64"], "--cpus 64 per trial"),
        (
            ["--pruner", "none", "--profile"],
            "--profile is of the first steps of trial 0, and study small began without",
        ),
        (["--fresh", "--data", "clevrtex:full", "--data-root", "/nowhere"], "/nowhere"),
    ],
)
def test_what_cannot_be_continued_is_refused_in_one_line(finished, place, more, says):
    folder, _ = finished
    journal = (folder / "optuna.journal").read_bytes()
    refused = run(place, "--trials", "9", *more)
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: ") and refused.stderr.count("\n") == 1
    assert says in refused.stderr
    assert (folder / "optuna.journal").read_bytes() == journal


def test_a_results_folder_that_is_a_file_is_one_clear_line(place):
    (place / "file").write_text("")
    refused = run(place, "--results", str(place / "file"))
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: ") and refused.stderr.count("\n") == 1
    assert str(place / "file") in refused.stderr


def test_a_dry_run_says_what_would_happen_and_leaves_nothing(place):
    said = run(place, "--name", "dry", "--dry-run", "--set", "lr=0.001", "--data-fraction", "0.1")
    assert said.returncode == 0 and said.stderr == "", said.stderr
    for words in (
        f"train {TRAIN // 10} of {TRAIN} (--data-fraction 0.1), val {IMAGES}",
        "parameters:",
        "one full trial:",
        "num_slots",
        "fixed",
    ):
        assert words in said.stdout
    assert not (place / "results" / "dry").exists()


def test_a_driver_killed_in_the_middle_is_continued_by_the_same_command(finished, place):
    """More trials and seeds on the finished study, kill -9 in the search and in the final stage; each time again."""
    folder, _ = finished
    more = ["--trials", "7", "--finalists", "2", "--seeds", "3", "--pruner", "none", "--concurrent", "2"]
    interrupted = killed(folder, command(place, *more))
    params = {trial.number: trial.params for trial in stored(folder)}
    before = {trial.number: trial.value for trial in stored(folder) if trial.state.name == "COMPLETE"}

    in_the_final_stage = killed(folder, command(place, *more), "-finalists")
    trials = stored(folder)
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 7
    assert all(trial.params == params.get(trial.number, trial.params) for trial in trials)
    assert all(trials[number].value == value for number, value in before.items())
    trained = {t.number: t.datetime_complete for t in stored(folder, "-finalists") if t.state.name == "COMPLETE"}
    assert trained, "of the first time"

    again = run(place, *more)
    assert again.returncode == 0, again.stdout + again.stderr
    assert stored(folder) == trials, "the search was over"
    reruns = stored(folder, "-finalists")
    assert all(reruns[number].datetime_complete == ended for number, ended in trained.items()), "trained twice"
    keys = [(trial.user_attrs["key"]) for trial in reruns]
    assert len(set(keys)) == len(keys) and {trial.state.name for trial in reruns} == {"COMPLETE"}
    assert all(len(finalist.complete) == 3 for finalist in ranking.read(folder))
    for where, numbers in ((folder, interrupted), (folder / "finalists", in_the_final_stage)):
        for number, step in numbers.items():
            assert list((trials if where == folder else reruns)[number].intermediate_values) == [1, 2, 3, 4, 5]
            files = sorted((where / "trials" / f"trial_{number:04d}").glob("events.out.*"), key=os.path.getmtime)
            first = min(event.step for event in events(files[-1]).Scalars("val/mIoU_fg"))
            assert first > step, f"trial {number} had a checkpoint at step {step} and began again before it"


def killed(folder, words, more=""):
    """Start a command and kill it when a trial has a checkpoint in its middle; such trials as in ``halfway``."""
    printed = folder.parents[1] / f"{folder.name}{more}-printed.txt"
    with printed.open("w") as file:
        driver = subprocess.Popen(words, stdout=file, stderr=file, start_new_session=True)
    deadline = time.monotonic() + 300
    while not halfway(folder, more) and time.monotonic() < deadline and driver.poll() is None:
        time.sleep(0.1)
    assert driver.poll() is None, f"ended before it could be killed:\n{printed.read_text()}"
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    interrupted = halfway(folder, more)
    assert interrupted, "no trial was killed between its first checkpoint and its end"
    return interrupted


def halfway(folder: Path, more: str) -> dict[int, int]:
    """Running trials, by number, whose newest whole checkpoint is neither their first step nor their last."""
    steps = {}
    trials = folder / "finalists" / "trials" if more else folder / "trials"
    for trial in stored(folder, more):
        if trial.state.name == "RUNNING":
            state = checkpoint.newest(trials / f"trial_{trial.number:04d}")
            if state is not None and state["step"] < 20:
                steps[trial.number] = state["step"]
    return steps
