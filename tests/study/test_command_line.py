"""The command lines: flags and values as typed, a mistake in one line, and nothing slow before the answer."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

import trainables
from data import source
from study import command_line, plan, submit
from study.command_line import studies
from study.config import StudyConfig
from study.results_folder import ROOT

VERBS = ("run", "submit", "plan", "report", "compare", "trials", "predict", "score")


def printed_help(capsys, main) -> str:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert not caught.value.code
    printed = capsys.readouterr()
    assert printed.err == ""
    return printed.out


@pytest.mark.parametrize(("main", "classes"), [(studies, [StudyConfig]), (plan.main, [StudyConfig, plan.Machines])])
def test_every_field_is_a_flag_with_help(main, classes, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    text = printed_help(capsys, main)
    for field in (field for made_from in classes for field in dataclasses.fields(made_from)):
        flag = f"--{field.name.rstrip('_').replace('_', '-')} "
        (line,) = [line for line in text.splitlines() if line.strip(" │*").startswith(flag)]
        assert "  " in line.strip(" │*"), f"{line} says nothing about the flag"
    assert all(name in text for name in [*trainables.names(), *source.names()])


def test_the_help_of_submit_says_where_the_studys_flags_go(capsys):
    text = printed_help(capsys, submit.main)
    assert "-- FLAGS OF study/run.py" in text and "--follow" in text and "RAY_AUTH_TOKEN" in text


def test_values_arrive_typed_and_canonical():
    (asked,) = studies(
        "--model slota --trials 7 --gpus 0.25 --data SYNTHETIC:plain --set lr=0.001 --set num_slots=5 --fresh".split()
    )
    assert asked.model == "slot_attention"
    assert (asked.trials, asked.gpus, asked.fresh, asked.dry_run) == (7, 0.25, True, False)
    assert asked.data == "synthetic:plain"
    assert asked.set == {"lr": 0.001, "num_slots": 5}


def test_scenes_may_be_counted_by_a_flag():
    (asked,) = studies("--model slota --data synthetic:0.4 --scenes 300".split())
    assert asked.data == "synthetic:0.4-300scenes"
    for mistake in ("nan", "7.5", "1e4", "0", "-1"):
        with pytest.raises(ValueError, match="--scenes") as error:
            studies(["--model", "slota", "--scenes", mistake])
        assert "\n" not in str(error.value)


def test_ranges_and_earlier_studies_may_be_repeated():
    (asked,) = studies("--model slota --space lr=1e-4..1e-2 --space batch_size=8,16 --from a --from b".split())
    assert asked.space == ["batch_size=8,16", "lr=0.0001..0.01"]
    assert asked.from_ == ["a", "b"]


def test_what_is_not_given_has_the_defaults_of_the_config():
    (asked,) = studies(["--model", "space"])
    assert asked == StudyConfig(model="space")


def test_of_a_flag_given_twice_the_last_value_counts():
    (asked,) = studies("--model gnm --trials 7 --model space --trials 9".split())
    assert (asked.model, asked.trials) == ("space", 9)


def test_several_models_are_several_studies():
    assert [asked.model for asked in studies(["--model", "all"])] == trainables.names()
    several = studies("--model slota,space,slot_attention --name mine --trials 7".split())
    assert [(asked.model, asked.name, asked.trials) for asked in several] == [
        ("slot_attention", "mine-slot_attention", 7),
        ("space", "mine-space", 7),
    ]
    with pytest.raises(ValueError, match="did you mean space"):
        studies(["--model", "slota,spcae"])


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--model space --trials many", '--trials: unable to convert "many" into int'),
        ("--model space --trials 7.5", '--trials: unable to convert "7.5" into int'),
        ("--model space --steps 1e3", '--steps: unable to convert "1e3" into int'),
        ("--model space --cpus half", '--cpus: unable to convert "half" into float'),
        ("--model space --preset huge", '"huge" for --preset. Choose from: "auto", "paper", "tiny"'),
        ("--model space --trials", "--trials requires an argument"),
        ("--trials 3", "--model requires an argument"),
        ("space", "--model requires an argument"),
        ("--model space 3", "['3']"),
        ("--model space --tirals 3", "--tirals. Did you mean --trials?"),
        ("--model space --tri 3", "--tri. Did you mean --trials?"),
        ("--model space --no-fresh", "Unknown option: --no-fresh"),
        ("--model space --set lr", "--set lr: write it as key=value"),
        ("--model space --set =3", "--set =3: write it as key=value"),
        ("--model space --set lr=3 x=3", "['x=3']"),
        ("--model space --space lr", "--space lr: write it as key=low..high or key=a,b"),
        ("--model space --space", "--space requires an argument"),
        ("--model space --from", "--from requires an argument"),
        ("--model space --set.lr 3", "--set.lr. Did you mean --set?"),
        ("--model space --data synthetic-(32,64)", "write the size as (n,n)"),
        ("--model space --data synthetic:plain-(100000,100000)", "at most 1024 pixels a side"),
        (f"--model space --trials {10**22}", f"--trials is {10**22}; 1,000,000,000 is the most"),
        (f"--model space --seed {2**63}", "--seed is 9223372036854775808; it must be zero or more, and below 2**63"),
        ("--model slota --set lr=nan", "lr is nan; it must be a finite number"),
        ("--model slota --set lr=inf", "lr is inf; it must be a finite number"),
        ("--model slota --set num_slots=1", "--set num_slots=1: background and objects need a slot each"),
        ("--model space --cpus 1e-9", "--cpus is 1e-09; it must be 0.1 or more"),
        ("--model space --cpus nan", "--cpus is nan; it must be above zero"),
        ("--model space --gpus 1e-9", "--gpus is 1e-09; it must be zero, or 0.1 or more"),
        ("--model space --results ", "--results is empty; give a value, or leave --results out"),
        ("--model space --storage ", "--storage is empty"),
        ("--model space --cache ", "--cache is empty"),
        ("--model space --cache foo://", "--cache foo://: give a folder, or a URI such as s3://bucket/folder"),
        ("--model space --cache s3://", "--cache s3://: give a folder, or a URI"),
        ("--model space --name a\nb", "--name 'a\\nb' has a line break"),
        ("--model space --results a\x07b", "--results 'a\\x07b' has a line break or another character"),
        ("--model space --reports 20 --steps 10", "--steps 10 is below --reports 20"),
    ],
)
def test_a_malformed_command_line_ends_with_one_line_and_status_2(line, says, capsys):
    command = command_line.errors_in_one_line(lambda: len(studies(line.split(" "))))
    assert command() == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith("error: ") and printed.err.count("\n") == 1
    assert says in printed.err


def test_a_file_that_cannot_be_read_is_named_in_one_line(tmp_path, capsys):
    command = command_line.errors_in_one_line(lambda: len((tmp_path / "absent").read_text()))
    assert command() == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'absent'}: No such file or directory\n"


SLOW = ("torch", "ray", "optuna", "pyarrow", "scipy")
"""Libraries that take seconds to import."""

ANSWER = """
import sys
from study import {verb}
try:
    status = {verb}.main({arguments})
