"""What a study can be: values are checked one by one, and errors are one line with the value and the remedy."""

import dataclasses
import subprocess
import sys

import pytest
from rich.console import Console

from study import stages
from study.config import StudyConfig
from study.presets import resolve
from study.results_folder import refuse_other_identity
from tests.documents import ROOT


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"model": "spcae"}, "did you mean space"),
        ({"metric": "mIoU"}, "choose one of mIoU_fg"),
        (
            {"metric": "mIoU_fg,speed"},
            "'speed' is unknown; choose one of mIoU_fg, ARI_FG, MSE, loss, seconds, parameters",
        ),
        ({"metric": "seconds"}, "put a score first, as in mIoU_fg,seconds"),
        ({"metric": "mIoU_fg,seconds", "pruner": "asha"}, "leave --pruner out, or name one goal"),
        ({"metric": "mIoU_fg,MSE", "pruner": "median"}, "--pruner median compares trials by one goal"),
        ({"metric": "mIoU_fg,seconds", "profile": True}, "--profile makes trial 0 slower"),
        ({"metric": "mIoU_fg,seconds", "compile": True}, "--compile takes time of some trials"),
        ({"metric": "mIoU_fg,seconds", "sampler": "prior"}, "take --sampler tpe, nsga2, gp or random"),
        ({"metric": "mIoU_fg,seconds", "sampler": "cmaes"}, "--sampler cmaes learns from one goal"),
        ({"sampler": "nsga2"}, "add --pruner none"),
        ({"data": "synthetic:shiny"}, "shiny"),
        ({"data": "synthetic:nan"}, "'nan' is unknown"),
        ({"data": "synthetic:1.2"}, "from 0 to 1"),
        ({"scenes": 0}, "--scenes is 0"),
        ({"scenes": -5}, "--scenes is -5"),
        ({"scenes": 10**10}, "--scenes is 10000000000; 1,000,000,000 is the most"),
        ({"scenes": 50, "data": "clevrtex"}, "clevrtex has a fixed number of scenes; leave out --scenes"),
        ({"scenes": 50, "data": "synthetic:0.4-60scenes"}, "for 60 and for 50 scenes"),
        ({"data": "synthetic:0.4-10000000000scenes"}, "1,000,000,000 scenes are the most"),
        ({"log": ["mlflow,comet"]}, "--log comet is unknown; choose wandb or mlflow"),
        ({"trials": 0}, "--trials is 0"),
        ({"steps": -5}, "--steps is -5"),
        ({"steps": 5, "reports": 6}, "below --reports"),
        ({"reports": 2}, "give 3 or more, or --pruner none"),
        ({"sampler": "cmaes", "pruner": "median"}, "learns from complete trials only"),
        ({"cpus": 0.0}, "--cpus is 0"),
        ({"cpus": float("inf")}, "--cpus is inf"),
        ({"gpus": float("inf")}, "--gpus is inf"),
        ({"keep_checkpoints": 0}, "--keep-checkpoints is 0"),
        ({"trial_timeout": float("nan")}, "--trial-timeout is nan"),
        ({"gpus": -1.0}, "--gpus is -1"),
        ({"workers_per_trial": 0}, "--workers-per-trial is 0"),
        ({"workers_per_trial": 2, "gpus": 0.25}, "need a GPU each"),
        ({"hours": 0.0}, "--hours is 0"),
        ({"patience": 0.0}, "--patience is 0"),
        ({"patience": float("nan")}, "--patience is nan"),
        ({"micro_batch": 0}, "--micro-batch is 0"),
        ({"validation_images": 0}, "--validation-images is 0"),
        ({"data_fraction": 0.0}, "--data-fraction is 0.0; it must be above 0 and at most 1"),
        ({"data_fraction": -0.1}, "--data-fraction is -0.1"),
        ({"data_fraction": 1.5}, "--data-fraction is 1.5"),
        ({"data_fraction": float("nan")}, "--data-fraction is nan"),
        ({"seed": -1}, "--seed is -1"),
        ({"finalists": 0}, "--finalists is 0"),
        ({"seeds": 0}, "--seeds is 0"),
        ({"address": "ray://head:10001"}, "study/submit.py"),
        ({"address": "http://head:8265"}, "study/submit.py"),
        ({"results": "s3://bucket/results"}, "folder on a disk"),
        ({"name": "a/b"}, "plain folder name"),
        *(({"name": name}, "begins with a letter or a digit") for name in ("-", "---", ".", "-x")),
        ({"name": "mine-finalists"}, "choose another"),
        ({"set": {"lr": "fast"}}, "lr is 'fast'"),
        ({"set": {"lrr": "1"}}, "did you mean lr"),
        ({"set": {"lr": "-1"}}, "above zero"),
        ({"set": {"steps": "10"}}, "--steps"),
        ({"space": ["lrr=1..2"]}, "did you mean lr"),
        ({"space": ["steps=10..20"]}, "--steps"),
        ({"space": ["lr=1e-4..1e-3"], "set": {"lr": 1e-3}}, "--set lr and --space lr"),
    ],
)
def test_a_value_that_no_study_can_have_is_named(arguments, says):
    with pytest.raises(ValueError) as caught:
        StudyConfig(**{"model": "slot_attention", **arguments})
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_values_set_by_hand_have_to_fit_the_preset_and_not_the_published_configuration():
    # the published schedule ends before the share 0.1, at 1/75; the tiny one does not
    fits = StudyConfig(model="gnm", set={"rho_first_frac": "0.1"}, preset="tiny")
    assert resolve(fits, has_gpu=False).proposal(6).base["rho_first_frac"] == 0.1
    with pytest.raises(ValueError, match=r"rho_first_frac is 0\.1"):
        resolve(StudyConfig(model="gnm", set={"rho_first_frac": 0.1}, preset="paper"), has_gpu=False).proposal(6)


