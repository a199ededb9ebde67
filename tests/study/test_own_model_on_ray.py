"""A model and a data set of one's own, in a folder on PYTHONPATH: a whole study of CONTRIBUTING.md's examples."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = ("trainables/colour_field.py", "search_spaces/colour_field.py", "data/sources/squares.py")


@pytest.mark.ray
def test_a_study_of_a_model_and_scenes_that_lie_outside_the_checkout(tmp_path: Path) -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for path in FILES:
        code = re.search(rf"^`{path}`.*?```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        assert code, f"CONTRIBUTING.md shows no {path}"
        (tmp_path / "mine" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / path).write_text(code[1])
    for name in ("data.py", "study.py"):  # workers look in the working directory first
        (tmp_path / name).write_text(f"raise SystemExit('a person's own {name}')")
    command = [Path(sys.executable).with_name("clevrtune"), "run", "--model", "colour_field", "--data", "squares"]
    command += "--trials 1 --steps 6 --reports 3 --seeds 1 --results results --cache cache".split()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "mine")}
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    (study,) = (tmp_path / "results").iterdir()
    entries = set(pq.read_table(study / "evaluation.parquet")["entry"].to_pylist())
    assert "base" in {entry.partition("_")[0] for entry in entries} or "trial_0000" in entries
