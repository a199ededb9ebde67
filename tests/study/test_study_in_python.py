"""Study without Ray: what it takes, what it refuses, and what it says of a folder that is there."""

import ast
import json
import re
import subprocess
import sys
import threading
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from rich.console import Console

import study
from study import Study, presets, results_folder
from study.results_folder import StudyFolder
from study.stages import study as in_python
from study.stages.study import Best
from tests.documents import PAGES
from tests.study.results import reopened


def test_importing_study_takes_no_library_and_study_is_found_late():
    code = "import sys, study; assert not {'torch', 'ray', 'optuna'} & set(sys.modules); study.Nothing"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=results_folder.ROOT)
    assert done.stderr.strip().endswith("AttributeError: module 'study' has no attribute 'Nothing'")
    assert study.Study is in_python.Study


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"trails": 3}, "a study has no 'trails'; did you mean trials"),
        ({"trials": "3"}, "trials is '3'; it must be int"),
        ({"trials": True}, "trials is True; it must be int"),
        ({"sampler": "best"}, "sampler is 'best'; it must be Literal"),
        ({"trials": 0}, "--trials is 0; it must be above zero"),
        ({"set": {"lrr": 1}}, "hyperparameter 'lrr' is unknown"),
        ({"metric": "mIoU"}, "'mIoU' is unknown"),
        ({"plugins": "/nowhere"}, "there is no such folder"),
    ],
)
def test_a_mistake_is_a_line(flags, says):
    with pytest.raises(ValueError, match=says) as caught:
        Study("space", **flags)
    assert "\n" not in str(caught.value)


def test_the_studies_that_the_pages_make_in_python_can_be_made(tmp_path):
    """Their models, hyperparameters and ranges are there, and no note is needed, as of a range without the base."""
    made = []
    for page in PAGES:
        for block in re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
            for call in (node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Call)):
                if isinstance(call.func, ast.Name) and call.func.id == "Study":
                    words = {word.arg: ast.literal_eval(word.value) for word in call.keywords}
                    made.append(Study(*map(ast.literal_eval, call.args), results=tmp_path, **words))
    assert made
    for one in made:
        assert not presets.resolve(one._config, has_gpu=False).expected_proposal().notes


def test_flags_are_taken_as_python_has_them(tmp_path):
    space = {"fg_lr": "1e-4..1e-2", "batch_size": [16, 32]}
    made = Study("space", results=tmp_path, space=space, from_=tmp_path, hours=1, set={"sigma": 0.1}, log="mlflow")
    config = made._config
    assert config.space == ["batch_size=16,32", "fg_lr=0.0001..0.01"] and config.from_ == [str(tmp_path)]
    assert config.hours == 1 and config.set == {"sigma": 0.1} and config.log == ["mlflow"]
    assert made.folder == tmp_path / "space-synthetic-0.2+siblings-tiny"
    with pytest.raises(ValueError, match=r"holds no study\.json"):
        made.trials()
    with pytest.raises(ValueError, match=r"has no winner yet; run the study to its end: run\(\)"):
        made.best()


def test_a_study_that_is_there_is_opened_and_shown(results_folder, monkeypatch):
    record = json.loads((results_folder / "study.json").read_text())
    record["config"]["set"] = {"fg_lr": 1e-3}  # the folder's own is made up
    (results_folder / "study.json").write_text(json.dumps(record))
    (results_folder / "best.json").write_text(json.dumps({**WON, "values": {"11": 0.6, "12": None}}))
    opened = Study.open(results_folder)
    assert opened._config.trials == 9 and opened._config.seed == 3 and opened.folder == results_folder
    assert opened._config.set == {"fg_lr": 1e-3}
    trials = opened.trials()
    assert isinstance(trials, pd.DataFrame) and len(trials) == 9 and trials["state"][0] == "COMPLETE"
    assert trials["value"][0] == trials["value"].max() and "params_lr" in trials
    assert opened.best() == Best(results_folder, "trial_0002", {"lr": 0.1}, "mIoU_fg", 0.6, {11: 0.6})
    (results_folder / "report.html").unlink(missing_ok=True)
    assert opened.report() == results_folder / "report.html" and opened.report().is_file()
    assert repr(opened) == f"<Study of space on synthetic:0.2+siblings, 9 trials, {results_folder}>"
    monkeypatch.chdir(results_folder.parent)
    assert repr(opened).endswith(f"9 trials, {results_folder.name}>")
    assert Study.open(results_folder, trials=12)._config.trials == 12
    for _ in range(3):
        reopened(results_folder).enqueue_trial({})
    assert Study.open(results_folder)._config.trials == 9, "what --from has proposed has not begun"
    monkeypatch.setattr(in_python.importlib.util, "find_spec", lambda name: None)
    assert isinstance(opened.trials(), pa.Table)


WON = {"entry": "trial_0002", "trial": 2, "model": "space", "image_size": 32, "step": 400, "seed": 11}
WON |= {"hyperparameters": {"lr": 0.1}, "metric": "mIoU_fg", "value": 0.6}


@pytest.fixture
def stages_run(monkeypatch, tmp_path):
    """``stages.run`` is replaced: the tests look at what surrounds it. Its arguments; its result may be exchanged."""
    given = []

    def run(config, console):
        given.append(config)
        if isinstance(outcome[0], BaseException):
            raise outcome[0]
        return Path(outcome[0])

    outcome = [tmp_path / "results" / "a"]
    monkeypatch.setattr(in_python.stages, "run", run)
    return given, outcome


def test_what_a_run_changes_stays_but_for_what_concerns_one_run_or_was_refused(stages_run, tmp_path):
    given, outcome = stages_run
    made = Study("space", results=tmp_path, trials=2, console=Console(quiet=True))
    assert made.run(fresh=True) is made and made.run(trials=4) is made
    assert [(one.trials, one.fresh) for one in given] == [(2, True), (4, False)]
    outcome[0] = ValueError("study a exists with another configuration")
    with pytest.raises(ValueError, match="exists with another"):
        made.run(seed=7)
    outcome[0] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        made.run(trials=6)
    outcome[0] = tmp_path
    made.run()
    assert [(one.trials, one.seed) for one in given[2:]] == [(4, 7), (6, 0), (6, 0)]


def test_a_thread_cannot_run_a_study(tmp_path):
    made, caught = Study("space", results=tmp_path), []

    def run():
        try:
            made.run()
        except ValueError as error:
            caught.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert caught == ["a study runs in the main thread, where Ctrl-C arrives; call run() there"]
    assert not any(StudyFolder(path).is_running() for path in tmp_path.iterdir())