def test_identity_holds_what_results_depend_on_and_nothing_else():
    base = StudyConfig(model="slot_attention")
    same = dataclasses.replace(base, trials=99, hours=2.0, concurrent=1, cpus=2.0, gpus=0.5)
    same = dataclasses.replace(
        same,
        gpus=1,
        workers_per_trial=4,
        keep_checkpoints=3,
        trial_timeout=1.0,
        finalists=9,
        seeds=7,
        patience=3.0,
        from_=["results/other"],
    )
    other = dataclasses.replace(base, seed=1)
    narrowed = dataclasses.replace(base, space=["lr=1e-4..1e-3"])
    assert base.identity("tiny", 10, 32)["space"] is None, "as in studies from before there was a --space"
    assert narrowed.identity("tiny", 10, 32)["space"] == ["lr=0.0001..0.001"]
    assert base.identity("tiny", 10, 32) == same.identity("tiny", 10, 32)
    assert base.identity("tiny", 10, 32) != other.identity("tiny", 10, 32)
    assert base.identity("tiny", 10, 32) != base.identity("paper", 10, 32)


def test_a_part_of_the_data_makes_another_study_and_the_whole_is_as_without_the_flag():
    base, part = StudyConfig(model="slot_attention"), StudyConfig(model="slot_attention", data_fraction=0.1)
    assert part.identity("tiny", 10, 32)["data_fraction"] == 0.1
    assert base.identity("tiny", 10, 32)["data_fraction"] is None, "as in studies from before there was a flag"
    assert dataclasses.replace(base, data_fraction=1) == base


def test_with_two_goals_all_trials_run_to_the_end_and_else_the_default_is_promotion():
    one, two = StudyConfig(model="space"), StudyConfig(model="space", metric="mIoU_fg, seconds")
    assert (one.pruner, one.goals, two.pruner, two.goals) == ("asha", ("mIoU_fg",), "none", ("mIoU_fg", "seconds"))
    assert two.metric == "mIoU_fg,seconds" and StudyConfig(model="space", pruner="auto") == one
    assert StudyConfig(model="space", metric="MSE,mIoU_fg", pruner="none", sampler="gp").goals == ("MSE", "mIoU_fg")
    assert one.identity("tiny", 10, 32)["pruner"] == "asha", "as in studies from before there was an auto"
    resolved = resolve(two, has_gpu=False)
    assert resolved.identity["metric"] == "mIoU_fg,seconds" and resolved.identity["pruner"] == "none"
    assert resolved.task.metric == "mIoU_fg"


