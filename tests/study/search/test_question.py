"""Preset values and ranges belong to a study: an edit is named before data and Ray are touched."""

import json
from pathlib import Path

import optuna
import pytest
from rich.console import Console

import search_spaces.slot_attention as edited
from study import presets, stages
from study.config import StudyConfig
from study.results_folder import StudyFolder
from study.search import storage
from study.search.question import refuse_another
from study.search.searcher import StudySearcher
from tests.study.search.made_up import result

ORIGINAL = edited.space


def begin(tmp_path, **config):
    """A study with three trials, in the state that a kill leaves; the last trial is still running."""
    config |= {"results": str(tmp_path / "results"), "cache": str(tmp_path / "cache"), "data_root": str(tmp_path)}
    # Without its files the data is refused at once, should a check before it be missing.
    asked = StudyConfig(**{"model": "slot_attention", "preset": "tiny", "data": "clevrtex"} | config)
    study = presets.resolve(asked, has_gpu=False)
    proposal = study.expected_proposal()
    study.folder.path.mkdir(parents=True)
    begun = storage.open_study(asked, study.folder, study.identity)
    storage.record(begun, study.folder, config=study.identity, storage=asked.storage, **proposal.question())
    searcher = StudySearcher(begun, study.folder, 9, proposal)
    for name in "abc":
        searcher.suggest(name)
    for name in "ab":
        searcher.on_trial_complete(name, result(10, 0.5, done=True))
    return asked, study.folder


def refusal(asked):
    """What the same command says; it must say it before it converts data."""
    with pytest.raises(ValueError) as caught:
        stages.run(asked, Console(quiet=True))
    assert not Path(asked.cache).exists(), "before data is read"
    assert "\n" not in str(caught.value)
    for remedy in ("--fresh", "--name", "--from", "Undo"):
        assert remedy in str(caught.value)
    return str(caught.value)


def wider(trial, base):
    class Wider:
        def __getattr__(self, name):
            return getattr(trial, name)

        def suggest_float(self, key, low, high, **more):
            return trial.suggest_float(key, low, 9.0 if key == "qk_gain" else high, **more)

    return ORIGINAL(Wider(), base)


def reordered(trial, base):
    class Reordered:
        def __getattr__(self, name):
            return getattr(trial, name)

        def suggest_categorical(self, key, choices):
            return trial.suggest_categorical(key, choices[::-1] if key == "schedule" else choices)

    return ORIGINAL(Reordered(), base)


def longer(trial, base):
    return ORIGINAL(trial, base) | {"slot_dim": trial.suggest_categorical("slot_dim", [32, 64])}


def shorter(trial, base):
    return {"lr": trial.suggest_float("lr", 4e-4, 1e-2, log=True)}


def conditional(trial, base):
    chosen = ORIGINAL(trial, base)
    if chosen["schedule"] == "cosine":
        chosen["weight_decay"] = trial.suggest_float("weight_decay", 0.0, 0.1)
    return chosen


@pytest.mark.parametrize(
    ("space", "says"),
    [
        (wider, "the range of qk_gain was 0.57735 to 5.19615, logarithmic and is 0.57735 to 9, logarithmic"),
        (reordered, "the range of schedule was one of exp, cosine and is one of cosine, exp"),
        (longer, "slot_dim had no range and has one of 32, 64 now"),
        (conditional, "weight_decay had no range and has 0 to 0.1 now"),
    ],
)
def test_an_edited_space_is_named(tmp_path, monkeypatch, space, says):
    asked, _ = begin(tmp_path)
    monkeypatch.setattr(edited, "space", space)
    assert says in refusal(asked)


def test_an_edited_preset_is_named_with_the_ranges_that_follow_it(tmp_path, monkeypatch):
    asked, _ = begin(tmp_path)
    monkeypatch.setitem(edited.TINY, "lr", 3e-3)
    said = refusal(asked)
    assert "lr was 0.002 and is 0.003; the range of lr was 0.0004 to 0.01, log" in said and "batch" not in said
    with pytest.raises(ValueError, match=r"lr was 0\.002"):
        stages.run_all([asked, asked], Console(quiet=True))