except SystemExit as end:
    status = end.code or 0
print("status", status, *[name for name in {slow} if name in sys.modules], file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("verb", "line", "status"),
    [
        *((verb, "--help", 0) for verb in VERBS),
        *((verb, "--model space --tirals 3", 2) for verb in VERBS),
        ("submit", "-- --model space --tirals 3", 2),
        ("run", "--model spcae", 2),
        ("run", "--model space --metric mIoU", 2),
        ("run", "--model space --trials 0", 2),
        ("run", "--model space --data synthetik", 2),
        ("plan", "--model space --gpus -1", 2),
    ],
)
def test_an_answer_that_needs_no_study_comes_before_the_slow_imports(verb, line, status):
    code = ANSWER.format(verb=verb, arguments=line.split(), slow=SLOW)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    *said, last = done.stderr.splitlines()
    assert last == f"status {status}", done.stderr
    assert len(said) == (status == 2) and bool(done.stdout) == (status == 0)


def test_one_command_has_all_verbs(capsys):
    assert command_line.clevrtune(["--help"]) == 0
    printed = capsys.readouterr().out
    scripts = {path.stem for path in (ROOT / "study").glob("*.py") if "def main(" in path.read_text()}
    assert scripts | {"convert", "verify", "show"} == set(command_line.VERBS)
    for verb in command_line.VERBS:
        assert f"  {verb} " in printed
        with pytest.raises(SystemExit) as caught:
            command_line.clevrtune([verb, "--help"])
        assert not caught.value.code and verb in capsys.readouterr().out


def test_a_verb_answers_with_its_own_status(capsys, tmp_path):
    assert command_line.clevrtune(["report", str(tmp_path)]) == 2
    assert "study.json" in capsys.readouterr().err
    assert command_line.clevrtune(["data", "verify", str(tmp_path)]) == 2
    assert f"{tmp_path} has no readable index.json" in capsys.readouterr().err
    assert command_line.clevrtune(["reprot"]) == 2
    assert "did you mean report?" in capsys.readouterr().err


def test_a_users_own_data_and_study_do_not_get_in_the_way(tmp_path):
    """The installed command, in a folder whose data.py and study/ would stop it if they were imported."""
    (tmp_path / "data.py").write_text("raise SystemExit('the wrong data')")
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "__init__.py").write_text("raise SystemExit('the wrong study')")
    script = Path(sys.executable).with_name("clevrtune")
    for command in ([script, "convert"], [sys.executable, ROOT / "data" / "convert.py"]):
        run = subprocess.run([*command, "nothing"], cwd=tmp_path, capture_output=True, text=True)
        assert run.returncode == 2 and "data set 'nothing' is unknown" in run.stderr


def test_nor_do_they_on_pythonpath(tmp_path):
    """The installed command's own file, with the same on PYTHONPATH and in the working directory."""
    for name in ("data", "search_spaces", "study", "trainables"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('the wrong {name}')")
    code = f"import sys; sys.path.append({str(ROOT)!r}); import clevrtune; sys.exit(clevrtune.main())"
    words = [sys.executable, "-c", code, "convert", "nothing"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    run = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert run.returncode == 2 and "data set 'nothing' is unknown" in run.stderr
