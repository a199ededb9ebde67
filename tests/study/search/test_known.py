"""``--from``: earlier studies' best trials become proposals, once."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from study import presets, stages
from study.config import StudyConfig
from study.results_folder import ROOT, StudyFolder
from study.scoring import ranking
from study.scoring.ranking import Finalist
from study.search import known, storage
from study.search.searcher import StudySearcher
from tests.study.search.made_up import result


def opened(tmp_path, name, **config):
    """A study as the stages open it, before its first trial."""
    asked = StudyConfig(
        **{"model": "slot_attention", "preset": "tiny", "sampler": "random", "name": name}
        | {"results": str(tmp_path), "reports": 10, **config}
    )
    study = presets.resolve(asked, has_gpu=False)
    proposal = study.expected_proposal()
    study.folder.path.mkdir(parents=True, exist_ok=True)
    optuna_study = storage.open_study(asked, study.folder, study.identity)
    storage.record(optuna_study, study.folder, config=study.identity, storage=asked.storage, **proposal.question())
    return StudySearcher(optuna_study, study.folder, asked.trials, proposal)


def finished(tmp_path, name, values=(0.3, 0.5, 0.9, 0.7), **config):
    """A study with a complete trial per value; the base has the first."""
    searcher = opened(tmp_path, name, **config)
    for i, value in enumerate(values):
        searcher.suggest(str(i))
        searcher.on_trial_complete(str(i), result(10, value, done=True))
    return searcher


def propose(searcher, *folders):
    sources = known.read([str(folder) for folder in folders], "slot_attention", searcher.folder)
    return known.propose(searcher.study, searcher.folder, searcher.proposal, sources)


def test_the_best_trials_come_after_the_base_and_are_marked(tmp_path):
    there = finished(tmp_path, "there")
    here = opened(tmp_path, "here", seed=1)
    (line,) = propose(here, there.folder.path)
    assert line == "from there: 3 proposals (its trials: 2, 3, 1)", "the base is here already"
    configs = [here.suggest(name)["hyperparameters"] for name in "abcde"]
    trials = there.study.get_trials()
    assert configs[0] == here.proposal.base_hyperparameters()
    for config, number in zip(configs[1:4], (2, 3, 1), strict=True):
        assert {key: config[key] for key in trials[number].params} == trials[number].params
    assert configs[4] not in configs[:4], "sampled again"
    mine = here.study.get_trials()
    assert [trial.user_attrs.get("from", {}).get("trial") for trial in mine] == [None, 2, 3, 1, None]
    record = here.folder.read()
    assert record is not None and record["from"] == [
        {"study": str(there.folder.path), "trials": [2, 3, 1], "moved": [], "not_taken": []}
    ]


def test_who_won_with_fresh_seeds_comes_first(tmp_path):
    there = finished(tmp_path, "there")
    ranking.write(there.folder.path, [Finalist("trial_0001", 1, ()), Finalist("trial_0002", 2, ())])
    here = opened(tmp_path, "here", seed=1)
    (line,) = propose(here, there.folder.path)
    assert "(its trials: 1, 2, 3)" in line


def test_a_source_is_used_once_and_another_can_come_later(tmp_path):
    there, other = finished(tmp_path, "there"), finished(tmp_path, "other", values=(0.1, 0.2, 0.3), seed=5)
    here = opened(tmp_path, "here", seed=1)
    propose(here, there.folder.path, there.folder.path)
    there.suggest("new")
    there.on_trial_complete("new", result(10, 0.99, done=True))
    assert propose(here, there.folder.path) == []
    (line,) = propose(here, there.folder.path, other.folder.path)
    assert line.startswith("from other: 2 proposals (its trials: 2, 1)")
    assert len(here.study.get_trials()) == 1 + 3 + 2


def test_a_source_whose_proposals_are_taken_may_go(tmp_path):
    there, here = finished(tmp_path, "there"), opened(tmp_path, "here")
    propose(here, there.folder.path)
    shutil.rmtree(there.folder.path)
    assert propose(here, there.folder.path) == []
    with pytest.raises(ValueError, match=r"--from .*there: "):
        known.read([str(there.folder.path)], "slot_attention", here.folder, fresh=True)


def test_a_kill_before_the_record_repeats_nothing(tmp_path):
    there, here = finished(tmp_path, "there"), opened(tmp_path, "here")
    propose(here, there.folder.path)
    record = here.folder.read()
    assert record is not None
    del record["from"]
    (here.folder.path / "study.json").write_text(json.dumps(record))
    propose(here, there.folder.path)
    assert len(here.study.get_trials()) == 4


def test_no_more_than_five_that_differ(tmp_path):
    values = [0.3, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4]
    there, here = finished(tmp_path, "there", values=values), opened(tmp_path, "here", seed=1)
    there.study.enqueue_trial(there.study.get_trials()[1].params)
    there.suggest("twin")
    there.on_trial_complete("twin", result(10, 0.85, done=True))
    (line,) = propose(here, there.folder.path)
    assert line == "from there: 5 proposals (its trials: 1, 2, 3, 4, 5)"


def test_of_a_minimised_study_the_least_is_the_best(tmp_path):
    there, here = finished(tmp_path, "there", metric="MSE"), opened(tmp_path, "here")
    assert propose(here, there.folder.path)[0].endswith("(its trials: 1, 3, 2)")


def test_values_move_into_their_ranges_and_choices_that_are_gone_are_sampled(tmp_path):
    there = finished(tmp_path, "there", values=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6), space=["num_iters=4..5"])
    here = opened(tmp_path, "here", space=["num_iters=1..3", "batch_size=5,7", "lr=1e-5..1e-4"], set={"qk_gain": 2})
    (line,) = propose(here, there.folder.path)
    assert "moved into their ranges: lr, num_iters" in line
    assert line.endswith("not taken, since they cannot have these values here: batch_size, qk_gain"), line
    here.suggest("base")
    configs = [here.suggest(str(i))["hyperparameters"] for i in range(4)]
    for config in configs:
        assert config["lr"] == pytest.approx(1e-4) and config["num_iters"] == 3 and config["qk_gain"] == 2
    assert {config["batch_size"] for config in configs} == {5, 7}, "sampled"


def test_what_was_not_searched_there_has_the_value_it_had(tmp_path):
    there = finished(tmp_path, "there", set={"num_iters": 4})
    here = opened(tmp_path, "here")
    propose(here, there.folder.path)
    here.suggest("base")
    assert [here.suggest(str(i))["hyperparameters"]["num_iters"] for i in range(3)] == [4, 4, 4]


def test_a_study_of_other_data_moves_what_depends_on_it(tmp_path):
    there = finished(tmp_path, "there", data="synthetic", values=(0.1, 0.2, 0.3))
    here = opened(tmp_path, "here", data="clevrtex", preset="tiny")
    (line,) = propose(here, there.folder.path)
    assert "moved into their ranges: num_slots" in line
    here.suggest("base")
    assert here.suggest("a")["hyperparameters"]["num_slots"] == 11, "ten objects and the background"


def test_one_proposal_is_one(tmp_path):
    there, here = finished(tmp_path, "there", values=(0.1, 0.2)), opened(tmp_path, "here")
    assert propose(here, there.folder.path) == ["from there: 1 proposal (its trials: 1)"]


def test_samplers_learn_from_them(tmp_path):
    there, here = finished(tmp_path, "there"), opened(tmp_path, "here", sampler="tpe")
    propose(here, there.folder.path)
    for name in "abcd":
        here.suggest(name)
        here.on_trial_complete(name, result(10, 0.5, done=True))
    complete = here.study.get_trials(states=(storage.TrialState.COMPLETE,))
    assert len(complete) == 4
    space = here.study.sampler.infer_relative_search_space(here.study, complete[-1])
    assert set(space) == set.intersection(*(set(trial.params) for trial in complete)) and "lr" in space


def refusal(tmp_path, folder, **config):
    """What the command says before it reads data."""
    places = {"results": str(tmp_path), "cache": str(tmp_path / "cache"), "data_root": str(tmp_path)}
    places["data"] = "clevrtex"  # without its files it is refused at once, should a check before it be missing
    asked = StudyConfig(**{"model": "slot_attention", "preset": "tiny", **places, "from_": [str(folder)], **config})
    with pytest.raises(ValueError) as caught:
        stages.run(asked, Console(quiet=True))
    assert not (tmp_path / "cache").exists() and "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="--from"):
        stages.run_all([asked, asked], Console(quiet=True))
    return str(caught.value)


def test_no_study_and_damaged_ones_are_named(tmp_path):
    there = finished(tmp_path, "there").folder.path
    assert "holds no study.json" in refusal(tmp_path, tmp_path / "absent", name="a")
    text = (there / "study.json").read_text()
    (there / "study.json").write_text(text[:40])
    assert "is damaged" in refusal(tmp_path, there, name="b")
    (there / "study.json").write_text("[]")
    assert "is damaged (no mapping)" in refusal(tmp_path, there, name="c")
    (there / "study.json").write_text('{"config": 3}')
    assert "is damaged (config cannot be read)" in refusal(tmp_path, there, name="f")
    (there / "study.json").write_text(text)
    journal = (there / "optuna.journal").read_bytes()
    (there / "optuna.journal").write_bytes(b"\x00garbage\n" + journal[20:])
    assert f"--from {there}: " in refusal(tmp_path, there, name="d")
    (there / "optuna.journal").unlink()
    assert "optuna.journal is missing" in refusal(tmp_path, there, name="e")


def test_another_model_nothing_complete_and_itself_are_named(tmp_path):
    other = finished(tmp_path, "other", model="gnm").folder.path
    assert "its model is gnm, this study's is slot_attention" in refusal(tmp_path, other, name="a")
    empty = opened(tmp_path, "empty", data="clevrtex").folder.path
    assert "it has no complete trial" in refusal(tmp_path, empty, name="b")
    assert "is this study itself" in refusal(tmp_path, empty, name="empty", sampler="random", reports=10)


HOLD = """
import sys
from pathlib import Path
from study.results_folder import StudyFolder
folder = StudyFolder(Path(sys.argv[1]))
folder.claim(folder.read()["config"], fresh=False)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_study_that_is_being_run_is_named_and_its_lock_is_left_alone(tmp_path):
    there = finished(tmp_path, "there").folder
    words = [sys.executable, "-c", HOLD, str(there.path)]
    holder = subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
    assert "it is being run by another process" in refusal(tmp_path, there.path, name="a")
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert not there.is_running() and not StudyFolder(Path(tmp_path / "absent")).is_running()
    assert known.read([str(there.path)], "slot_attention", StudyFolder(tmp_path / "a"))
