"""``--space``: what is read, what is refused, and what a trial then gets."""

import dataclasses

import optuna
import pytest

from study import presets
from study.config import StudyConfig
from study.search.distributions import recorded


def proposal(*entries, model="slot_attention", **config):
    asked = StudyConfig(**{"model": model, "preset": "tiny", "results": "/nonexistent", "space": entries, **config})
    return presets.resolve(asked, has_gpu=False).expected_proposal()


def searched(*entries, **config):
    return {key: recorded(found) for key, found in proposal(*entries, **config).searched().items()}


def drawn(asked, trials=20):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [asked.hyperparameters(study.ask()) for _ in range(trials)]


def test_a_range_replaces_the_models_and_keeps_its_scale_and_type():
    ranges = searched("lr=1e-4..1e-2", "num_iters=2..3", "log_sigma_init=-3..-2")
    assert ranges["lr"] == {"low": 1e-4, "high": 1e-2, "log": True, "integer": False}
    assert ranges["num_iters"] == {"low": 2, "high": 3, "log": False, "integer": True}
    assert ranges["log_sigma_init"] == {"low": -3.0, "high": -2.0, "log": False, "integer": False}
    assert {key: found for key, found in searched().items() if key not in ("lr", "num_iters", "log_sigma_init")} == {
        key: found for key, found in ranges.items() if key not in ("lr", "num_iters", "log_sigma_init")
    }


def test_trials_get_values_from_these_ranges_with_the_types_of_the_config():
    for values in drawn(proposal("lr=1e-4..2e-4", "batch_size=3,5", "grad_clip=0.1..0.2", "slot_dim=8..12")):
        assert 1e-4 <= values["lr"] <= 2e-4 and values["batch_size"] in (3, 5)
        assert 0.1 <= values["grad_clip"] <= 0.2, "a range instead of the model's choices"
        assert type(values["slot_dim"]) is int and 8 <= values["slot_dim"] <= 12


def test_a_key_that_depends_on_others_keeps_its_condition():
    asked = proposal("half_life_frac=0.9..1.0")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trials = [study.ask() for _ in range(20)]
    seen = {asked.hyperparameters(trial)["schedule"]: "half_life_frac" in trial.params for trial in trials}
    assert seen == {"exp": True, "cosine": False}


def test_a_key_that_the_model_does_not_search_is_added_and_said():
    asked = proposal("slot_dim=8..12", "slot_mlp_hidden=16..1600", "weight_decay=1e-6..1e-3")
    ranges = {key: recorded(found) for key, found in asked.searched().items()}
    assert not ranges["slot_dim"]["log"] and ranges["slot_mlp_hidden"]["log"] and ranges["weight_decay"]["log"]
    assert "--space adds slot_dim: integer 8 to 12" in asked.notes
    assert "--space adds weight_decay: 1e-06 to 0.001, logarithmic" in asked.notes


def test_a_base_outside_is_said_and_the_first_trial_takes_the_nearest():
    asked = proposal("lr=1e-4..1e-3", "batch_size=32,64")
    first = asked.first_hyperparameters()
    assert (first["lr"], first["batch_size"]) == (1e-3, 32) and asked.base["lr"] == 2e-3
    assert asked.base_parameters()["lr"] == 1e-3
    assert asked.notes == (
        "the preset's batch_size 8 is outside --space (one of 32, 64); the first trial takes 32",
        "the preset's lr 0.002 is outside --space (0.0001 to 0.001, logarithmic); the first trial takes 0.001",
    )
    assert proposal("lr=1e-4..1e-2").notes == ()


YAML = """
lr: 1e-4..1e-2
batch_size: [8, 16]
grad_clip: [none, 1e-1]
qk_gain: {low: 1, high: 4, log: false}
"""


def test_a_yaml_file_says_the_same_as_flags(tmp_path):
    (tmp_path / "mine.yaml").write_text(YAML)
    flags = ["qk_gain={low: 1.0, high: 4, log: false}", "grad_clip=none,0.1", "batch_size=8,16", "lr=0.0001..1e-2"]
    assert searched(str(tmp_path / "mine.yaml")) == searched(*flags)
    one = StudyConfig(model="slot_attention", space=[str(tmp_path / "mine.yaml")])
    other = StudyConfig(model="slot_attention", space=flags)
    assert one.identity("tiny", 1, 1) == other.identity("tiny", 1, 1)
    assert one.space == ["batch_size=8,16", "grad_clip=none,0.1", "lr=0.0001..0.01", other.space[-1]]
    assert dataclasses.replace(one) == one, "what is recorded can be typed"


def test_choices_that_hold_commas_or_are_called_none_can_be_recorded():
    one = StudyConfig(model="slot_attention", space=['encoder_strides=["2,2,1", "1,1,1"]'])
    assert dataclasses.replace(one).space == one.space == ['encoder_strides=["2,2,1", "1,1,1"]']
    other = StudyConfig(model="dti_sprites", space=["sprite_transform=none,projective"])
    assert dataclasses.replace(other).space == other.space == ["sprite_transform=none,projective"]


PYTHON = """
def space(trial, base):
    power = trial.suggest_float("log_lr", -4.0, -2.0)
    return {"lr": 10**power, "num_iters": trial.suggest_int("num_iters", 1, base["num_iters"] + 1)}
"""