def test_a_key_that_is_new_or_gone_is_named(tmp_path):
    asked, folder = begin(tmp_path)
    record = folder.read()
    assert record is not None
    del record["base"]["slot_dim"], record["ranges"]["lr"]
    record["base"]["hidden"] = None
    (folder.path / "study.json").write_text(json.dumps(record))
    said = refusal(asked)
    assert "hidden had the value none and has none now" in said and "slot_dim had no value and has 32 now" in said
    assert "lr had no range and has 0.0004 to 0.01, logarithmic now" in said


def test_a_study_from_before_ranges_were_recorded_is_compared_with_its_trials(tmp_path, monkeypatch):
    asked, folder = begin(tmp_path, pruner="halving")
    record = folder.read()
    assert record is not None
    del record["ranges"], record["space_file"]
    (folder.path / "study.json").write_text(json.dumps(record))
    study = presets.resolve(asked, has_gpu=False)
    storage.check_question(folder, study.expected_proposal().question())
    monkeypatch.setattr(edited, "space", reordered)
    with pytest.raises(ValueError, match="dynamic value space"):  # what this is about
        study.proposal(10).hyperparameters(storage.open_study(asked, folder, study.identity).ask())
    assert "schedule was one of exp, cosine and is one of cosine, exp" in refusal(asked)
    monkeypatch.setattr(edited, "space", shorter)
    with pytest.raises(ValueError, match="schedule had the range one of exp, cosine and has none now"):
        storage.check_question(folder, study.expected_proposal().question())


def test_fewer_objects_in_the_data_than_it_declares_are_no_change(tmp_path):
    asked, folder = begin(tmp_path)
    study = presets.resolve(asked, has_gpu=False)
    folder.write(**study.proposal(3).question())  # as after reading data whose scenes have three objects at most
    assert study.expected_proposal().base["max_objects"] == 3
    storage.check_question(folder, study.expected_proposal().question())
    with pytest.raises(ValueError, match="max_objects was 3 and is 4; the range of num_slots was"):
        storage.check_question(folder, study.proposal(4).question())


def test_an_unchanged_question_is_not_refused_whatever_else_changed(tmp_path):
    asked, folder = begin(tmp_path)
    folder.write(versions={"torch": "0.1"}, git="elsewhere", extra=[1])
    storage.check_question(folder, presets.resolve(asked, has_gpu=False).expected_proposal().question())
    storage.check_question(StudyFolder(tmp_path / "absent"), {})
    other = StudyConfig(**{**vars(asked), "space": ["lr=1e-4..1e-2"]})
    with pytest.raises(ValueError, match=r"space is None there and \['lr=0.0001..0.01'\] here"):
        stages.run(other, Console(quiet=True))


def test_another_file_with_the_same_ranges_is_another_question():
    question = {"base": {"lr": 1}, "ranges": {}, "space_file": "abc"}
    refuse_another("mine", question, question)
    with pytest.raises(ValueError, match="the file of --space is another one"):
        refuse_another("mine", question, {**question, "space_file": "xyz"})


@pytest.mark.parametrize(
    ("there", "here", "same"),
    [
        (0.1, 0.1 * (1 + 1e-12), True),
        (0.1, 0.1001, False),
        (1, 1.0, True),
        (1, True, False),
        (None, 0.0, False),
        ("adam", "sgd", False),
        ([1, 2], [2, 1], False),
    ],
)
def test_values_are_compared_as_people_would(there, here, same):
    if same:
        refuse_another("mine", {"base": {"x": there}}, {"base": {"x": here}})
    else:
        with pytest.raises(ValueError, match="x was"):
            refuse_another("mine", {"base": {"x": there}}, {"base": {"x": here}})


def test_optuna_refuses_choices_that_changed_their_order():
    """What would otherwise end a study in the middle."""
    study = optuna.create_study()
    study.ask().suggest_categorical("a", [1, 2])
    with pytest.raises(ValueError, match="dynamic value space"):
        study.ask().suggest_categorical("a", [2, 1])