def test_compiling_is_part_of_a_study_and_older_studies_are_those_without():
    asked = resolve(StudyConfig(model="slot_attention", preset="tiny", compile=True), has_gpu=False)
    plain = resolve(StudyConfig(model="slot_attention", preset="tiny"), has_gpu=False)
    assert asked.task.compile and not plain.task.compile
    old = {key: value for key, value in plain.identity.items() if key != "compile"}
    refuse_other_identity("old", old, plain.identity)
    with pytest.raises(ValueError, match="compile is None there and True here"):
        refuse_other_identity("old", old, asked.identity)


@pytest.mark.parametrize("dry_run", [False, True])
def test_compiling_without_a_compiler_is_refused_before_anything_is_made(tmp_path, monkeypatch, dry_run):
    monkeypatch.setenv("CXX", "no-such-compiler")
    places = {"results": str(tmp_path / "results"), "cache": str(tmp_path / "cache")}
    asked = StudyConfig(model="slot_attention", preset="tiny", compile=True, dry_run=dry_run, **places)
    for begin in (lambda console: stages.run(asked, console), lambda console: stages.run_all([asked], console)):
        with pytest.raises(ValueError, match=r"--compile needs a .* compiler, and there is no no-such-compiler"):
            begin(Console(quiet=True))
    assert not list(tmp_path.iterdir())


def test_scenes_are_part_of_the_data():
    asked = StudyConfig(model="slot_attention", data="synthetic:0.4-(64,64)", scenes=50_000)
    assert asked.data == "synthetic:0.4-50000scenes-(64,64)"
    assert asked == StudyConfig(model="slot_attention", data="synthetic:0.4-50000scenes-(64,64)")
    assert asked == dataclasses.replace(asked, trials=asked.trials)
    few = StudyConfig(model="slot_attention", data="synthetic:0.4", scenes=4000)
    assert few.data == "synthetic:0.4"
    study = resolve(asked, has_gpu=False)
    assert study.folder.name == "slot_attention-synthetic-0.4-50000scenes-64-64-tiny"
    assert study.identity["data"] == asked.data and "scenes" not in study.identity
    assert study.data.official_counts()["train"] == 50_000


def test_the_final_stage_is_smaller_with_the_tiny_preset_unless_asked_for():
    def counts(preset, **asked):
        study = resolve(StudyConfig(model="slot_attention", preset=preset, **asked), has_gpu=False)
        return study.finalists, study.seeds, study.reruns

    assert counts("paper") == (3, 3, 12) and counts("tiny") == (2, 2, 6)
    assert counts("tiny", finalists=4, seeds=5) == (4, 5, 25)
    assert counts("paper", seeds=1) == (3, 1, 0), "nothing is trained anew"


def test_more_reports_than_the_preset_has_steps_are_refused(tmp_path):
    config = StudyConfig(model="slot_attention", preset="tiny", reports=10000, results=str(tmp_path))
    with pytest.raises(ValueError, match=r"--reports 10000 is above the \d+ steps of a trial"):
        resolve(config, has_gpu=False)


def test_a_range_of_slots_begins_with_two(tmp_path):
    config = StudyConfig(model="slot_attention", preset="tiny", space=["num_slots=1..4"], results=str(tmp_path))
    with pytest.raises(ValueError, match="the model refuses num_slots=1: background and objects need a slot each"):
        resolve(config, has_gpu=False).proposal(3)


def test_checks_before_a_study_import_no_sympy():
    """Building a model on torch's meta device does: seconds before each study's first step."""
    code = "import sys; from study import presets; from study.config import StudyConfig as Config; "
    code += "presets.resolve(Config(model='slot_attention'), has_gpu=False).expected_proposal(); "
    code += "print({'sympy', 'scipy.optimize', 'scipy.stats'} & {*sys.modules})"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.stdout == "set()\n", run.stderr