def test_a_python_file_replaces_the_models_space_and_flags_narrow_it(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(PYTHON)
    assert set(searched(str(file))) == {"log_lr", "num_iters"}
    asked = proposal(str(file), "num_iters=3..4")
    assert all(values["num_iters"] in (3, 4) and 1e-4 <= values["lr"] <= 1e-2 for values in drawn(asked))
    before = asked.question()
    assert StudyConfig(model="slot_attention", space=[str(file)]).identity("tiny", 1, 1)["space"] == ["mine.py"]
    file.write_text(PYTHON.replace("10**power", "2 * 10**power"))
    after = proposal(str(file), "num_iters=3..4").question()
    assert before["ranges"] == after["ranges"] and before["space_file"] != after["space_file"]


def test_a_range_that_the_other_ranges_leave_nothing_to_is_refused():
    with pytest.raises(ValueError, match="--space weight_decay: with the other ranges it is never searched"):
        asked = StudyConfig(
            model="monet", preset="tiny", space=["optimizer=rmsprop,adam", "weight_decay=0.0..0.1"], trials=2
        )
        presets.resolve(asked, has_gpu=False).expected_proposal()


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        (["lr"], "--space lr: write it as key=low..high or key=a,b"),
        (["lr="], "write it as"),
        (["lrr=1..2"], "did you mean lr"),
        (["image_size=32..64"], "'image_size' is unknown"),
        (["lr=fast..slow"], "lr is 'fast'; it must be float"),
        (["lr=1e-3..1e-4"], "lr=1e-3..1e-4: the range is reversed"),
        (["lr=1e-3..1e-3"], "the range is empty"),
        (["lr=0..1e-3"], "above zero"),
        (["lr=1e-3"], "--set fixes a single value"),
        (["lr=1e-3,0.001"], "stands there twice"),
        (["lr=1e-3..1e-2", "lr=1e-4,1e-3"], "--space has lr twice"),
        (["num_slots=6.5..8"], "num_slots is 6.5; it must be int"),
        (["schedule=1..2"], "schedule is"),
        (["schedule=exp,linear"], "schedule is 'linear'"),
        (["dec_refine=true..false"], "numbers at its ends"),
        (["steps=10..20"], "--steps"),
        (["warmup_frac={low: 0, high: 1, log: true}"], "above zero on a logarithmic scale"),
        (["lr={low: 1}"], "a range has low and high"),
        (["lr={low: 1, high: 2, log: maybe}"], "log must be true or false"),
        (["lr={low: 1"], "is no YAML"),
        (["qk_gain=-1..3"], "its range is logarithmic, so -1 must be above zero"),
        (["kernel_size=3..5"], "the model refuses kernel_size=4"),
        (["absent.yaml"], "absent.yaml: No such file"),
        (["absent.py"], "absent.py: there is no such file"),
    ],
)
def test_what_is_refused_is_one_line(entries, says):
    with pytest.raises(ValueError) as caught:
        proposal(*entries)
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_a_key_is_fixed_or_has_a_range():
    with pytest.raises(ValueError, match="--set lr and --space lr"):
        proposal("lr=1e-4..1e-3", set={"lr": 1e-3})


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("lr: [1e-4", r"is no YAML: line 1: "),
        ("- lr", "must map hyperparameters to ranges"),
        ("", "must map hyperparameters to ranges"),
        ("lr: 0.1", "--set fixes a single value"),
        ("lr: {from: 1, to: 2}", "a range has low and high"),
        ("lrr: 1..2", "did you mean lr"),
    ],
)
def test_a_yaml_file_with_a_mistake_is_one_line(tmp_path, content, says):
    (tmp_path / "mine.yaml").write_text(content)
    with pytest.raises(ValueError, match=says) as caught:
        proposal(str(tmp_path / "mine.yaml"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("1 / 0", r"cannot be imported: ZeroDivisionError: division by zero \(line 1\)"),
        ("def space(", r"cannot be imported: SyntaxError: .*\(line 1\)"),
        ("space = 3", r"has no function space\(trial, base\)"),
        ("def space(trial, base):\n    return base['nothing']", r"raises KeyError: 'nothing' \(line 2\)"),
        ("def space(trial, base):\n    return [1]", "returns list; it must be a dict"),
        ("def space(trial, base):\n    return {'lrr': 1.0}", "did you mean lr"),
        ("def space(trial):\n    return {}", "raises TypeError"),
        (
            "def space(trial, base):\n    return {'num_iters': trial.suggest_int('num_iters', 0, 3)}",
            "the model refuses num_iters=0",
        ),
    ],
)
def test_a_python_file_with_a_mistake_is_one_line(tmp_path, content, says):
    (tmp_path / "mine.py").write_text(content)
    with pytest.raises(ValueError, match=says) as caught:
        proposal(str(tmp_path / "mine.py"))
    assert "\n" not in str(caught.value)


def test_odd_numbers_are_a_range_with_steps(tmp_path):
    """Slot Attention refuses even kernels: those between two steps are not tried."""
    file = tmp_path / "odd.py"
    file.write_text(
        'def space(trial, base):\n    return {"kernel_size": trial.suggest_int("kernel_size", 3, 7, step=2)}\n'
    )
    asked = StudyConfig(model="slot_attention", preset="tiny", space=[str(file)], trials=2)
    assert presets.resolve(asked, has_gpu=False).expected_proposal().searched()["kernel_size"].step == 2
