"""What a node answers about its packages; tests/study/test_submit.py asks a real head."""

import subprocess
import sys

from study.cluster import job_package, job_python


def test_the_code_names_what_is_missing_and_which_python_lacks_it():
    words = [sys.executable, "-c", job_python.CODE]
    run = subprocess.run([*words, "ray", "no-such-package", "another-one"], capture_output=True, text=True)
    assert run.returncode == 1 and run.stderr == ""
    assert run.stdout == f"{job_python.LACKS}no-such-package, another-one ({sys.executable})\n"
    assert subprocess.run([*words, "ray"], capture_output=True).returncode == 0


def test_all_that_a_study_imports_is_asked_for_and_extras_are_not():
    assert {"ray", "torch", "optuna", "cyclopts", "safetensors"} <= set(job_package.needed())
    assert not {"plotly", "cmaes"} & set(job_package.needed())
